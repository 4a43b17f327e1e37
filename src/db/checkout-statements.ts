/**
 * The statements on checkouts; those that come in crowds take many rows at once. What decides something holds only where the row is
 * still OPEN and, for whoever drives it, its attempt still the latest, and tells the loser so. Rows are locked in the order of their ids,
 * and checkouts before products, so that no two statements wait for each other. Rows are found by their ids alone: the partial index of
 * OPEN ones is full of dead entries, and an estimate of few open rows would choose it.
 */
import { sql } from 'slonik'
import { v7 as uuidv7 } from 'uuid'
import { z } from 'zod'
import type { Address, Outcome, ProductQty, RecoveryPoint, Rejection, StepName } from '../model.ts'
import { productsOf } from '../model.ts'
import { nothing, type Pool, type Transaction } from './pool.ts'
import { cleared, int4s, recordCalls } from './stock-calls.ts'
import { LOCKED } from './locked.ts'

/** One driving of a checkout: its writes hold only while nobody has begun another one. */
export interface Attempt {
  orderId: number
  attempt: number
}

/** What is known of the calls that the attempts so far made for a shipment: none reached Shipping, each was refused with a 5xx, or unknown. */
export type ShipmentCall = 'unsent' | 'answered' | 'unknown'

/** An attempt after the first: where it goes on, and what those before it left. */
export interface Resumed extends Attempt {
  recoveryPoint: RecoveryPoint
  shipmentCall: ShipmentCall
  products: ProductQty[]
}

/** What an attempt that failed in good order leaves. */
export interface Fault {
  step: StepName
  error: string
  ms: number
  shipmentCall: ShipmentCall
}

/** How a checkout ended, and the products of which it gave up a hold, or may have: the reconciler's from now on. */
export interface Ended {
  outcome: Outcome
  /** Whether this is what ended it. */
  won: boolean
  freed: number[]
}

export type Created = Extract<Outcome, { state: 'CREATED' }>

export interface Delivery {
  userEmail: string
  address: Address
}

export interface Ending extends Rejection {
  orderId: number
  /** undefined: whichever it is */
  attempt: number | undefined
  state: 'REJECTED' | 'CANCELLED'
}

/** A call to reserve that Catalog carried out, with those who were in it. */
export interface Reserved {
  callId: number
  productIds: readonly number[]
  members: readonly { orderId: number; products: readonly ProductQty[] }[]
}

/** What a record did: the orders that have their hold, and products whose part somebody has to take over, since their rows are locked. */
export interface ReserveRecorded {
  orderIds: number[]
  missedProducts: number[]
}

/** @param hold the call of a reserve that is not on record yet: it is put there along with the order */
export interface Completion extends Attempt {
  hold: { callId: number; products: readonly ProductQty[] } | undefined
}

const outcomeRow = z.object({
  order_id: z.int(),
  state: z.enum(['OPEN', 'CREATED', 'REJECTED', 'CANCELLED']),
  total_cents: z.int(),
  currency: z.string(),
  outcome: z.object({ status: z.int(), detail: z.string() }).nullable(),
})
const endedRow = outcomeRow.extend({ freed: z.array(z.int()).nullable(), is_locked: z.boolean() })
const address = z.object({
  address_line1: z.string(),
  address_line2: z.string(),
  city: z.string(),
  country: z.string(),
  postcode: z.string(),
})
const deliveryRow = z.object({ order_id: z.int(), user_email: z.string(), address })
const resumedRow = z.object({
  attempt: z.int(),
  recovery_point: z.enum(['intent', 'reserve-stock']),
  shipment_call: z.enum(['unsent', 'answered', 'unknown']),
  lines: z.array(z.object({ product_id: z.int(), qty: z.int(), unit_price_cents: z.int(), title_snapshot: z.string() })),
})
const reservedRow = z.object({ is_locked: z.boolean(), order_ids: z.array(z.int()), missed_products: z.array(z.int()) })
const createdRow = z.object({ order_id: z.int(), attempt: z.int(), total_cents: z.int(), currency: z.string() })
const completedRow = createdRow.partial().extend({
  order_id: z.int(),
  attempt: z.int().nullable(),
  total_cents: z.int().nullable(),
  currency: z.string().nullable(),
  is_locked: z.boolean(),
})

