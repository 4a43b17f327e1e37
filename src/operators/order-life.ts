/** The life of one order: what happened when, where it stands, and what can help now. */
import { readOrderRecords, type OrderRecords } from '../db/order-records.ts'
import type { Pool } from '../db/pool.ts'
import { checkoutJobId } from '../queues/checkout.ts'
import { paymentJobId } from '../queues/payment.ts'
import { within } from '../within.ts'
import { actionsOf, summaryOf, type Planned } from './order-summary.ts'
import type { OrderLife } from './orders.ts'
import { timelineOf } from './order-timeline.ts'

/** When a job of a queue runs next (`nextRun`). May throw, or take long: then the next try is unknown. */
export type NextRun = (queue: 'checkout' | 'payment', jobId: string) => Promise<Date | 'now' | undefined>

export interface LifeOptions {
  nextRun?: NextRun | undefined
  /** Where the events of orders go (`TOPIC_ORDER_EVENTS`). */
  eventTopic: string
}

/** Redis may be away: the page is needed just then. */
const NEXT_RUN_MS = 500

/** @param orderId must fit into PostgreSQL's `integer` */
export async function readOrderLife(pool: Pool, orderId: number, options: LifeOptions): Promise<OrderLife | undefined> {
  const records = await readOrderRecords(pool, orderId)
  if (!records) return undefined
  const { order, checkout, payments } = records
  const planned = await readPlanned(orderId, records, options.nextRun)
  const waiting = payments.findLast(({ state }) => state === 'WAITING')
  const failed = waiting?.cause ? waiting : checkout && checkout.state !== 'CREATED' ? checkout : undefined
  const facts = { orderId, records, planned, now: new Date(), eventTopic: options.eventTopic }
  return {
    orderId,
    state: order?.status ?? checkout!.state,
    email: order?.email ?? checkout!.email,
    totalCents: order?.total_cents ?? checkout!.total_cents,
    currency: order?.currency ?? checkout!.currency,
    createdAt: order?.created_at ?? checkout!.created_at,
    cause: failed?.cause ?? null,
    service: failed?.service ?? null,
    idempotencyKey: checkout?.idempotency_key?.startsWith('cart ') ? null : (checkout?.idempotency_key ?? null),
    summary: summaryOf(facts),
    lines: order?.lines ?? checkout!.lines,
    address: checkout?.address ?? null,
    deadlineAt: checkout?.deadline_at ?? null,
    prunedAt: checkout?.pruned_at ?? null,
    timeline: timelineOf(facts),
    actions: actionsOf(facts),
  }
}

/** The next try of what is under way. */
async function readPlanned(orderId: number, { checkout, payments }: OrderRecords, nextRun: NextRun | undefined): Promise<Planned> {
  const ask = async (queue: 'checkout' | 'payment', jobId: string) => {
    if (!nextRun) return 'unknown'
    return within(NEXT_RUN_MS, nextRun(queue, jobId)).catch(() => 'unknown' as const)
  }
  const waiting = payments.filter(({ state }) => state === 'WAITING').slice(0, 10)
  const [ofCheckout, ...ofPayments] = await Promise.all([
    checkout?.state === 'OPEN' ? ask('checkout', checkoutJobId(orderId)) : undefined,
    ...waiting.map(({ id }) => ask('payment', paymentJobId(id))),
  ])
  return { checkout: ofCheckout, payments: new Map(waiting.map(({ id }, i) => [id, ofPayments[i]])) }
}
