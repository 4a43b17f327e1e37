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
import { nothing, type Pool } from './pool.ts'

/** Products with the epochs that they had when a call was made about them. */
export type Epochs = readonly { productId: number; epoch: number }[]

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

/** What an attempt that failed in good order knows of its own calls. `reserveCall: 'settled'`: each was answered, or stands among the doubts. */
export interface Fault {
  step: StepName
  error: string
  ms: number
  reserveCall: 'settled' | 'unknown'
  shipmentCall: ShipmentCall
}

/** How a checkout ended, and the products of which it gave up a hold: the mender's from now on. */
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

export interface Reserved extends Attempt {
  hold: Epochs
}

export interface Completion extends Attempt {
  hold: Epochs | undefined
}

const outcomeRow = z.object({
  order_id: z.int(),
  state: z.enum(['OPEN', 'CREATED', 'REJECTED', 'CANCELLED']),
  total_cents: z.int(),
  currency: z.string(),
  outcome: z.object({ status: z.int(), detail: z.string() }).nullable(),
})
const endedRow = outcomeRow.extend({ freed: z.array(z.int()).nullable() })
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
const orderId = z.object({ order_id: z.int() })
const createdRow = z.object({ order_id: z.int(), attempt: z.int(), total_cents: z.int(), currency: z.string() })

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

export async function resume(pool: Pool, id: number): Promise<Resumed | undefined> {
  const row = await pool.maybeOne(sql.prepared('resume', resumedRow)`
    with was as materialized (
      select order_id, attempt, recovery_point, reserve_call, shipment_call, lines
      from order_service.checkouts where order_id = ${id} and state = 'OPEN' for update
    ), doubted as (
      insert into order_service.doubts (product_id, verb, qty, order_id, attempt)
      select p.product_id, 'reserve', sum(l.qty), was.order_id, was.attempt
      from was cross join lateral jsonb_to_recordset(was.lines) as l (product_id int, qty int)
      join order_service.products p using (product_id)  -- one without a row was never asked for
      where was.recovery_point = 'intent' and was.reserve_call = 'unknown'
      group by p.product_id, was.order_id, was.attempt
      order by p.product_id  -- two that write down one call do not wait for each other
      on conflict do nothing
    )
    update order_service.checkouts c
    set attempt = c.attempt + 1, reserve_call = 'unknown', shipment_call = 'unknown', updated_at = now()
    from was where c.order_id = was.order_id
    returning c.attempt, c.recovery_point, was.shipment_call, c.lines`)
  if (!row) return undefined
  return {
    orderId: id,
    attempt: row.attempt,
    recoveryPoint: row.recovery_point,
    shipmentCall: row.shipment_call,
    products: productsOf(row.lines),
  }
}

/** @returns undefined where the hold may not count */
export async function recordReserved(pool: Pool, batch: Reserved[]): Promise<(true | undefined)[]> {
  const wanted = batch.flatMap(({ orderId: order_id, attempt, hold }) =>
    hold.map(({ productId: product_id, epoch }) => ({ order_id, attempt, product_id, epoch })),
  )
  const rows = await pool.any(sql.prepared('record-reserved', orderId)`
    with wanted as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(wanted)}::jsonb) as t (order_id int, attempt int, product_id int, epoch int)
    ), lock as materialized (
      select order_id, state, attempt from order_service.checkouts
      where order_id = any(${idsOf(batch)}) order by order_id for update
    ), stock as materialized (  -- against whoever raises an epoch at this moment
      select product_id, epoch from order_service.products
      where (select count(*) from lock) > 0 and product_id = any(array(select product_id from wanted))
      order by product_id for share
    ), counted as (
      select w.order_id from wanted w left join lock l using (order_id) left join stock s using (product_id)
      group by w.order_id
      having bool_and(coalesce(l.state = 'OPEN' and l.attempt = w.attempt and s.epoch = w.epoch, false))
    )
    update order_service.checkouts
    set recovery_point = 'reserve-stock', reserve_call = 'settled', updated_at = now()
    where order_id = any(array(select order_id from counted))
    returning order_id`)
  return inOrder(batch, rows, () => true as const)
}

