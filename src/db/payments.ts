/** Paying an order: what a payment event is held against, and the transaction that makes the order PAID. Batched, rows locked in the order of their ids. */
import { sql } from 'slonik'
import { v7 as uuidv7 } from 'uuid'
import { z } from 'zod'
import { batcher } from '../batcher.ts'
import type { ProductQty } from '../model.ts'
import type { ProductAtIntent } from './intents.ts'
import type { RelayHere } from './outbox.ts'
import type { PaymentAttempt } from './payment-events.ts'
import { alone, type Pool } from './pool.ts'

/** A payment event beside the order that it names. */
export interface Payable {
  orderId: number
  amountCents: number | null
  currency: string | null
  /** How long it has waited, by PostgreSQL's clock, in ms: since it was received, or replayed. */
  waitedMs: number
  /** The message's own time. */
  sentAt: Date
  order: { status: string; totalCents: number; currency: string; products: ProductAtIntent[] } | undefined
  /** How the checkout of this id stands; undefined where there is none, as for orders of the service before. */
  checkout: 'OPEN' | 'CREATED' | 'REJECTED' | 'CANCELLED' | undefined
  /** Another payment, told apart by its id, was applied to this order before. */
  paidByAnother: boolean
}

export interface Payments {
  /** undefined where the event no longer waits, or another attempt drives it */
  read(attempt: PaymentAttempt): Promise<Payable | undefined>
  /** Whether the event still waits for this attempt, and its order for a payment. */
  isPayable(attempt: PaymentAttempt): Promise<boolean>
  /**
   * Order CREATED -> PAID, event WAITING -> APPLIED and the predicted stock lowered, or nothing.
   * @returns false where it may not count: applied or taken over, paid meanwhile, or a product mended since its epoch was read
   */
  markPaid(attempt: PaymentAttempt, products: readonly (ProductQty & { epoch: number })[]): Promise<boolean>
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
  products: z.array(z.object({ productId: z.int(), qty: z.int(), epoch: z.int().nullable() })).nullable(),
  checkout: z.enum(['OPEN', 'CREATED', 'REJECTED', 'CANCELLED']).nullable(),
  paid_by_another: z.boolean(),
})
const drivenRow = z.object({ id: z.int(), attempt: z.int() })

/** Nobody waits for a payment while many come: three times the patience of a checkout makes batches of 60 at 2,400 payments a second, not of 20. */
const CROWDED = { paceMs: 25, enough: 128 }

interface Paid extends PaymentAttempt {
  products: readonly (ProductQty & { epoch: number })[]
}

const idsOf = (batch: readonly PaymentAttempt[]) =>
  sql.array(
    batch.map(({ eventId }) => eventId),
    'int8',
  )
const attemptsOf = (batch: readonly PaymentAttempt[]) =>
  JSON.stringify(batch.map(({ eventId, attempt }) => ({ event_id: eventId, attempt })))

