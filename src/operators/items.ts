/** The items of a cause: what waits because of it, a page at a time, and how many there are. */
import { type Cause, causeOfLetter, type ItemKind, type ServiceName } from '../causes.ts'
import {
  counted,
  countUpTo,
  type ItemRow,
  listCheckouts,
  listEvents,
  listLetters,
  listPayments,
  listProductsOf,
  type ProductCause,
} from '../db/items-of-cause.ts'
import type { Pool } from '../db/pool.ts'
import { type DeadLetterFault, MAX_INTEGER } from '../model.ts'
import { checkoutJobId } from '../queues/checkout.ts'
import { paymentJobId } from '../queues/payment.ts'
import { within } from '../within.ts'
import { BadQuery } from './order-query.ts'
import type { Item } from './orders.ts'
import type { Count } from './problems.ts'

/** When delayed jobs of a queue run next. May throw, or take long: then the next tries are unknown. */
export type NextRuns = (queue: 'checkout' | 'payment', jobIds: readonly string[]) => Promise<(Date | undefined)[]>

/** `service: null` includes all services. */
export interface ItemQuery {
  cause: Cause
  service: ServiceName | null
}

/** A part of a list: items of one kind. */
interface Part {
  kind: ItemKind
  list(pool: Pool, after: number, limit: number): Promise<readonly ItemRow[]>
  count: ReturnType<(typeof counted)[keyof typeof counted]>
}

const isOfProduct = (cause: Cause): cause is ProductCause =>
  cause === 'product-unreconciled' || cause === 'product-oversold' || cause === 'product-ambiguous'

/** Payments come before checkouts of the same cause: they are paid. */
function partsOf({ cause, service }: ItemQuery): Part[] {
  const faults = (Object.keys(causeOfLetter) as DeadLetterFault[]).filter((fault) => causeOfLetter[fault] === cause)
  if (faults.length > 0)
    return [{ kind: 'letter', list: (pool, after, limit) => listLetters(pool, faults, after, limit), count: counted.letters(faults) }]
  if (isOfProduct(cause))
    return [{ kind: 'product', list: (pool, after, limit) => listProductsOf(pool, cause, after, limit), count: counted.products(cause) }]
  if (cause === 'event-undeliverable') return [{ kind: 'event', list: listEvents, count: counted.events() }]
  const what = { cause, service }
  return [
    { kind: 'payment', list: (pool, after, limit) => listPayments(pool, what, after, limit), count: counted.payments(what) },
    { kind: 'checkout', list: (pool, after, limit) => listCheckouts(pool, what, after, limit), count: counted.checkouts(what) },
  ]
}

/** Before all ids. */
const FIRST = -1

/** @throws BadQuery */
function readPosition(text: string | undefined, parts: readonly Part[]): { from: number; after: number } {
  if (text === undefined) return { from: 0, after: FIRST }
  const [kind, id] = text.split(':')
  const from = parts.findIndex((part) => part.kind === kind)
  const most = parts[from]?.kind === 'checkout' || parts[from]?.kind === 'product' ? MAX_INTEGER : Number.MAX_SAFE_INTEGER
  if (from < 0 || !/^\d{1,15}$/.test(id ?? '') || Number(id) > most)
    throw new BadQuery(`After: ${JSON.stringify(text.slice(0, 40))} is not the end of a page of this list`)
  return { from, after: Number(id) }
}

/** The time limit of Redis for a page of items: without it, their next tries are unknown. */
const NEXT_RUN_MS = 500

/**
 * The one that has waited the longest comes first; payments before open checkouts.
 * @param options `after`: the `next` of the page before; `nextRuns`: without it, the next tries are unknown
 * @throws BadQuery where `after` is of no page of this list
 */
export async function listItems(
  pool: Pool,
  { after: text, limit, nextRuns, ...query }: ItemQuery & { after?: string | undefined; limit: number; nextRuns?: NextRuns | undefined },
): Promise<{ items: Item[]; next: string | null }> {
  const parts = partsOf(query)
  const { from, after } = readPosition(text, parts)
  const items: Item[] = []
  for (const [i, { kind, list }] of parts.entries()) {
    if (i < from || items.length > limit) continue
    const rows = await list(pool, i === from ? after : FIRST, limit + 1 - items.length)
    items.push(...rows.map((row) => itemOf(kind, row)))
  }
  const page = items.slice(0, limit)
  return { items: await withNextTries(page, nextRuns), next: items.length > limit ? `${page.at(-1)!.kind}:${page.at(-1)!.id}` : null }
}

const itemOf = (kind: ItemKind, { id, order_id: orderId, since, attempts, evidence }: ItemRow): Item => ({
  kind,
  id,
  orderId,
  since,
  attempts,
  evidence,
  nextTryAt: null,
})

async function withNextTries(items: Item[], nextRuns: NextRuns | undefined): Promise<Item[]> {
  if (!nextRuns) return items
  const jobs = items.flatMap(({ kind, id }, at) => (kind === 'payment' || kind === 'checkout' ? [{ kind, id, at }] : []))
  const known = [...items]
  const read = async (queue: 'checkout' | 'payment', jobId: (id: number) => string) => {
    const mine = jobs.filter(({ kind }) => kind === queue)
    const runs = await nextRuns(
      queue,
      mine.map(({ id }) => jobId(id)),
    )
    for (const [i, { at }] of mine.entries()) known[at] = { ...items[at]!, nextTryAt: runs[i] ?? null }
  }
  await within(NEXT_RUN_MS, Promise.all([read('checkout', checkoutJobId), read('payment', paymentJobId)])).catch(() => {})
  return known
}

/** Cheap: counts no more than `limit`. */
export async function countItems(pool: Pool, query: ItemQuery, limit: number): Promise<Omit<Count, 'of'>> {
  const n = await countUpTo(
    pool,
    partsOf(query).map(({ count }) => count),
    limit,
  )
  return { n: Math.min(n, limit), isMore: n > limit }
}
