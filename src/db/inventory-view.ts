/** Reads the state of products for people and metrics: counters, calls, corrections, ambiguities and history. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { StockVerb } from '../model.ts'
import { nothing, type Pool, type Transaction } from './pool.ts'
import { mayAct, type ProductCounters, verb } from './reconciliation.ts'
import { int4s } from './stock-calls.ts'

/** A call without an answer that may have happened, or may still happen. */
export interface OpenCall {
  callId: number
  verb: StockVerb
  qty: number
  since: Date
  /** When Catalog was last read and the call had not happened. */
  checkedAt: Date | null
}

/** A product's counters, with its calls and ambiguities. */
export interface InventoryEntry extends ProductCounters {
  productId: number
  /** When its reconciliation began. It does not agree with Catalog yet. */
  reconcilingSince: Date | null
  /** The call in progress. */
  call: { callId: number; verb: StockVerb | 'check'; qty: number; expiresAt: Date } | null
  unanswered: OpenCall[]
  /** The most units that Catalog may offer too many, and too few; accepted ambiguities do not count. */
  ambiguous: { tooMany: number; tooFew: number }
}

const entryRow = z.object({
  product_id: z.int(),
  expected_stock: z.int().nullable(),
  held: z.int(),
  foreign_holds: z.int(),
  hold_correction: z.int(),
  stock_correction: z.int(),
  reconciling_since: z.date().nullable(),
  call: z.object({ callId: z.int(), verb: z.enum([...verb.options, 'check']), qty: z.int(), expiresAt: z.coerce.date() }).nullable(),
  unanswered: z.array(z.object({ callId: z.int(), verb, qty: z.int(), since: z.coerce.date(), checkedAt: z.coerce.date().nullable() })),
  too_many: z.int(),
  too_few: z.int(),
})

const notable = sql.fragment`(hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null
  or exists (select from order_service.unanswered_calls u where u.product_id = p.product_id and ${mayAct})
  or exists (select from order_service.ambiguities a where a.product_id = p.product_id and a.accepted_at is null))`

/**
 * Lists known products, the notable ones first.
 * @param onlyNotable only products that are oversold, being reconciled, or have corrections, unanswered calls or ambiguities
 */
export async function listProducts(pool: Pool, { onlyNotable, limit }: { onlyNotable: boolean; limit: number }): Promise<number[]> {
  const rows = await pool.any(sql.type(z.object({ product_id: z.int() }))`
    select product_id from order_service.products p where not ${onlyNotable} or ${notable}
    order by ${notable} desc, product_id limit ${limit}`)
  return rows.map((row) => row.product_id)
}

/**
 * Reads products in the order of `productIds`, and omits those without a row. Pending `product_changes` are included. A change with a call
 * id belongs to a call that happened, so its units do not come from a correction.
 */
export async function readInventory(pool: Pool, productIds: readonly number[]): Promise<InventoryEntry[]> {
  const rows = await pool.any(sql.type(entryRow)`
    select product_id, (p.expected_stock + coalesce(c.stock, 0))::bigint as expected_stock, (p.held + coalesce(c.hold, 0))::bigint as held,
      foreign_holds, (hold_correction - coalesce(c.hold_alone, 0))::bigint as hold_correction,
      (stock_correction - coalesce(c.stock_alone, 0))::bigint as stock_correction, reconciling_since,
      case when call_id is not null then jsonb_build_object('callId', call_id, 'verb', call_verb, 'qty', call_qty, 'expiresAt', call_expires_at) end as call,
      (select coalesce(jsonb_agg(jsonb_build_object('callId', call_id, 'verb', verb, 'qty', qty, 'since', since, 'checkedAt', checked_at)
        order by since), '[]') from order_service.unanswered_calls u where u.product_id = p.product_id and ${mayAct}) as unanswered,
      coalesce(a.too_many, 0)::bigint as too_many, coalesce(a.too_few, 0)::bigint as too_few
    from order_service.products p
    left join lateral (
      select sum(held) as hold, sum(held) filter (where call_id is null) as hold_alone,
        sum(expected_stock) as stock, sum(expected_stock) filter (where call_id is null) as stock_alone
      from order_service.product_changes where product_id = p.product_id) c on true
    left join lateral (select sum(too_many) as too_many, sum(too_few) as too_few from order_service.ambiguities a
      where a.product_id = p.product_id and a.accepted_at is null) a on true
    where product_id = any(${int4s(productIds)})`)
  const entries = new Map(rows.map((row) => [row.product_id, entryOf(row)]))
  return productIds.map((id) => entries.get(id)).filter((entry) => entry !== undefined)
}