/** @param emitPaid whether `order.paid` goes into the outbox with it */
export function createPayments(pool: Pool, { emitPaid, relay }: { emitPaid: boolean; relay: RelayHere | undefined }): Payments {
  // By both: an attempt that was taken over may be in one batch with the one that did.
  const batched = <Item extends PaymentAttempt, Row extends { id: number; attempt: number }>(
    run: (batch: Item[]) => Promise<readonly Row[]>,
  ) =>
    batcher(
      (batch: Item[]) =>
        alone(batch, async (rows) => {
          const found = await run(rows)
          return rows.map(({ eventId, attempt }) => found.find((row) => row.id === eventId && row.attempt === attempt))
        }),
      CROWDED,
    )
  const read = batched((batch: PaymentAttempt[]) => readPayables(pool, batch))
  const look = batched((batch: PaymentAttempt[]) => lookAgain(pool, batch))
  const pay = batched(async (batch: Paid[]) => {
    const notify = emitPaid && !relay?.leads()
    const rows = await payAll(pool, batch, { emitPaid, notify })
    if (emitPaid && !notify) relay?.wake()
    return rows
  })
  return {
    async read(attempt) {
      const row = await read(attempt)
      return row && payableOf(row)
    },
    async isPayable(attempt) {
      return (await look(attempt)) !== undefined
    },
    async markPaid(attempt, products) {
      return (await pay({ ...attempt, products })) !== undefined
    },
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

/** Products in the order of their ids, lines of one product added up; the epoch of those that nobody has to look at first. */
async function readPayables(pool: Pool, batch: PaymentAttempt[]) {
  return pool.any(sql.prepared('read-payables', payableRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${attemptsOf(batch)}::jsonb) as t (event_id bigint, attempt int)
    )
    select e.id, e.attempt, e.order_id, e.amount_cents, e.currency, e.sent_at,
      (extract(epoch from clock_timestamp() - e.waiting_since) * 1000)::float8 as waited_ms,
      o.status, o.total_cents, o.currency as order_currency, c.state as checkout,
      (select jsonb_agg(jsonb_build_object('productId', i.product_id, 'qty', i.qty, 'epoch', (
          select p.epoch from order_service.products p where p.product_id = i.product_id and p.extra_hold = 0 and p.extra_stock = 0
            and not exists (select from order_service.doubts d where d.product_id = p.product_id and d.looked_at is null)))
          order by i.product_id)
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

async function lookAgain(pool: Pool, batch: PaymentAttempt[]) {
  return pool.any(sql.prepared('is-payable', drivenRow)`
    select e.id, e.attempt from order_service.payment_events e
    join jsonb_to_recordset(${attemptsOf(batch)}::jsonb) as t (event_id bigint, attempt int) on t.event_id = e.id and t.attempt = e.attempt
    join public.orders o on o.id = e.order_id
    where e.id = any(${idsOf(batch)}) and e.state = 'WAITING' and o.status = 'CREATED'`)
}

/** Events before orders before products. Of two events of one order the first one pays it, and the other finds it PAID at its next try. */
async function payAll(pool: Pool, batch: Paid[], { emitPaid, notify }: { emitPaid: boolean; notify: boolean }) {
  const wanted = batch.flatMap(({ eventId: event_id, attempt, products }) =>
    products.map(({ productId: product_id, qty, epoch }) => ({ event_id, attempt, product_id, qty, epoch })),
  )
  const input = JSON.stringify(batch.map(({ eventId: event_id, attempt }) => ({ event_id, attempt, message_id: uuidv7() })))
  return pool.any(sql.prepared('mark-paid', drivenRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${input}::jsonb) as t (event_id bigint, attempt int, message_id uuid)
    ), wanted as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(wanted)}::jsonb) as t (event_id bigint, attempt int, product_id int, qty int, epoch int)
    ), event as materialized (
      select id, order_id, attempt, state from order_service.payment_events
      where id = any(${idsOf(batch)}) order by id for update
    ), ordered as materialized (
      select id, status from public.orders where id = any(array(select order_id from event)) order by id for update
    ), stock as materialized (
      select product_id, epoch from order_service.products
      where (select count(*) from ordered) > 0 and product_id = any(array(select product_id from wanted))
      order by product_id for update
    ), counted as materialized (
      select distinct on (e.order_id) e.id as event_id, e.attempt, e.order_id, i.message_id
      from event e join inp i on i.event_id = e.id and i.attempt = e.attempt join ordered o on o.id = e.order_id
      where e.state = 'WAITING' and o.status = 'CREATED' and not exists (
        select from wanted w left join stock s using (product_id)
        where w.event_id = e.id and w.attempt = e.attempt and s.epoch is distinct from w.epoch)
      order by e.order_id, e.id
    ), paid as (
      update public.orders set status = 'PAID', updated_at = now() at time zone 'utc'
      where id = any(array(select order_id from counted))
      returning id, user_email, total_cents, currency
    ), sold as (
      update order_service.products p
      set predicted_stock = predicted_stock
        - (select sum(w.qty) from wanted w join counted c using (event_id, attempt) where w.product_id = p.product_id)::bigint, updated_at = now()
      where p.product_id = any(array(select w.product_id from wanted w join counted c using (event_id, attempt)))
    ), told as (
      insert into order_service.outbox (event_id, order_id, type, payload)
      select c.message_id, p.id, 'order.paid', jsonb_build_object(
        'type', 'order.paid', 'order_id', p.id, 'user_email', p.user_email, 'amount_cents', p.total_cents, 'currency', p.currency,
        'event_id', c.message_id, 'version', 1,
        'timestamp', to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
      from paid p join counted c on c.order_id = p.id
      where ${emitPaid}::bool
    ), applied as (
      update order_service.payment_events
      set state = 'APPLIED', result = 'paid', commit_call = 'settled', last_error = null, touched_at = clock_timestamp()
      where id = any(array(select event_id from counted))
      returning id, attempt
    )
    select id, attempt, case when ${notify}::bool then pg_notify('order_outbox', '') end from applied`)
}
