/**
 * What becomes of a checkout. Each verb is one statement over many rows, holds only where the row is still OPEN and the attempt still
 * the latest, and tells the loser so. Rows are locked in the order of their ids, and checkouts before products, so that no two
 * statements wait for each other. Rows are found by their ids alone: the partial index of OPEN ones is full of dead entries, and an
 * estimate of few open rows would choose it.
 */
import { sql } from 'slonik'
import { v7 as uuidv7 } from 'uuid'
import { z } from 'zod'
import { batcher } from '../batcher.ts'
import type { Address, Outcome, ProductQty, RecoveryPoint, Rejection, StepName } from '../model.ts'
import { productsOf } from '../model.ts'
import { alone, type Pool } from './pool.ts'

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

export interface Delivery {
  userEmail: string
  address: Address
}

/** Deliveries that other processes' workers asked for stay in memory until so many newer ones have come. */
const MOST_REMEMBERED = 4096

export interface Checkouts {
  /** undefined while the checkout is OPEN, and where there is none */
  readOutcome(orderId: number): Promise<Outcome | undefined>
  /** Whether the checkout is open, and this attempt the latest. */
  isOpen(attempt: Attempt): Promise<boolean>
  /** Where a shipment goes: what is in no job. Read once from memory where this process wrote the intent, else from PostgreSQL. */
  readDelivery(orderId: number): Promise<Delivery>
  /** Keeps in memory what this process has just written, for its own worker: saves a read of every checkout. */
  remember(orderId: number, delivery: Delivery): void
  /**
   * Takes the next attempt number. A reserve that the attempt before may have sent is written down as a doubt in the same statement.
   * @returns undefined where the checkout is no longer OPEN
   */
  resume(orderId: number): Promise<Resumed | undefined>
  /** Puts the hold on record. @returns false where it may not count: ended, taken over, or a product mended since its epoch was read */
  recordReserved(attempt: Attempt, hold: Epochs): Promise<boolean>
  /**
   * OPEN -> CREATED with order, items and event, or nothing.
   * @param hold the products of a hold that is not on record yet: it is put there along with the order
   * @returns undefined where it was cancelled, taken over or is past its deadline, or where the hold may not count
   */
  complete(attempt: Attempt, hold?: Epochs): Promise<Extract<Outcome, { state: 'CREATED' }> | undefined>
  /** OPEN -> REJECTED or CANCELLED by the attempt that drives it, which knows of no call without an answer. @returns undefined where it is not its own to end */
  end(attempt: Attempt, state: 'REJECTED' | 'CANCELLED', rejection: Rejection): Promise<Ended | undefined>
  /** OPEN -> CANCELLED by anyone else, or what it has become meanwhile. */
  cancel(orderId: number, rejection: Rejection): Promise<Ended>
  /** Notes what a failed attempt left, also where the checkout has been cancelled meanwhile. */
  leave(attempt: Attempt, fault: Fault): Promise<void>
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
const nothing = z.object({})
const orderId = z.object({ order_id: z.int() })
const createdRow = z.object({ order_id: z.int(), total_cents: z.int(), currency: z.string() })

function outcomeOf(row: z.infer<typeof outcomeRow>): Outcome | undefined {
  if (row.state === 'OPEN') return undefined
  if (row.state === 'CREATED') return { state: 'CREATED', orderId: row.order_id, totalCents: row.total_cents, currency: row.currency }
  return { state: row.state, orderId: row.order_id, ...row.outcome! }
}

/** Results of a statement in the order of the batch that asked for them. */
function inOrder<In extends { orderId: number }, Row extends { order_id: number }>(batch: In[], rows: readonly Row[]): (Row | undefined)[] {
  const byId = new Map(rows.map((row) => [row.order_id, row]))
  return batch.map((item) => byId.get(item.orderId))
}

const idsOf = (batch: readonly { orderId: number }[]) =>
  sql.array(
    batch.map((item) => item.orderId),
    'int4',
  )

interface Ending extends Rejection {
  orderId: number
  /** undefined: whichever it is */
  attempt: number | undefined
  state: 'REJECTED' | 'CANCELLED'
}

interface Reserved extends Attempt {
  hold: Epochs
}

interface Completion extends Attempt {
  hold: Epochs | undefined
}

/** The relay of this process: where it is the one that sends, it is woken by a call, since a NOTIFY costs 20 to 60 % of commits. */
export interface RelayHere {
  leads(): boolean
  wake(): void
}

export function createCheckouts(pool: Pool, relay?: RelayHere): Checkouts {
  const batched = <In, Out>(run: (batch: In[]) => Promise<Out[]>, options: Parameters<typeof batcher>[1] = {}) =>
    batcher((batch: In[]) => alone(batch, run), options)
  // Others wait for the product until a hold that is recorded by itself is on record.
  const record = batched((batch: Reserved[]) => recordReserved(pool, batch), { paceMs: 0 })
  const complete = batched(async (batch: Completion[]) => {
    const notify = !relay?.leads()
    const rows = await completeAll(pool, batch, notify)
    if (!notify) relay?.wake()
    return rows
  })
  const end = batched((batch: Ending[]) => endAll(pool, batch))
  const read = batched((batch: { orderId: number }[]) => readDeliveries(pool, batch))

  const remembered = new Map<number, Delivery>()

  const readOutcome = async (id: number) => {
    const row = await pool.maybeOne(sql.prepared('read-outcome', outcomeRow)`
      select order_id, state, total_cents, currency, outcome from order_service.checkouts where order_id = ${id}`)
    return row ? outcomeOf(row) : undefined
  }

  const ended = (row: z.infer<typeof endedRow> | undefined): Ended | undefined =>
    row && { outcome: outcomeOf(row)!, won: true, freed: row.freed ?? [] }

  return {
    readOutcome,
    isOpen: ({ orderId: id, attempt }) =>
      pool.exists(sql.prepared('is-open', nothing)`
        select from order_service.checkouts where order_id = ${id} and state = 'OPEN' and attempt = ${attempt}`),
    remember(id, delivery) {
      remembered.set(id, delivery)
      const [oldest] = remembered.keys()
      if (remembered.size > MOST_REMEMBERED) remembered.delete(oldest!)
    },
    async readDelivery(id) {
      const known = remembered.get(id)
      remembered.delete(id)
      if (known) return known
      const row = await read({ orderId: id })
      if (!row) throw new Error(`checkout ${id} does not exist`)
      return { userEmail: row.user_email, address: row.address }
    },
    resume: (id) => resume(pool, id),
    async recordReserved({ orderId: id, attempt }, hold) {
      return (await record({ orderId: id, attempt, hold })) !== undefined
    },
    async complete({ orderId: id, attempt }, hold) {
      const row = await complete({ orderId: id, attempt, hold })
      return row && { state: 'CREATED', orderId: row.order_id, totalCents: row.total_cents, currency: row.currency }
    },
    async end(attempt, state, rejection) {
      return ended(await end({ ...attempt, state, ...rejection }))
    },
    async cancel(id, rejection) {
      const cancelled = ended(await end({ orderId: id, attempt: undefined, state: 'CANCELLED', ...rejection }))
      if (cancelled) return cancelled
      const outcome = await readOutcome(id)
      if (!outcome) throw new Error(`checkout ${id} does not exist`)
      return { outcome, won: false, freed: [] }
    },
    leave: (attempt, fault) => leave(pool, attempt, fault),
  }
}

async function readDeliveries(pool: Pool, batch: { orderId: number }[]) {
  const rows = await pool.any(sql.prepared('read-deliveries', deliveryRow)`
    select order_id, user_email, address from order_service.checkouts where order_id = any(${idsOf(batch)})`)
  return inOrder(batch, rows)
}

async function resume(pool: Pool, id: number): Promise<Resumed | undefined> {
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

async function recordReserved(pool: Pool, batch: Reserved[]) {
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
  return inOrder(batch, rows)
}

/** The order's row before the outbox id: events of one order get rising ids. */
async function completeAll(pool: Pool, batch: Completion[], notify: boolean) {
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
      returning order_id, user_email, total_cents, currency, lines
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
      from won join inp using (order_id)
    )
    select order_id, total_cents, currency, case when ${notify}::bool then pg_notify('order_outbox', '') end from won`)
  return inOrder(batch, rows)
}

async function endAll(pool: Pool, batch: Ending[]) {
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
  return inOrder(batch, rows)
}

async function leave(pool: Pool, { orderId: id, attempt }: Attempt, fault: Fault): Promise<void> {
  const entry = JSON.stringify({ attempt, step: fault.step, ms: Math.round(fault.ms), error: fault.error, at: new Date().toISOString() })
  await pool.query(sql.prepared('leave', nothing)`
    update order_service.checkouts
    set reserve_call = case when recovery_point = 'intent' then ${fault.reserveCall}::text else reserve_call end,
      shipment_call = ${fault.shipmentCall}::text, last_error = ${fault.error}::text,
      history = history || ${entry}::jsonb, updated_at = now()
    where order_id = ${id} and attempt = ${attempt} and state in ('OPEN', 'CANCELLED')`)
}
