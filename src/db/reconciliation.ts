/** Bringing what we know of a product and what Catalog says together: what is read, and what is written about it (docs/stock.md). */
import { sql } from 'slonik'
import { z } from 'zod'
import type { ProductQty, StockVerb } from '../model.ts'
import { recordHolds } from './record-holds.ts'
import { recordPaid } from './payments.ts'
import { nothing, type Pool, type Transaction } from './pool.ts'
import { applyChanges, int8s, productsOfCalls, recordCalls } from './stock-calls.ts'

export { effects } from './stock-calls.ts'

/** What Catalog should say: `reserved = held + foreignHolds + holdCorrection`, `in_stock = expectedStock + stockCorrection`. Units. */
export interface ProductCounters {
  /** null: Catalog has not been read yet */
  expectedStock: number | null
  /** Units of orders CREATED and of open checkouts whose reserve is on record. */
  held: number
  /** Held at Catalog before we first asked, for no order of ours; below 0: holds of ours that it lost. */
  foreignHolds: number
  /** Units that Catalog holds in excess (below 0: missing). */
  holdCorrection: number
  /** Units in stock at Catalog in excess (below 0: missing). */
  stockCorrection: number
}

/** A call that may have happened, or may still happen. */
export interface UnansweredCall {
  callId: number
  verb: StockVerb
  qty: number
  /** Catalog was read since, and it had not happened then. */
  isChecked: boolean
}

/** What Catalog's answer means. `followed`: units that others brought, or (below 0) took. */
export type Explanation =
  | { isFirst: true; inStock: number; reserved: number }
  | {
      isFirst: false
      happened: readonly UnansweredCall[]
      /** Units of `reserved` that no call explains. */
      unexplained: number
      followed: number
      ambiguities: readonly { tooMany: number; tooFew: number; explanation: string }[]
    }

/** A lease on one product. */
export interface ProductLease {
  productId: number
  callId: number
}

/** A call younger than this may still act: no service has been seen to act later. In ms. */
export const MAY_ACT_MS = 10 * 60_000

export const verb = z.enum(['reserve', 'commit', 'restock', 'release'])
const countersRow = z.object({
  expected_stock: z.int().nullable(),
  held: z.int(),
  foreign_holds: z.int(),
  hold_correction: z.int(),
  stock_correction: z.int(),
  calls: z.array(z.object({ callId: z.int(), verb, qty: z.int(), isChecked: z.boolean() })),
})
/** Of a row `u` of `unanswered_calls`: nobody has checked it, or it is young enough to act late. */
export const mayAct = sql.fragment`(u.found is null or u.found = 'not-happened' and u.since > clock_timestamp() - ${MAY_ACT_MS}::float8 * interval '1 ms')`

export interface Seen {
  row: ProductCounters
  /** Those that may still act, the oldest first. */
  calls: UnansweredCall[]
}

/**
 * What we know of a product under our lease, with all that was kept for its row taken over.
 * @returns undefined where the lease is not ours any more, or somebody has the row
 */
export async function readProduct(pool: Pool, { productId, callId }: ProductLease): Promise<Seen | undefined> {
  if (!(await applyChanges(pool, productId))) return undefined
  const row = await pool.maybeOne(sql.prepared('read-product', countersRow)`
    select expected_stock, held, foreign_holds, hold_correction, stock_correction, (
      select coalesce(jsonb_agg(jsonb_build_object('callId', u.call_id, 'verb', u.verb, 'qty', u.qty, 'isChecked', u.found is not null)
        order by u.since, u.call_id), '[]')
      from order_service.unanswered_calls u where u.product_id = p.product_id and ${mayAct}) as calls
    from order_service.products p where product_id = ${productId} and call_id = ${callId}`)
  if (!row) return undefined
  const { calls, expected_stock: expectedStock, held, foreign_holds: foreignHolds, ...corrections } = row
  return {
    row: { expectedStock, held, foreignHolds, holdCorrection: corrections.hold_correction, stockCorrection: corrections.stock_correction },
    calls,
  }
}

/**
 * Writes down what was found, under the lease, and only where the row still says what was read. Who was in a call that happened has its
 * hold, or is PAID, by the same statements that record an answer.
 * @returns false where nothing was written: it is to be read again
 */
