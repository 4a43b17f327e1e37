/** Pays orders, in batches: reads the order of a payment event, and makes orders PAID. */
import { sql } from 'slonik'
import { v7 as uuidv7 } from 'uuid'
import { z } from 'zod'
import { batcher } from '../batcher.ts'
import type { Clock } from '../clock.ts'
import type { ProductQty } from '../model.ts'
import { LOCKED } from './locked.ts'
import type { RelayHere } from './outbox.ts'
import type { PaymentAttempt } from './payment-events.ts'
import { alone, type Pool, type Transaction } from './pool.ts'
import { int8s, productsOfCalls, recordCalls } from './stock-calls.ts'
import { batchAroundLocks } from './batch-around-locks.ts'

/** A payment event and the order that it names. */
export interface Payable {
  orderId: number
  amountCents: number | null
  currency: string | null
  /** Time since it was received or replayed, by PostgreSQL's clock, in ms. */
  waitedMs: number
  /** The message's timestamp. */
  sentAt: Date
  order: { status: string; totalCents: number; currency: string; products: ProductQty[] } | undefined
  /** The state of the checkout with this id. undefined if there is none, for example for orders of the predecessor. */
  checkout: 'OPEN' | 'CREATED' | 'REJECTED' | 'CANCELLED' | undefined
  /** Another payment, with another id, was already applied to this order. */
  paidByAnother: boolean
}

/** A commit call that Catalog carried out, with its payments. */
export interface Committed {
  callId: number
  productIds: readonly number[]
  members: readonly { eventId: number; products: readonly ProductQty[] }[]
}

/** The payments that paid their orders, and the products whose rows are locked. The changes of those products are applied later. */
export interface CommitRecorded {
  eventIds: number[]
  missedProducts: number[]
}

export interface Payments {
  /** @returns undefined if the event no longer waits, or another attempt drives it */
  read(attempt: PaymentAttempt): Promise<Payable | undefined>
  /** Order CREATED -> PAID, event WAITING -> APPLIED, for the payments that still wait and still belong to the call. */
  recordPaid(call: Committed): Promise<CommitRecorded>
}

const payableRow = z.object({
  id: z.int(),
  attempt: z.int(),
  order_id: z.int(),
  amount_cents: z.int().nullable(),
  currency: z.string().nullable(),
  waited_ms: z.number(),
  sent_at: z.date(),
  status: z.string().nullable(),
  total_cents: z.int().nullable(),
  order_currency: z.string().nullable(),
  products: z.array(z.object({ productId: z.int(), qty: z.int() })).nullable(),
  checkout: z.enum(['OPEN', 'CREATED', 'REJECTED', 'CANCELLED']).nullable(),
  paid_by_another: z.boolean(),
})
const paidRow = z.object({ is_locked: z.boolean(), event_ids: z.array(z.int()), missed_products: z.array(z.int()) })

/**
 * No customer waits for a payment. Three times the patience of a checkout makes batches of 60 at 2,400 payments a second, instead of 20.
 */
const CROWDED = { paceMs: 25, enough: 128, inflight: 1 }

/** One statement at a time: customers need the other connections. */
const RECORDS = { paceMs: 8, inflight: 1 }

const idsOf = (batch: readonly PaymentAttempt[]) =>
  sql.array(
    batch.map(({ eventId }) => eventId),
    'int8',
  )
const attemptsOf = (batch: readonly PaymentAttempt[]) =>
  JSON.stringify(batch.map(({ eventId, attempt }) => ({ event_id: eventId, attempt })))

/** @param emitPaid whether the same statement writes `order.paid` to the outbox */
export function createPayments(
  pool: Pool,
  { clock, emitPaid, relay }: { clock: Clock; emitPaid: boolean; relay: RelayHere | undefined },
): Payments {
  // Matched by event and attempt: a batch may contain an old attempt of an event and the attempt that replaced it.
  const read = batcher(
    (batch: PaymentAttempt[]) =>
      alone(batch, async (attempts) => {
        const found = await readPayables(pool, attempts)
        return attempts.map(({ eventId, attempt }) => found.find((row) => row.id === eventId && row.attempt === attempt))
      }),
    CROWDED,
  )
  const recordPaidCalls = batchAroundLocks(
    clock,
    async (batch: readonly Committed[], isPatient) => {
      const notify = emitPaid && !relay?.leads()
      const recorded = await recordPaid(pool, batch, { isPatient, emitPaid, notify })
      if (emitPaid && !notify) relay?.wake()
      return recorded
    },
    RECORDS,
  )
  return {
    async read(attempt) {
      const row = await read(attempt)
      return row && payableOf(row)
    },
    recordPaid: recordPaidCalls,
  }
}

function payableOf(row: z.infer<typeof payableRow>): Payable {
  return {
    orderId: row.order_id,
    amountCents: row.amount_cents,
    currency: row.currency,
    waitedMs: row.waited_ms,
    sentAt: row.sent_at,
    order:
      row.status === null
        ? undefined
        : { status: row.status, totalCents: row.total_cents!, currency: row.order_currency!, products: row.products ?? [] },
    checkout: row.checkout ?? undefined,
    paidByAnother: row.paid_by_another,
  }
}

