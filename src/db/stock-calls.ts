/**
 * The one call to Catalog that may be in flight on a product: its row in `order_service.products` is the lease (docs/stock.md). The call
 * is written into the row before it is sent (`acquire-calls.ts`). The statement that clears the call records its result.
 *
 * No statement here waits for a row: a locked row is skipped, and only its product is requested again.
 */
import { type FragmentSqlToken, sql } from 'slonik'
import { z } from 'zod'
import type { StockVerb } from '../model.ts'
import { nothing, type Pool, type Transaction } from './pool.ts'

/** What a call changes at Catalog, per unit. */
export const effects: Record<StockVerb, { hold: -1 | 0 | 1; stock: -1 | 0 | 1 }> = {
  reserve: { hold: 1, stock: 0 },
  release: { hold: -1, stock: 0 },
  commit: { hold: -1, stock: -1 },
  restock: { hold: 0, stock: 1 },
}

const productRow = z.object({ product_id: z.int() })

export const int4s = (values: readonly number[]) => sql.array([...values], 'int4')
export const int8s = (values: readonly number[]) => sql.array([...values], 'int8')
/** By PostgreSQL's clock. */
export const after = (ms: number) => sql.fragment`clock_timestamp() + ${ms}::float8 * interval '1 ms'`

/** @returns JSON for a recordset `(call_id, product_id)` */
export const productsOfCalls = (calls: readonly { callId: number; productIds: readonly number[] }[]): string =>
  JSON.stringify(calls.flatMap(({ callId: call_id, productIds }) => productIds.map((product_id) => ({ call_id, product_id }))))

/** Adds rows for products that are requested for the first time, so that they can be leased. */
export async function addProducts(pool: Pool, productIds: readonly number[]): Promise<void> {
  await pool.query(sql.prepared('add-products', nothing)`
    insert into order_service.products (product_id) select unnest(${int4s(productIds)}) order by 1 on conflict do nothing`)
}

/** The next call under a lease that this process has. It is recorded before it is sent. */
export interface NextCall {
  callId: number
  verb: StockVerb | 'check'
  qty: number
}

/**
 * Continues the lease of `callId` with another call, or (`next` is undefined) renews it for the same call.
 * @param isUnanswered `callId` got no answer: it is recorded as an unanswered call
 * @returns when the lease ends, in epoch ms; undefined where the lease of a product is lost, or its row is locked
 */
export async function continueCall(
  pool: Pool,
  { callId, productIds }: { callId: number; productIds: readonly number[] },
  { next, isUnanswered = false, leaseMs }: { next?: NextCall; isUnanswered?: boolean; leaseMs: number },
): Promise<number | undefined> {
  const row = await pool.maybeOne(sql.prepared('continue-call', z.object({ expires_at: z.date() }))`
    with mine as materialized (
      select product_id, call_verb, call_qty from order_service.products
      where product_id = any(${int4s(productIds)}) and call_id = ${callId} order by product_id for no key update skip locked
    ), whole as materialized (
      select product_id, call_verb, call_qty, ${after(leaseMs)} as expires_at from mine
      where (select count(*) from mine) = ${productIds.length}::int
    ), unanswered as (
      insert into order_service.unanswered_calls (call_id, product_id, verb, qty)
      select ${callId}, product_id, call_verb, call_qty from whole where ${isUnanswered} and call_verb <> 'check'
    ), leased as (
      update order_service.products p
      set call_id = ${next?.callId ?? callId}, call_verb = coalesce(${next?.verb ?? null}, w.call_verb),
        call_qty = coalesce(${next?.qty ?? null}::bigint, w.call_qty), call_expires_at = w.expires_at, updated_at = now()
      from whole w where p.product_id = w.product_id
    )
    select expires_at from whole limit 1`)
  return row?.expires_at.getTime()
}

/**
 * Releases calls that certainly did not happen: refused, or never sent. A lease that is lost stays as it is.
 * @returns false where a row is locked: the caller tries again, or the product waits until the lease expires
 */
export async function releaseCalls(pool: Pool, calls: readonly { callId: number; productIds: readonly number[] }[]): Promise<boolean> {
  const input = productsOfCalls(calls)
  const productIds = int4s([...new Set(calls.flatMap((call) => call.productIds))])
  const missed = await pool.any(sql.prepared('release-calls', productRow)`
    with ours as materialized (
      select product_id from order_service.products join jsonb_to_recordset(${input}::jsonb) as t (call_id bigint, product_id int)
        using (product_id, call_id)
      where product_id = any(${productIds})
    ), free as materialized (
      select product_id from order_service.products p join jsonb_to_recordset(${input}::jsonb) as t (call_id bigint, product_id int)
        using (product_id, call_id)
      where product_id = any(${productIds}) order by product_id for no key update of p skip locked
    ), released as (
      update order_service.products set ${cleared}, updated_at = now() where product_id = any(array(select product_id from free))
    )
    select product_id from ours where product_id not in (select product_id from free)`)
  return missed.length === 0
}

export const cleared = sql.fragment`call_id = null, call_verb = null, call_qty = null, call_expires_at = null, call_by = null`

const holdEffect = (verb: FragmentSqlToken) =>
  sql.fragment`case ${verb} when 'reserve' then 1 when 'commit' then -1 when 'release' then -1 else 0 end`