export async function recordExplanation(
  pool: Pool,
  { productId, callId }: ProductLease,
  { row, calls }: Seen,
  explanation: Explanation,
  emitPaid: boolean,
): Promise<boolean> {
  return pool.transaction(async (tx) => {
    const isOurs = await tx.exists(sql.prepared('lock-read-product', nothing)`
      select from order_service.products
      where product_id = ${productId} and call_id = ${callId} and expected_stock is not distinct from ${row.expectedStock}::bigint
        and held = ${row.held} and foreign_holds = ${row.foreignHolds} and hold_correction = ${row.holdCorrection}
        and stock_correction = ${row.stockCorrection}
      for no key update skip locked`)
    if (!isOurs) return false
    if (explanation.isFirst) {
      await tx.query(sql.prepared('record-first-read', nothing)`
        update order_service.products
        set expected_stock = ${explanation.inStock}, foreign_holds = ${explanation.reserved} - held, hold_correction = 0, stock_correction = 0
        where product_id = ${productId}`)
    } else {
      const { happened, unexplained, followed, ambiguities } = explanation
      await recordHappened(tx, productId, happened, emitPaid)
      await recordFindings(tx, productId, { happened, unexplained, followed, ambiguities, checked: calls.map((call) => call.callId) })
      await applyChanges(tx, productId)
    }
    await settle(tx, productId)
    return true
  })
}

/**
 * Who was in a call that happened has its hold, or is PAID. Not so where it acted after it had been checked: they may have been called for
 * anew since, and a call that looks like it may have acted instead. What it did to this product is put right, and nobody gets it.
 *
 * Each product of the call is read for itself: what others of them hold for its members passes from their corrections until then.
 */
async function recordHappened(tx: Transaction, productId: number, happened: readonly UnansweredCall[], emitPaid: boolean): Promise<void> {
  for (const call of happened) {
    const { callId } = call
    const part = { callId, productIds: [productId] }
    if (call.isChecked || call.verb === 'restock' || call.verb === 'release') {
      await recordAnswered(tx, part)
    } else if (call.verb === 'commit') {
      await recordPaid(tx, [{ ...part, members: await readPayments(tx, callId) }], { isPatient: false, emitPaid, notify: emitPaid })
    } else {
      await recordHolds(tx, [{ ...part, members: await readCheckouts(tx, callId) }], false)
    }
  }
}

const productsOf = z.array(z.object({ productId: z.int(), qty: z.int() }))

async function readCheckouts(tx: Transaction, callId: number): Promise<{ orderId: number; products: ProductQty[] }[]> {
  const rows = await tx.any(sql.prepared('read-call-checkouts', z.object({ order_id: z.int(), products: productsOf }))`
    select c.order_id, (select jsonb_agg(jsonb_build_object('productId', l.product_id, 'qty', l.qty)) from (
      select product_id, sum(qty) as qty from jsonb_to_recordset(c.lines) as l (product_id int, qty int) group by product_id) l) as products
    from order_service.checkouts c where c.state = 'OPEN' and c.recovery_point = 'intent' and c.call_id = ${callId} order by c.order_id`)
  return rows.map((row) => ({ orderId: row.order_id, products: row.products }))
}

async function readPayments(tx: Transaction, callId: number): Promise<{ eventId: number; products: ProductQty[] }[]> {
  const rows = await tx.any(sql.prepared('read-call-payments', z.object({ id: z.int(), products: productsOf }))`
    select e.id, (select jsonb_agg(jsonb_build_object('productId', i.product_id, 'qty', i.qty)) from (
      select product_id, sum(qty) as qty from public.order_items where order_id = e.order_id group by product_id) i) as products
    from order_service.payment_events e where e.state = 'WAITING' and e.call_id = ${callId} order by e.id`)
  return rows.map((row) => ({ eventId: row.id, products: row.products }))
}

interface Findings extends Omit<Extract<Explanation, { isFirst: false }>, 'isFirst'> {
  checked: readonly number[]
}

async function recordFindings(tx: Transaction, productId: number, findings: Findings): Promise<void> {
  const { happened, unexplained, followed, ambiguities, checked } = findings
  const lines = JSON.stringify([
    ...happened.map(({ callId: call_id, verb: what, qty }) => ({ verb: what, qty, result: 'happened', call_id })),
    ...(unexplained === 0 ? [] : [{ verb: 'unexplained', qty: unexplained, result: 'seen' }]),
    ...(followed === 0 ? [] : [{ verb: 'follow', qty: followed, result: 'seen' }]),
  ])
  const open = JSON.stringify(
    ambiguities.map(({ tooMany: too_many, tooFew: too_few, explanation }) => ({ too_many, too_few, explanation })),
  )
  const others = checked.filter((id) => !happened.some((call) => call.callId === id))
  await tx.query(sql.prepared('record-findings', nothing)`
    with checked as (
      update order_service.unanswered_calls set found = 'not-happened', checked_at = clock_timestamp()
      where product_id = ${productId} and call_id = any(${int8s(others)}) and found is distinct from 'happened'
    ), reopened as (  -- Catalog carries out all of a call or none of it: its other products are checked once more
      update order_service.unanswered_calls set found = null
      where call_id = any(${int8s(happened.map(({ callId }) => callId))}) and product_id <> ${productId} and found = 'not-happened'
    ), history as (
      insert into order_service.reconciliations (product_id, verb, qty, result, call_id)
      select ${productId}, verb, qty, result, call_id
      from jsonb_to_recordset(${lines}::jsonb) as t (verb text, qty bigint, result text, call_id bigint)
    ), ambiguous as (
      insert into order_service.ambiguities (product_id, too_many, too_few, explanation)
      select ${productId}, too_many, too_few, explanation
      from jsonb_to_recordset(${open}::jsonb) as t (too_many bigint, too_few bigint, explanation text)
    )
    update order_service.products
    set hold_correction = hold_correction + ${unexplained}, expected_stock = expected_stock + ${followed}, updated_at = now()
    where product_id = ${productId}`)
}