/** The order's row before the outbox id: events of one order get rising ids. @param notify whether the relay is in another process */
export async function completeAll(pool: Pool, batch: Completion[], notify: boolean): Promise<(Created | undefined)[]> {
  const input = JSON.stringify(
    batch.map(({ orderId: order_id, attempt, hold }) => ({ order_id, attempt, event_id: uuidv7(), holds: hold !== undefined })),
  )
  const holds = batch.flatMap(({ orderId: order_id, hold = [] }) =>
    hold.map(({ productId: product_id, epoch }) => ({ order_id, product_id, epoch })),
  )
  const rows = await pool.any(sql.prepared('complete', createdRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${input}::jsonb) as t (order_id int, attempt int, event_id uuid, holds boolean)
    ), hold as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(holds)}::jsonb) as t (order_id int, product_id int, epoch int)
    ), lock as materialized (
      select order_id, state, attempt, recovery_point, deadline_at from order_service.checkouts
      where order_id = any(${idsOf(batch)}) order by order_id for update
    ), stock as materialized (  -- against whoever raises an epoch at this moment
      select product_id, epoch from order_service.products
      where (select count(*) from lock) > 0 and product_id = any(array(select product_id from hold))
      order by product_id for share
    ), mended as (
      select h.order_id from hold h left join stock s using (product_id) where s.epoch is distinct from h.epoch
    ), won as (
      update order_service.checkouts
      set state = 'CREATED', recovery_point = 'reserve-stock', reserve_call = 'settled', updated_at = now(),
        -- A double click joins an open checkout; the same cart after it is another order.
        idempotency_key = case when starts_with(idempotency_key, 'cart ') then null else idempotency_key end
      where order_id = any(array(
        select order_id from lock l join inp i using (order_id)
        where l.state = 'OPEN' and l.attempt = i.attempt and l.deadline_at > clock_timestamp()
          and (l.recovery_point = 'reserve-stock' or i.holds) and order_id not in (select order_id from mended)))
      returning order_id, attempt, user_email, total_cents, currency, lines
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
    select order_id, attempt, total_cents, currency, case when ${notify}::bool then pg_notify('order_outbox', '') end from won`)
  const won = inOrder(batch, rows, (row) => row)
  return batch.map(({ attempt }, i) => (won[i]?.attempt === attempt ? createdOf(won[i]) : undefined))
}

export async function endAll(pool: Pool, batch: Ending[]): Promise<(Ended | undefined)[]> {
  const input = JSON.stringify(
    batch.map(({ orderId: order_id, attempt, state, status, detail }) => ({ order_id, attempt, state, outcome: { status, detail } })),
  )
  const rows = await pool.any(sql.prepared('end', endedRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${input}::jsonb) as t (order_id int, attempt int, state text, outcome jsonb)
    ), lock as materialized (
      select order_id, state, attempt from order_service.checkouts
      where order_id = any(${idsOf(batch)}) order by order_id for update
    ), ending as materialized (
      select i.order_id, i.attempt, i.state, i.outcome from inp i join lock l using (order_id)
      where l.state = 'OPEN' and (i.attempt is null or l.attempt = i.attempt)
    ), ended as (
      update order_service.checkouts c
      set state = i.state, outcome = i.outcome, idempotency_key = null, updated_at = now(),
        -- Whoever ends what another one drives does not know that one's calls: their attempt notes them, or the rescuer doubts them.
        reserve_call = case when i.attempt is null then c.reserve_call else 'settled' end
      from ending i
      where c.order_id = i.order_id and c.order_id = any(${idsOf(batch)})
      returning c.order_id, c.state, c.total_cents, c.currency, c.outcome, c.lines, c.recovery_point
    ), freed as (
      select e.order_id, l.product_id, sum(l.qty) as qty
      from ended e cross join lateral jsonb_to_recordset(e.lines) as l (product_id int, qty int)
      where e.recovery_point = 'reserve-stock' group by e.order_id, l.product_id
    ), stock as materialized (
      select product_id from order_service.products
      where product_id = any(array(select product_id from freed)) order by product_id for update
    ), extra as (
      update order_service.products p
      set extra_hold = extra_hold + (select sum(f.qty) from freed f where f.product_id = p.product_id), updated_at = now()
      where product_id = any(array(select product_id from stock))
    )
    select order_id, state, total_cents, currency, outcome,
      (select jsonb_agg(f.product_id) from freed f where f.order_id = ended.order_id) as freed
    from ended`)
  return inOrder(batch, rows, (row) => ({ outcome: outcomeOf(row)!, won: true, freed: row.freed ?? [] }))
}

export async function leave(pool: Pool, { orderId: id, attempt }: Attempt, fault: Fault): Promise<void> {
  const entry = JSON.stringify({ attempt, step: fault.step, ms: Math.round(fault.ms), error: fault.error, at: new Date().toISOString() })
  await pool.query(sql.prepared('leave', nothing)`
    update order_service.checkouts
    set reserve_call = case when recovery_point = 'intent' then ${fault.reserveCall}::text else reserve_call end,
      shipment_call = ${fault.shipmentCall}::text, last_error = ${fault.error}::text,
      history = history || ${entry}::jsonb, updated_at = now()
    where order_id = ${id} and attempt = ${attempt} and state in ('OPEN', 'CANCELLED')`)
}
