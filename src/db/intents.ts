/** Starts a checkout. The intent is written before any other step, and claims the customer's idempotency key. */
import { sql } from 'slonik'
import { z } from 'zod'
import { batcher } from '../batcher.ts'
import type { Clock } from '../clock.ts'
import { type Intent, isKeyOfCart, type ProductQty, productsOf } from '../model.ts'
import type { CallIds } from './call-ids.ts'
import { isDrained } from './drain.ts'
import { LOCKED, untilUnlocked } from './locked.ts'
import { alone, isRefusal, nothing, type Pool } from './pool.ts'
import { releaseCalls } from './stock-calls.ts'

/** The live checkout that holds a customer's idempotency key. */
export interface Claim {
  orderId: number
  requestHash: string
  state: 'OPEN' | 'CREATED'
  totalCents: number
  currency: string
  deadlineAt: Date
}

/** The leases on all products of a new checkout, for its reserve call. */
export interface Lease {
  callId: number
  /** Epoch ms, by PostgreSQL's clock. */
  expiresAt: number
}

export interface NewIntent {
  claim: 'new'
  orderId: number
  deadlineAt: Date
  products: ProductQty[]
  /** undefined if another call has one of the products, or a product is new to this service. The checkout then waits in a worker. */
  lease: Lease | undefined
}

/** `drained`: an operator has drained the service, and nothing was written. */
export type Intended = NewIntent | ({ claim: 'taken' } & Claim) | { claim: 'drained' }

const claimFields = {
  order_id: z.int(),
  request_hash: z.string(),
  state: z.enum(['OPEN', 'CREATED']),
  total_cents: z.int(),
  currency: z.string(),
  deadline_at: z.date(),
}
const claimRow = z.object(claimFields)
const intentRow = z.union([
  z.object({ outcome: z.literal('inserted'), order_id: z.int(), deadline_at: z.date() }),
  z.object({ outcome: z.enum(['existing', 'duplicate_in_batch']), ...claimFields }),
  z.object({ outcome: z.literal('raced') }),
  z.object({ outcome: z.literal('drained') }),
])

// Created once: creating the schema takes longer than parsing a row with it.
const insertedRow = intentRow.and(z.object({ lease_expires_at: z.date().nullable() }))

const claimOf = (row: z.infer<typeof claimRow>): Claim => ({
  orderId: row.order_id,
  requestHash: row.request_hash,
  state: row.state,
  totalCents: row.total_cents,
  currency: row.currency,
  deadlineAt: row.deadline_at,
})

export interface Intents {
  /** Writes the intent, or returns the checkout that holds its key, or `drained`. Times are by PostgreSQL's clock. */
  intend(intent: Intent): Promise<Intended>
  /** @returns the OPEN or CREATED checkout with this key, or undefined */
  findClaim(userEmail: string, idempotencyKey: string): Promise<Claim | undefined>
}

interface NumberedIntent extends Intent {
  callId: number
}

export interface IntentOptions {
  callIds: CallIds
  /** Duration of a call's leases, in ms. */
  leaseMs: number
  clock: Pick<Clock, 'now' | 'databaseTime' | 'sleep'>
  /** How long an order keeps a key derived from its cart, in ms from the start of its checkout. */
  duplicateWindowMs: number
}

/** Intents that arrive together are written in one statement. */
export function createIntents(pool: Pool, { callIds, leaseMs, clock, duplicateWindowMs }: IntentOptions): Intents {
  const insert = batcher((batch: NumberedIntent[]) => alone(batch, (rows) => insertIntents(pool, rows, leaseMs)))

  const findClaim: Intents['findClaim'] = async (userEmail, idempotencyKey) => {
    const row = await pool.maybeOne(sql.prepared('find-claim', claimRow)`
      select order_id, request_hash, state, total_cents, currency, deadline_at
      from order_service.checkouts
      where user_email = ${userEmail} and idempotency_key = ${idempotencyKey}`)
    return row ? claimOf(row) : undefined
  }

  /** After the duplicate window of an order, the same cart makes another order. */
  const isOver = ({ state, deadlineAt }: Claim, { idempotencyKey, budgetMs }: Intent) =>
    state === 'CREATED' && isKeyOfCart(idempotencyKey) && deadlineAt.getTime() - budgetMs + duplicateWindowMs <= clock.databaseTime()

  return {
    findClaim,
    async intend(intent) {
      const callId = await callIds()
      const products = productsOf(intent.lines)
      for (;;) {
        // A statement without an answer may have been carried out. Its call was never sent, so its leases can be released at once.
        const row = await insert({ ...intent, callId }).catch((error: unknown) => {
          if (!isRefusal(error))
            void releaseCalls(pool, [{ callId, productIds: products.map(({ productId }) => productId) }]).catch(() => {})
          throw error
        })
        if (row.outcome === 'inserted') {
          const expiresAt = row.lease_expires_at?.getTime()
          const lease = expiresAt === undefined ? undefined : { callId, expiresAt }
          return { claim: 'new', orderId: row.order_id, deadlineAt: row.deadline_at, products, lease }
        }
        if (row.outcome === 'drained') return { claim: 'drained' }
        // Another transaction claimed the key after this statement's snapshot. The next statement sees its row, unless it has ended.
        const claim = row.outcome === 'raced' ? await findClaim(intent.userEmail, intent.idempotencyKey) : claimOf(row)
        if (claim && !isOver(claim, intent)) return { claim: 'taken', ...claim }
        if (claim) await untilUnlocked(clock, `checkout ${claim.orderId}`, () => freeKeyOfCart(pool, claim.orderId))
      }
    },
  }
}