const createdOf = (row: Omit<z.infer<typeof createdRow>, 'attempt'>): Created => ({
  state: 'CREATED',
  orderId: row.order_id,
  totalCents: row.total_cents,
  currency: row.currency,
})

function outcomeOf(row: z.infer<typeof outcomeRow>): Outcome | undefined {
  if (row.state === 'OPEN') return undefined
  return row.state === 'CREATED' ? createdOf(row) : { state: row.state, orderId: row.order_id, ...row.outcome! }
}

/** What became of each item of a batch, in its order: undefined where the statement gave no row. */
function inOrder<In extends { orderId: number }, Row extends { order_id: number }, Out>(
  batch: In[],
  rows: readonly Row[],
  toOut: (row: Row) => Out,
): (Out | undefined)[] {
  const byId = new Map(rows.map((row) => [row.order_id, row]))
  return batch.map(({ orderId: id }) => {
    const row = byId.get(id)
    return row && toOut(row)
  })
}

const idsOf = (batch: readonly { orderId: number }[]) =>
  sql.array(
    batch.map((item) => item.orderId),
    'int4',
  )

export async function readOutcome(pool: Pool, id: number): Promise<Outcome | undefined> {
  const row = await pool.maybeOne(sql.prepared('read-outcome', outcomeRow)`
    select order_id, state, total_cents, currency, outcome from order_service.checkouts where order_id = ${id}`)
  return row ? outcomeOf(row) : undefined
}

export async function isOpen(pool: Pool, { orderId: id, attempt }: Attempt): Promise<boolean> {
  return pool.exists(sql.prepared('is-open', nothing)`
    select from order_service.checkouts where order_id = ${id} and state = 'OPEN' and attempt = ${attempt}`)
}

export async function readDeliveries(pool: Pool, batch: { orderId: number }[]): Promise<(Delivery | undefined)[]> {
  const rows = await pool.any(sql.prepared('read-deliveries', deliveryRow)`
    select order_id, user_email, address from order_service.checkouts where order_id = any(${idsOf(batch)})`)
  return inOrder(batch, rows, ({ user_email: userEmail, address: to }) => ({ userEmail, address: to }))
}

/** @returns LOCKED where somebody has its row; undefined where it is no longer OPEN */
export async function resume(pool: Pool, id: number): Promise<Resumed | typeof LOCKED | undefined> {
  const row = await pool.maybeOne(sql.prepared('resume', resumedRow)`
    with was as materialized (
      select order_id, shipment_call from order_service.checkouts where order_id = ${id} and state = 'OPEN' for update skip locked
    )
    update order_service.checkouts c set attempt = c.attempt + 1, shipment_call = 'unknown', updated_at = now()
    from was where c.order_id = was.order_id
    returning c.attempt, c.recovery_point, was.shipment_call, c.lines`)
  if (!row) {
    const isOpenStill = await pool.exists(sql.prepared('is-still-open', nothing)`
      select from order_service.checkouts where order_id = ${id} and state = 'OPEN'`)
    return isOpenStill ? LOCKED : undefined
  }
  return {
    orderId: id,
    attempt: row.attempt,
    recoveryPoint: row.recovery_point,
    shipmentCall: row.shipment_call,
    products: productsOf(row.lines),
  }
}

/**
 * Puts holds on record: each checkout that is open and still in this call has its hold, whichever attempt drives it. The units of one
 * that was cancelled meanwhile are Catalog's to get back.
 * @param isPatient nothing is recorded while somebody has one of the checkouts' rows
 * @returns LOCKED where one is locked and `isPatient`
 */