/** Products are in the order of their ids, with the quantities of one product added up. */
async function readPayables(pool: Pool, batch: PaymentAttempt[]) {
  return pool.any(sql.prepared('read-payables', payableRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${attemptsOf(batch)}::jsonb) as t (event_id bigint, attempt int)
    )
    select e.id, e.attempt, e.order_id, e.amount_cents, e.currency, e.sent_at,
      (extract(epoch from clock_timestamp() - e.waiting_since) * 1000)::float8 as waited_ms,
      o.status, o.total_cents, o.currency as order_currency, c.state as checkout,
      (select jsonb_agg(jsonb_build_object('productId', i.product_id, 'qty', i.qty) order by i.product_id)
        from (select product_id, sum(qty) as qty from public.order_items where order_id = o.id group by product_id) i) as products,
      e.payment_id is not null and exists (
        select from order_service.payment_events b
        where b.order_id = e.order_id and b.state = 'APPLIED' and b.result in ('paid', 'already-paid')
          and (b.payment_id <> e.payment_id or b.provider <> e.provider)) as paid_by_another  -- one that names no provider may be any
    from order_service.payment_events e join inp on inp.event_id = e.id and inp.attempt = e.attempt
    left join public.orders o on o.id = e.order_id
    left join order_service.checkouts c on c.order_id = e.order_id
    where e.id = any(${idsOf(batch)}) and e.state = 'WAITING'`)
}

/**
 * Locks events, then orders, then products. If two events name one order, the first pays it; the other finds it PAID at its next try.
 * The units of a payment that no longer waits, or whose rows are locked, are given back to Catalog.
 * @param isPatient record nothing if another session has locked a row of one of the payments
 * @returns LOCKED if a row is locked and `isPatient`
 */
export async function recordPaid(
  db: Pool | Transaction,
  calls: readonly Committed[],
  { isPatient, emitPaid, notify }: { isPatient: boolean; emitPaid: boolean; notify: boolean },
): Promise<CommitRecorded | typeof LOCKED> {
  const parts = productsOfCalls(calls)
  const items = JSON.stringify(
    calls.flatMap(({ callId: call_id, members }) =>
      members.flatMap(({ eventId: event_id, products }) =>
        products.map(({ productId: product_id, qty }) => ({ call_id, event_id, product_id, qty })),
      ),
    ),
  )
  const eventIds = calls.flatMap(({ members }) => members.map(({ eventId }) => eventId))
  const inCalls = JSON.stringify(
    calls.flatMap(({ callId: call_id, members }) =>
      members.map(({ eventId: event_id, products }) => ({ call_id, event_id, is_empty: products.length === 0 })),
    ),
  )
  const messages = JSON.stringify(eventIds.map((event_id) => ({ event_id, message_id: uuidv7() })))
  const row = await db.one(sql.prepared('record-paid', paidRow)`
    with item as materialized (
      select * from jsonb_to_recordset(${items}::jsonb) as t (call_id bigint, event_id bigint, product_id int, qty bigint)
    ), event as materialized (
      select id, order_id, call_id, state from order_service.payment_events
      where id = any(${int8s(eventIds)}) order by id for no key update skip locked
    ), ordered as materialized (
      select id, status from public.orders where id = any(array(select order_id from event)) order by id for no key update skip locked
    ), whole as materialized (
      select not ${isPatient} or (select count(*) from event join ordered o on o.id = order_id) = ${eventIds.length}::int as is_whole
    ), part as materialized (
      select * from jsonb_to_recordset(${parts}::jsonb) as t (call_id bigint, product_id int) where (select is_whole from whole)
    ), counted as materialized (  -- an order without items is in no call
      select distinct on (e.order_id) e.id as event_id, e.order_id, e.call_id
      from event e join ordered o on o.id = e.order_id
      join jsonb_to_recordset(${inCalls}::jsonb) as m (call_id bigint, event_id bigint, is_empty boolean)
        on m.event_id = e.id and (m.call_id = e.call_id or m.is_empty)
      where e.state = 'WAITING' and o.status = 'CREATED' and (select is_whole from whole)
      order by e.order_id, e.id
    ), paid as (
      update public.orders set status = 'PAID', updated_at = now() at time zone 'utc'
      where id = any(array(select order_id from counted))
      returning id, user_email, total_cents, currency
    ), announced as (
      insert into order_service.outbox (event_id, order_id, type, payload)
      select m.message_id, p.id, 'order.paid', jsonb_build_object(
        'type', 'order.paid', 'order_id', p.id, 'user_email', p.user_email, 'amount_cents', p.total_cents, 'currency', p.currency,
        'event_id', m.message_id, 'version', 1,
        'timestamp', to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
      from paid p join counted c on c.order_id = p.id
      join jsonb_to_recordset(${messages}::jsonb) as m (event_id bigint, message_id uuid) on m.event_id = c.event_id
      where ${emitPaid}::bool
    ), applied as (
      update order_service.payment_events
      set state = 'APPLIED', result = 'paid', last_error = null, touched_at = clock_timestamp()
      where id = any(array(select event_id from counted))
      returning id
    ), share as materialized (
      select i.call_id, i.product_id, -sum(i.qty)::bigint as held, -sum(i.qty)::bigint as expected_stock
      from item i join counted c using (call_id, event_id) group by i.call_id, i.product_id
    ), ${recordCalls(calls.flatMap((call) => call.productIds))}
    select not (select is_whole from whole) as is_locked, array(select id from applied) as event_ids,
      array(select product_id from late) as missed_products, case when ${notify}::bool then pg_notify('order_outbox', '')::text end as notified`)
  return row.is_locked ? LOCKED : { eventIds: row.event_ids, missedProducts: row.missed_products }
}
