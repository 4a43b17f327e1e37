/** The last step of a checkout: one statement writes the order, its items, its event and its state. */
import { sql } from 'slonik'
import { v7 as uuidv7 } from 'uuid'
import { z } from 'zod'
import type { ProductQty } from '../model.ts'
import { type Attempt, type Created, createdOf, createdRow, idsOf, inOrder } from './checkout-rows.ts'
import { LOCKED } from './locked.ts'
import type { Pool } from './pool.ts'
import { cleared, int4s } from './stock-calls.ts'

/** @param hold the call of a reserve that is not on record yet: it is recorded together with the order */
export interface Completion extends Attempt {
  hold: { callId: number; products: readonly ProductQty[] } | undefined
}

const completedRow = createdRow.partial().extend({
  order_id: z.int(),
  attempt: z.int().nullable(),
  total_cents: z.int().nullable(),
  currency: z.string().nullable(),
  is_locked: z.boolean(),
})

/** The attempts to complete, and the holds that are recorded with them. */
const input = (attempts: string, holds: string) => sql.fragment`
  inp as materialized (
    select * from jsonb_to_recordset(${attempts}::jsonb) as t (order_id int, attempt int, event_id uuid, holds boolean)
  ), hold as materialized (
    select * from jsonb_to_recordset(${holds}::jsonb) as t (order_id int, call_id bigint, product_id int, qty bigint)
  )`

/** Locks the checkouts, then the products of their holds. `unrecordable`: a product of the hold no longer has its call. */
const lockRows = (batch: readonly Completion[], productIds: readonly number[]) => sql.fragment`
  lock as materialized (
    select order_id, state, attempt, recovery_point, call_id, deadline_at from order_service.checkouts
    where order_id = any(${idsOf(batch)}) order by order_id for update skip locked
  ), stock as materialized (
    select product_id, call_id from order_service.products
    where (select count(*) from lock) > 0 and product_id = any(${int4s(productIds)})
    order by product_id for no key update skip locked
  ), unrecordable as (
    select h.order_id from hold h left join stock s using (product_id) where s.call_id is distinct from h.call_id
  )`

/** A double click joins an open checkout. The same cart after the checkout is another order. */
const freeKeysOfCarts = sql.fragment`,
      idempotency_key = case when starts_with(idempotency_key, 'cart ') then null else idempotency_key end`

/** Completes each checkout that is OPEN, in time, driven by this attempt, and whose hold is or can be recorded. */
const winCheckouts = (keepsKeysOfCarts: boolean) => sql.fragment`
  won as (
    update order_service.checkouts
    set state = 'CREATED', recovery_point = 'reserve-stock', updated_at = now()${keepsKeysOfCarts ? sql.fragment`` : freeKeysOfCarts}
    where order_id = any(array(
      select order_id from lock l join inp i using (order_id)
      where l.state = 'OPEN' and l.attempt = i.attempt and l.deadline_at > clock_timestamp()
        and (l.recovery_point = 'reserve-stock' or i.holds) and order_id not in (select order_id from unrecordable)))
    returning order_id, attempt, user_email, total_cents, currency, lines
  )`

/** Records the holds, and ends their calls. */
const recordHolds = sql.fragment`
  held as (
    update order_service.products p set held = p.held + h.qty, ${cleared}, updated_at = now()
    from hold h join won using (order_id) where p.product_id = h.product_id and p.call_id = h.call_id
  )`

/** Writes the orders and their items. */
const insertOrders = sql.fragment`
  orders as (
    insert into public.orders (id, user_email, status, total_cents, currency)
    select order_id, user_email, 'CREATED', total_cents, currency from won
  ), items as (
    insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
    select w.order_id, l.product_id, l.qty, l.unit_price_cents, l.title_snapshot
    from won w cross join lateral jsonb_to_recordset(w.lines) as l (product_id int, qty int, unit_price_cents bigint, title_snapshot text)
  )`

/** Writes the events. A batch may contain two attempts at one checkout: `won` is joined with the one that completed it. */
const insertEvents = sql.fragment`
  events as (
    insert into order_service.outbox (event_id, order_id, type, payload)
    select event_id, order_id, 'order.created', jsonb_build_object(
      'type', 'order.created', 'order_id', order_id, 'user_email', user_email, 'amount_cents', total_cents, 'currency', currency,
      'items', (select jsonb_agg(l - 'title_snapshot') from jsonb_array_elements(lines) l),
      'event_id', event_id, 'version', 1,
      'timestamp', to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
    from won join (select distinct on (order_id, attempt) order_id, attempt, event_id from inp) i using (order_id, attempt)
  )`

/**
 * Completes checkouts: OPEN -> CREATED with order, items and event, or nothing. The order's row is locked before the outbox id is drawn,
 * so that the events of one order get rising ids. A hold that is not on record yet counts only where each of its products still has the
 * call.
 * @param notify whether the relay is in another process
 * @param keepsKeysOfCarts whether the same cart again is the same order for a while
 * @returns for each item LOCKED where another session has locked its row; undefined where it did not become CREATED, or where its hold
 *   cannot be recorded this way
 */
export async function completeAll(
  pool: Pool,
  batch: Completion[],
  notify: boolean,
  keepsKeysOfCarts = false,
): Promise<(Created | typeof LOCKED | undefined)[]> {
  const attempts = JSON.stringify(
    batch.map(({ orderId: order_id, attempt, hold }) => ({ order_id, attempt, event_id: uuidv7(), holds: hold !== undefined })),
  )
  const holds = batch.flatMap(({ orderId: order_id, hold }) =>
    (hold?.products ?? []).map(({ productId: product_id, qty }) => ({ order_id, call_id: hold!.callId, product_id, qty })),
  )
  const productIds = [...new Set(holds.map((hold) => hold.product_id))]
  const rows = await pool.any(sql.prepared('complete', completedRow)`
    with ${input(attempts, JSON.stringify(holds))}, ${lockRows(batch, productIds)}, ${winCheckouts(keepsKeysOfCarts)},
    ${recordHolds}, ${insertOrders}, ${insertEvents}
    select order_id, null as attempt, null as total_cents, null as currency, true as is_locked, null as notified from inp
    where order_id not in (select order_id from lock)
    union all
    select order_id, attempt, total_cents, currency, false, case when ${notify}::bool then pg_notify('order_outbox', '')::text end from won`)
  const found = inOrder(batch, rows, (row) => row)
  return batch.map(({ attempt }, i) => {
    const row = found[i]
    if (row?.is_locked) return LOCKED
    return row?.attempt === attempt ? createdOf(row as z.infer<typeof createdRow>) : undefined
  })
}