const entryOf = (row: z.infer<typeof entryRow>): InventoryEntry => ({
  productId: row.product_id,
  expectedStock: row.expected_stock,
  held: row.held,
  foreignHolds: row.foreign_holds,
  holdCorrection: row.hold_correction,
  stockCorrection: row.stock_correction,
  reconcilingSince: row.reconciling_since,
  call: row.call,
  unanswered: row.unanswered,
  ambiguous: { tooMany: row.too_many, tooFew: row.too_few },
})

/**
 * One line of a product's history. `happened`: an unanswered call turned out to have happened. `seen`: a change that this service did not
 * make (`follow`, `unexplained`). The other results are those of a correction; `refused` includes a correction that was never sent.
 */
export interface Reconciliation {
  at: Date
  verb: StockVerb | 'follow' | 'unexplained'
  qty: number
  result: 'done' | 'refused' | 'unanswered' | 'seen' | 'happened'
  reason: 'stock-missing' | 'held-for-nobody' | 'hold-missing' | 'stock-extra' | null
}

const reconciliationRow = z.object({
  at: z.date(),
  verb: z.enum([...verb.options, 'follow', 'unexplained']),
  qty: z.int(),
  result: z.enum(['done', 'refused', 'unanswered', 'seen', 'happened']),
  reason: z.enum(['stock-missing', 'held-for-nobody', 'hold-missing', 'stock-extra']).nullable(),
})

/** @returns the latest first */
export async function readReconciliations(pool: Pool, productId: number, limit: number): Promise<readonly Reconciliation[]> {
  return pool.any(sql.type(reconciliationRow)`
    select at, verb, qty, result, reason from order_service.reconciliations
    where product_id = ${productId} order by at desc, id desc limit ${limit}`)
}

/**
 * Two explanations fitted Catalog's answer, and one was chosen. If the other is true, Catalog has since offered `tooMany` units too many,
 * or `tooFew` too few.
 */
export interface Ambiguity {
  productId: number
  tooMany: number
  tooFew: number
  explanation: string
  /** When an operator accepted Catalog's inventory; it no longer counts then. */
  acceptedAt: Date | null
  at: Date
}

const ambiguityRow = z.object({
  product_id: z.int(),
  too_many: z.int(),
  too_few: z.int(),
  explanation: z.string(),
  accepted_at: z.date().nullable(),
  at: z.date(),
})

/** Reads the ambiguities that the reaper has not pruned yet. @returns the latest first */
export async function readAmbiguities(pool: Pool, productIds: readonly number[]): Promise<Ambiguity[]> {
  const rows = await pool.any(sql.type(ambiguityRow)`
    select product_id, too_many, too_few, explanation, accepted_at, at from order_service.ambiguities
    where product_id = any(${int4s(productIds)}) order by id desc`)
  return rows.map((row) => ({
    productId: row.product_id,
    tooMany: row.too_many,
    tooFew: row.too_few,
    explanation: row.explanation,
    acceptedAt: row.accepted_at,
    at: row.at,
  }))
}

/** Reads the unpaid orders that hold a product, the latest first. If it is oversold, the customer of one of them must be told. */
export async function readHolders(
  pool: Pool,
  productId: number,
  limit: number,
): Promise<{ orderId: number; qty: number; createdAt: Date }[]> {
  const rows = await pool.any(sql.type(z.object({ id: z.int(), qty: z.int(), created_at: z.date() }))`
    with lines as materialized (  -- first: PostgreSQL does not know how rare the product is, and might go through all orders
      select order_id, sum(qty) as qty from public.order_items where product_id = ${productId} group by order_id
    )
    select o.id, l.qty, o.created_at from lines l join public.orders o on o.id = l.order_id
    where o.status = 'CREATED' order by o.id desc limit ${limit}`)
  return rows.map(({ id: orderId, created_at: createdAt, qty }) => ({ orderId, qty, createdAt }))
}

/**
 * The units that orders and open checkouts hold, by product. It reads every line of every unpaid order: 1.3 s for 600,000. Products
 * without a row are included.
 */
const sums = sql.fragment`
  sums as materialized (
    select product_id, sum(qty)::bigint as held from (
      select i.product_id, i.qty from public.order_items i join public.orders o on o.id = i.order_id where o.status = 'CREATED'
      union all
      select l.product_id, l.qty from order_service.checkouts c cross join lateral jsonb_to_recordset(c.lines) as l (product_id int, qty int)
      where c.state = 'OPEN' and c.recovery_point = 'reserve-stock') lines
    group by product_id
  )`

/** A product whose counter differs from the sum of its orders and open checkouts. */
export interface Miscount {
  productId: number
  counted: number
  held: number
}