/** Units that are held for nobody make up for holds that Catalog lost; a hold that is missing for whatever reason is one that it lost. */
async function settle(tx: Transaction, productId: number): Promise<void> {
  await tx.query(sql.prepared('settle-product', nothing)`
    update order_service.products p
    set foreign_holds = foreign_holds + m.moved, hold_correction = hold_correction - m.moved,
      reconciling_since = case when hold_correction = m.moved and stock_correction = 0 and foreign_holds + m.moved >= 0
        then null else coalesce(reconciling_since, now()) end
    from (
      select case when foreign_holds < 0 and hold_correction > 0 then least(hold_correction, -foreign_holds)
        when foreign_holds <= 0 and hold_correction < 0 then hold_correction else 0 end as moved
      from order_service.products where product_id = ${productId}
    ) m where p.product_id = ${productId}`)
}

/** Records that a call of the reconciler happened: it was answered, or Catalog's inventory shows it. */
export async function recordAnswered(db: Pool | Transaction, call: { callId: number; productIds: readonly number[] }): Promise<void> {
  const parts = productsOfCalls([call])
  await db.query(sql.prepared('record-answered', nothing)`
    with part as materialized (
      select * from jsonb_to_recordset(${parts}::jsonb) as t (call_id bigint, product_id int)
    ), share as materialized (
      select call_id, product_id, 0::bigint as held, 0::bigint as expected_stock from part where false
    ), ${recordCalls(call.productIds)}
    select from late`)
}

/** Records the result of a correction, for operators. */
export async function recordCorrection(
  pool: Pool,
  productId: number,
  {
    callId,
    verb: what,
    qty,
    reason,
    result,
  }: { callId: number; verb: StockVerb; qty: number; reason: string; result: 'done' | 'refused' | 'unanswered' },
): Promise<void> {
  await pool.query(sql.prepared('record-correction', nothing)`
    insert into order_service.reconciliations (product_id, verb, qty, result, reason, call_id)
    values (${productId}, ${what}, ${qty}, ${result}, ${reason}, ${callId})`)
}

/** Units restocked too many cannot be taken back, since they are sold: what we expect follows. Under the lease. */
export async function recordSold(pool: Pool, { productId, callId }: ProductLease): Promise<void> {
  await pool.query(sql.prepared('record-sold', nothing)`
    with mine as materialized (
      select product_id, stock_correction as sold from order_service.products
      where product_id = ${productId} and call_id = ${callId} and stock_correction > 0 for no key update skip locked
    ), history as (
      insert into order_service.reconciliations (product_id, verb, qty, result) select product_id, 'follow', sold, 'seen' from mine
    ), ambiguous as (
      insert into order_service.ambiguities (product_id, too_many, too_few, explanation)
      select product_id, sold, 0, 'too many restocked, and sold before they could be taken back' from mine
    )
    update order_service.products p set expected_stock = expected_stock + mine.sold, stock_correction = 0, updated_at = now()
    from mine where p.product_id = mine.product_id`)
}

/** Whether something is to be put right or taken over, holds are missing, or a call without an answer may still act. */
export async function needsReconciling(pool: Pool, productId: number): Promise<boolean> {
  return pool.exists(sql.prepared('needs-reconciling', nothing)`
    select from order_service.products p where product_id = ${productId} and (
      hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null
      or exists (select from order_service.product_changes c where c.product_id = p.product_id)
      or exists (select from order_service.unanswered_calls u where u.product_id = p.product_id and ${mayAct}))`)
}

/** Products that need reconciling. Each part of the query uses an index that is normally empty. */
export async function productsToReconcile(pool: Pool): Promise<number[]> {
  const rows = await pool.any(sql.prepared('products-to-reconcile', z.object({ product_id: z.int() }))`
    select product_id from order_service.products
    where hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null
    union select c.product_id from order_service.product_changes c join order_service.products p using (product_id)
    union select u.product_id from order_service.unanswered_calls u where ${mayAct}
    order by product_id`)
  return rows.map((row) => row.product_id)
}