/** Does nothing if another repeat has freed the key already. @returns LOCKED if another session has locked the row */
async function freeKeyOfCart(pool: Pool, orderId: number): Promise<typeof LOCKED | undefined> {
  const { rowCount } = await pool.query(sql.prepared('free-key-of-cart', nothing)`
    with it as materialized (
      select order_id from order_service.checkouts where order_id = ${orderId} for update skip locked
    ), cleared as (
      update order_service.checkouts set idempotency_key = null
      where order_id = any(array(select order_id from it)) and starts_with(idempotency_key, 'cart ')
    )
    select from it`)
  return rowCount === 0 ? LOCKED : undefined
}

function inputOf(batch: readonly NumberedIntent[]): string {
  const asked = new Set<number>()
  const rows = batch.map((intent, ord) => {
    const productIds = intent.lines.map((line) => line.product_id)
    const asks = productIds.every((id) => !asked.has(id))
    for (const id of productIds) asked.add(id)
    return {
      ord,
      user_email: intent.userEmail,
      idempotency_key: intent.idempotencyKey,
      request_hash: intent.requestHash,
      lines: intent.lines,
      address: intent.address,
      total_cents: intent.totalCents,
      budget_ms: intent.budgetMs,
      call_id: intent.callId,
      asks,
    }
  })
  return JSON.stringify(rows)
}

/** Claims the keys. Rows are inserted in the order of their keys, so that two batches cannot deadlock. */
const claimKeys = (input: string) => sql.fragment`
  inp as materialized (
    select * from jsonb_to_recordset(${input}::jsonb) as t (ord int, user_email text, idempotency_key text, request_hash text, lines jsonb,
      address jsonb, total_cents bigint, budget_ms int, call_id bigint, asks boolean)
  ), old as (
    select i.ord, c.* from inp i cross join lateral (
      select order_id, state, request_hash, total_cents, currency, deadline_at from order_service.checkouts c
      where c.user_email = i.user_email and c.idempotency_key = i.idempotency_key limit 1) c
  ), fresh as materialized (
    select distinct on (user_email, idempotency_key) i.* from inp i
    where not ${isDrained} and not exists (select from old where old.ord = i.ord)
    order by user_email, idempotency_key, ord
  ), num as materialized (
    select f.*, nextval('public.orders_id_seq')::int as order_id from (select * from fresh order by ord) f
  ), ins as materialized (
    insert into order_service.checkouts
      (order_id, user_email, idempotency_key, request_hash, lines, address, total_cents, deadline_at, call_id)
    select order_id, user_email, idempotency_key, request_hash, lines, address, total_cents,
      clock_timestamp() + budget_ms * interval '1 ms', call_id
    from num order by user_email, idempotency_key
    on conflict (user_email, idempotency_key) do nothing
    returning order_id, user_email, idempotency_key, request_hash, state, total_cents, currency, deadline_at, call_id, lines
  )`

/**
 * Leases all products of a checkout when its row is inserted, or none if one of them is not free. If two checkouts of a batch share a
 * product, only the first requests leases. A checkout whose key was already claimed gets no leases.
 *
 * A product is not free while a call on it is unanswered and unchecked: a check that could not read Catalog has released the lease. One
 * read cannot explain two such calls. A commit of 1 and a reserve of 2 would look like 1 hold without an order.
 */
const leaseProducts = (leaseMs: number) => sql.fragment`
  want as materialized (
    select ins.call_id, l.product_id, sum(l.qty) as qty
    from ins join inp using (call_id) cross join lateral jsonb_to_recordset(ins.lines) as l (product_id int, qty int)
    where inp.asks group by ins.call_id, l.product_id
  ), free as materialized (
    select product_id from order_service.products p
    where product_id = any(array(select product_id from want)) and call_id is null and expected_stock is not null
      and (wanted_by is null or wanted_until < clock_timestamp())
      and not exists (select from order_service.unanswered_calls u where u.product_id = p.product_id and u.found is null)
    order by product_id for no key update of p skip locked
  ), got as materialized (
    select call_id, clock_timestamp() + ${leaseMs}::float8 * interval '1 ms' as expires_at
    from want left join free using (product_id) group by call_id having bool_and(free.product_id is not null)
  ), leased as (
    update order_service.products p
    set call_id = w.call_id, call_verb = 'reserve', call_qty = w.qty, call_expires_at = got.expires_at, updated_at = now()
    from want w join got using (call_id)
    where p.product_id = w.product_id and p.product_id = any(array(select product_id from free))
  )`

async function insertIntents(pool: Pool, batch: readonly NumberedIntent[], leaseMs: number): Promise<z.infer<typeof insertedRow>[]> {
  const rows = await pool.any(sql.prepared('intend', insertedRow)`
    with ${claimKeys(inputOf(batch))}, ${leaseProducts(leaseMs)}
    select
      case when o.order_id is not null then 'existing' when n.ord = i.ord then 'inserted' when s.order_id is not null then 'duplicate_in_batch'
        when ${isDrained} then 'drained' else 'raced' end as outcome,
      coalesce(o.order_id, s.order_id) as order_id, coalesce(o.state, s.state) as state,
      coalesce(o.request_hash, s.request_hash) as request_hash, coalesce(o.total_cents, s.total_cents) as total_cents,
      coalesce(o.currency, s.currency) as currency, coalesce(o.deadline_at, s.deadline_at) as deadline_at,
      got.expires_at as lease_expires_at
    from inp i
    left join old o on o.ord = i.ord
    left join ins s on s.user_email = i.user_email and s.idempotency_key = i.idempotency_key
    left join num n on n.order_id = s.order_id
    left join got on got.call_id = i.call_id
    order by i.ord`)
  return [...rows]
}