export async function recordReserved(
  db: Pool | Transaction,
  calls: readonly Reserved[],
  isPatient: boolean,
): Promise<ReserveRecorded | typeof LOCKED> {
  const parts = JSON.stringify(
    calls.flatMap(({ callId: call_id, productIds }) => productIds.map((product_id) => ({ call_id, product_id }))),
  )
  const items = JSON.stringify(
    calls.flatMap(({ callId: call_id, members }) =>
      members.flatMap(({ orderId: order_id, products }) =>
        products.map(({ productId: product_id, qty }) => ({ call_id, order_id, product_id, qty })),
      ),
    ),
  )
  const orderIds = calls.flatMap(({ members }) => members.map((member) => member.orderId))
  const row = await db.one(sql.prepared('record-reserved', reservedRow)`
    with item as materialized (
      select * from jsonb_to_recordset(${items}::jsonb) as t (call_id bigint, order_id int, product_id int, qty bigint)
    ), lock as materialized (
      select order_id, state, recovery_point, call_id from order_service.checkouts
      where order_id = any(${int4s(orderIds)}) order by order_id for no key update skip locked
    ), part as materialized (
      select * from jsonb_to_recordset(${parts}::jsonb) as t (call_id bigint, product_id int)
      where not ${isPatient} or (select count(*) from lock) = ${orderIds.length}::int
    ), granted as (
      update order_service.checkouts set recovery_point = 'reserve-stock', updated_at = now()
      where order_id = any(array(select l.order_id from lock l join item using (order_id, call_id) join part using (call_id, product_id)
        where l.state = 'OPEN' and l.recovery_point = 'intent'))
      returning order_id
    ), share as materialized (
      select i.call_id, i.product_id, sum(i.qty)::bigint as held, 0::bigint as expected_stock
      from item i join granted using (order_id) group by i.call_id, i.product_id
    ), ${recordCalls(calls.flatMap((call) => call.productIds))}
    select not exists (select from part) as is_locked, array(select order_id from granted) as order_ids,
      array(select product_id from late) as missed_products`)
  return row.is_locked ? LOCKED : { orderIds: row.order_ids, missedProducts: row.missed_products }
}

/** A double click joins an open checkout; the same cart after it is another order. */
const freeKeysOfCarts = sql.fragment`,
        idempotency_key = case when starts_with(idempotency_key, 'cart ') then null else idempotency_key end`

/**
 * The order's row before the outbox id: events of one order get rising ids. A hold that is not on record yet counts only where each of
 * its products still has the call.
 * @param notify whether the relay is in another process
 * @param keepsKeysOfCarts whether the same cart again is the same order for a while
 * @returns for each LOCKED where somebody has a row of it; undefined where it did not become CREATED, or its hold cannot be recorded so
 */