/**
 * Compares the counters with the sums, and repairs them on demand. A repair moves the difference between `held` and `hold_correction`. A
 * change of an order updates counter and sum in one statement, so the difference does not depend on when the repair runs.
 */
export async function compareCounters(pool: Pool | Transaction, { repair }: { repair: boolean }): Promise<Miscount[]> {
  return pool.transaction(async (tx) => {
    // Two repairs at the same time would both add the difference.
    if (repair) await tx.query(sql.type(nothing)`select pg_advisory_xact_lock(hashtextextended('order_service.repair-counters', 0))`)
    const rows = await tx.any(sql.type(z.object({ product_id: z.int(), counted: z.int(), held: z.int() }))`
      with ${sums}, counts as materialized (
        select product_id, sum(held)::bigint as counted from (
          select product_id, held from order_service.products
          union all select product_id, held from order_service.product_changes) parts
        group by product_id
      ), wrong as materialized (
        select product_id, coalesce(c.counted, 0) as counted, coalesce(s.held, 0) as held from counts c full join sums s using (product_id)
        where coalesce(c.counted, 0) <> coalesce(s.held, 0)
      ), repaired as (
        insert into order_service.product_changes (product_id, held) select product_id, held - counted from wrong where ${repair}::bool
      )
      select product_id, counted, held from wrong order by product_id`)
    return rows.map((row) => ({ productId: row.product_id, counted: row.counted, held: row.held }))
  })
}

/**
 * Reads the units of each product that Catalog must hold for orders and open checkouts, by the sums. The units of a commit in progress, or
 * of an unanswered commit, may have left Catalog already and are not counted.
 */
export async function readHolds(pool: Pool): Promise<{ productId: number; held: number }[]> {
  const rows = await pool.any(sql.type(z.object({ product_id: z.int(), held: z.int() }))`
    with ${sums}, leaving as materialized (
      select product_id, sum(qty)::bigint as qty from (
        select product_id, call_qty as qty from order_service.products where call_verb = 'commit'
        union all select product_id, qty from order_service.unanswered_calls where verb = 'commit' and found is null) commits
      group by product_id
    )
    select product_id, s.held - coalesce(l.qty, 0)::bigint as held from sums s left join leaving l using (product_id)
    where s.held > coalesce(l.qty, 0) order by product_id`)
  return rows.map((row) => ({ productId: row.product_id, held: row.held }))
}

/** Sums for gauges, in units. Ages are in seconds, and 0 if there are none. */
export interface InventorySums {
  unreconciled: number
  oversold: number
  foreignHolds: number
  holdCorrection: number
  stockCorrection: number
  ambiguous: number
  unanswered: number
  oldestUnansweredSeconds: number
  longestReconcilingSeconds: number
}

const sumsRow = z.object({
  unreconciled: z.int(),
  oversold: z.int(),
  foreign_holds: z.int(),
  hold_correction: z.int(),
  stock_correction: z.int(),
  ambiguous: z.int(),
  unanswered: z.int(),
  oldest_unanswered: z.number(),
  longest_reconciling: z.number(),
})

/** One statement, run at each scrape. */
export async function readInventorySums(pool: Pool): Promise<InventorySums> {
  const row = await pool.one(sql.prepared('inventory-sums', sumsRow)`
    select count(*) as unreconciled, coalesce(sum(greatest(0, -foreign_holds) + greatest(0, -hold_correction)), 0)::bigint as oversold,
      (select coalesce(sum(foreign_holds), 0)::bigint from order_service.products where foreign_holds > 0) as foreign_holds,
      coalesce(sum(abs(hold_correction)), 0)::bigint as hold_correction, coalesce(sum(abs(stock_correction)), 0)::bigint as stock_correction,
      (select coalesce(sum(greatest(too_many, too_few)), 0)::bigint from order_service.ambiguities where accepted_at is null) as ambiguous,
      (select count(*) from order_service.unanswered_calls where found is null) as unanswered,
      (select greatest(coalesce(extract(epoch from now() - min(since)), 0), 0)::float8 from order_service.unanswered_calls
        where found is null) as oldest_unanswered,
      greatest(coalesce(extract(epoch from now() - min(reconciling_since)), 0), 0)::float8 as longest_reconciling
    from order_service.products
    where hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null`)
  return {
    unreconciled: row.unreconciled,
    oversold: row.oversold,
    foreignHolds: row.foreign_holds,
    holdCorrection: row.hold_correction,
    stockCorrection: row.stock_correction,
    ambiguous: row.ambiguous,
    unanswered: row.unanswered,
    oldestUnansweredSeconds: row.oldest_unanswered,
    longestReconcilingSeconds: row.longest_reconciling,
  }
}