const stockEffect = (verb: FragmentSqlToken) => sql.fragment`case ${verb} when 'commit' then -1 when 'restock' then 1 else 0 end`

/** Catalog's `reserved` stops at 0: the units by which a commit lowers it less than its quantity. */
const notLowered = (committed: FragmentSqlToken) =>
  sql.fragment`greatest(0, ${committed} - greatest(0, p.held + p.foreign_holds + p.hold_correction))`
/** How many of those were holds that Catalog had lost, and that are no longer missing. The rest belonged to no order. */
const notMissing = (committed: FragmentSqlToken) => sql.fragment`least(${notLowered(committed)}, greatest(0, -p.foreign_holds))`
const committedNow = sql.fragment`case p.call_verb when 'commit' then p.call_qty else 0 end`
const committedLate = sql.fragment`s.committed`

/**
 * Three parts of a statement that records that calls happened. Units go to the members (`share`), and the rest to the corrections. Where
 * the row has another call by now, or is locked, the change is kept in `product_changes` and applied later. The statement must define
 * `part (call_id, product_id)` and `share (call_id, product_id, held, expected_stock)` before. A share whose product is no part leaves
 * open whether the call happened there.
 * @param productIds those of all calls
 */
export const recordCalls = (productIds: readonly number[]) => sql.fragment`
  stock as materialized (
    select product_id from order_service.products where product_id = any(${int4s(productIds)}) order by product_id for no key update skip locked
  ), direct as (
    update order_service.products p
    set held = p.held + coalesce(s.held, 0),
      hold_correction = p.hold_correction + ${holdEffect(sql.fragment`p.call_verb`)} * p.call_qty - coalesce(s.held, 0)
        + ${notLowered(committedNow)} - ${notMissing(committedNow)},
      expected_stock = p.expected_stock + coalesce(s.expected_stock, 0),
      stock_correction = p.stock_correction + ${stockEffect(sql.fragment`p.call_verb`)} * p.call_qty - coalesce(s.expected_stock, 0),
      foreign_holds = p.foreign_holds + ${notMissing(committedNow)},
      ${cleared}, updated_at = now()
    from part left join share s using (call_id, product_id)
    where p.product_id = part.product_id and p.call_id = part.call_id and p.product_id = any(array(select product_id from stock))
    returning p.product_id, part.call_id
  ), late as (
    insert into order_service.product_changes (product_id, call_id, held, expected_stock)
    select product_id, case when is_part then call_id end, coalesce(s.held, 0), coalesce(s.expected_stock, 0)
    from (select call_id, product_id, true as is_part from part) p full join share s using (call_id, product_id)
    where (call_id, product_id) not in (select call_id, product_id from direct)
    returning product_id
  )`

/**
 * Applies the changes in `product_changes` to the product's row. A call that is known to have happened counts once: where the row still
 * has it, or where it is among the unanswered calls.
 * @returns false where the row is locked: the caller tries again
 */
export async function applyChanges(db: Pool | Transaction, productId: number): Promise<boolean> {
  const rows = await db.any(sql.prepared('apply-changes', productRow)`
    with mine as materialized (
      select product_id, call_id, call_verb, call_qty from order_service.products where product_id = ${productId} for no key update skip locked
    ), gone as materialized (
      delete from order_service.product_changes where product_id = any(array(select product_id from mine))
      returning call_id, held, expected_stock
    ), late as (
      update order_service.unanswered_calls u set found = 'happened', checked_at = clock_timestamp()
      where u.product_id = ${productId} and u.call_id = any(array(select call_id from gone)) and u.found is distinct from 'happened'
      returning u.verb, u.qty
    ), happened as (
      select verb, qty from late
      union all select call_verb, call_qty from mine where call_id = any(array(select call_id from gone))
    ), sums as (
      select (select coalesce(sum(held), 0) from gone)::bigint as held, (select coalesce(sum(expected_stock), 0) from gone)::bigint as expected,
        coalesce(sum(${holdEffect(sql.fragment`verb`)} * qty), 0)::bigint as hold, coalesce(sum(${stockEffect(sql.fragment`verb`)} * qty), 0)::bigint as stock,
        coalesce(sum(qty) filter (where verb = 'commit'), 0)::bigint as committed
      from happened
    ), changed as (
      update order_service.products p
      set held = p.held + s.held,
        hold_correction = p.hold_correction + s.hold - s.held + ${notLowered(committedLate)} - ${notMissing(committedLate)},
        expected_stock = p.expected_stock + s.expected, stock_correction = p.stock_correction + s.stock - s.expected,
        foreign_holds = p.foreign_holds + ${notMissing(committedLate)},
        call_id = case when is_over then null else p.call_id end, call_verb = case when is_over then null else p.call_verb end,
        call_qty = case when is_over then null else p.call_qty end, call_expires_at = case when is_over then null else p.call_expires_at end,
        call_by = case when is_over then null else p.call_by end, updated_at = now()
      from sums s, (select coalesce(call_id = any(array(select call_id from gone)), false) as is_over from mine) m
      where p.product_id = ${productId} and exists (select from gone)
    )
    select product_id from mine`)
  return rows.length > 0
}