export async function completeAll(
  pool: Pool,
  batch: Completion[],
  notify: boolean,
  keepsKeysOfCarts = false,
): Promise<(Created | typeof LOCKED | undefined)[]> {
  const input = JSON.stringify(
    batch.map(({ orderId: order_id, attempt, hold }) => ({ order_id, attempt, event_id: uuidv7(), holds: hold !== undefined })),
  )
  const holds = batch.flatMap(({ orderId: order_id, hold }) =>
    (hold?.products ?? []).map(({ productId: product_id, qty }) => ({ order_id, call_id: hold!.callId, product_id, qty })),
  )
  const rows = await pool.any(sql.prepared('complete', completedRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${input}::jsonb) as t (order_id int, attempt int, event_id uuid, holds boolean)
    ), hold as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(holds)}::jsonb) as t (order_id int, call_id bigint, product_id int, qty bigint)
    ), lock as materialized (
      select order_id, state, attempt, recovery_point, call_id, deadline_at from order_service.checkouts
      where order_id = any(${idsOf(batch)}) order by order_id for update skip locked
    ), stock as materialized (
      select product_id, call_id from order_service.products
      where (select count(*) from lock) > 0 and product_id = any(${int4s([...new Set(holds.map((hold) => hold.product_id))])})
      order by product_id for no key update skip locked
    ), unrecordable as (
      select h.order_id from hold h left join stock s using (product_id) where s.call_id is distinct from h.call_id
    ), won as (
      update order_service.checkouts
      set state = 'CREATED', recovery_point = 'reserve-stock', updated_at = now()${keepsKeysOfCarts ? sql.fragment`` : freeKeysOfCarts}
      where order_id = any(array(
        select order_id from lock l join inp i using (order_id)
        where l.state = 'OPEN' and l.attempt = i.attempt and l.deadline_at > clock_timestamp()
          and (l.recovery_point = 'reserve-stock' or i.holds) and order_id not in (select order_id from unrecordable)))
      returning order_id, attempt, user_email, total_cents, currency, lines
    ), held as (
      update order_service.products p set held = p.held + h.qty, ${cleared}, updated_at = now()
      from hold h join won using (order_id) where p.product_id = h.product_id and p.call_id = h.call_id
    ), orders as (
      insert into public.orders (id, user_email, status, total_cents, currency)
      select order_id, user_email, 'CREATED', total_cents, currency from won
    ), items as (
      insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
      select w.order_id, l.product_id, l.qty, l.unit_price_cents, l.title_snapshot
      from won w cross join lateral jsonb_to_recordset(w.lines) as l (product_id int, qty int, unit_price_cents bigint, title_snapshot text)
    ), events as (
      insert into order_service.outbox (event_id, order_id, type, payload)
      select event_id, order_id, 'order.created', jsonb_build_object(
        'type', 'order.created', 'order_id', order_id, 'user_email', user_email, 'amount_cents', total_cents, 'currency', currency,
        'items', (select jsonb_agg(l - 'title_snapshot') from jsonb_array_elements(lines) l),
        'event_id', event_id, 'version', 1,
        'timestamp', to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
      -- An attempt that was taken over may be in one batch with the one that did.
      from won join (select distinct on (order_id, attempt) order_id, attempt, event_id from inp) i using (order_id, attempt)
    )
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

/**
 * To cancel concerns the checkout alone and waits for no product: what it held is left to the reconciler in `product_changes`. So is a
 * call that it may be in: whoever ends what another one drives does not know what becomes of it.
 * @returns for each LOCKED where somebody has its row; undefined where it is not this attempt's to end
 */
export async function endAll(pool: Pool, batch: Ending[]): Promise<(Ended | typeof LOCKED | undefined)[]> {
  const input = JSON.stringify(
    batch.map(({ orderId: order_id, attempt, state, status, detail }) => ({ order_id, attempt, state, outcome: { status, detail } })),
  )
  const rows = await pool.any(sql.prepared('end', endedRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${input}::jsonb) as t (order_id int, attempt int, state text, outcome jsonb)
    ), lock as materialized (
      select order_id, state, attempt from order_service.checkouts
      where order_id = any(${idsOf(batch)}) order by order_id for update skip locked
    ), ending as materialized (
      select i.order_id, i.state, i.outcome from inp i join lock l using (order_id)
      where l.state = 'OPEN' and (i.attempt is null or l.attempt = i.attempt)
    ), ended as (
      update order_service.checkouts c
      set state = i.state, outcome = i.outcome, idempotency_key = null, updated_at = now()
      from ending i
      where c.order_id = i.order_id and c.order_id = any(${idsOf(batch)})
      returning c.order_id, c.state, c.total_cents, c.currency, c.outcome, c.lines, c.recovery_point, c.call_id
    ), freed as (
      insert into order_service.product_changes (product_id, held)
      select l.product_id, case e.recovery_point when 'reserve-stock' then -sum(l.qty) else 0 end
      from ended e cross join lateral jsonb_to_recordset(e.lines) as l (product_id int, qty int)
      where e.recovery_point = 'reserve-stock'
        or exists (select from order_service.products p where p.product_id = l.product_id and p.call_id = e.call_id)
      group by e.order_id, e.recovery_point, l.product_id
      returning product_id
    )
    select order_id, state, total_cents, currency, outcome, false as is_locked, array(select product_id from freed) as freed from ended
    union all
    select order_id, 'OPEN', 0, '', null, true, null from inp where order_id not in (select order_id from lock)`)
  return inOrder(batch, rows, (row) => (row.is_locked ? LOCKED : { outcome: outcomeOf(row)!, won: true, freed: row.freed ?? [] }))
}

/** Notes how an attempt failed, for operators and for the one after it. */
export async function recordFailure(pool: Pool, { orderId: id, attempt }: Attempt, fault: Fault): Promise<void> {
  const entry = JSON.stringify({ attempt, step: fault.step, ms: Math.round(fault.ms), error: fault.error, at: new Date().toISOString() })
  await pool.query(sql.prepared('record-failure', nothing)`
    update order_service.checkouts
    set shipment_call = ${fault.shipmentCall}::text, last_error = ${fault.error}::text, history = history || ${entry}::jsonb, updated_at = now()
    where order_id = any(array(
      select order_id from order_service.checkouts
      where order_id = ${id} and attempt = ${attempt} and state in ('OPEN', 'CANCELLED') for update skip locked))`)
}
