/**
 * The one call to Catalog that may be under way on a product: its row in `order_service.products` is the lease (docs/stock.md). Whoever
 * takes it writes the call into the row before it is sent; what became of the call is written by the statement that clears it.
 *
 * No statement here waits for a row: one that somebody keeps locked is passed over, and its product alone is asked for again.
 */
import { type FragmentSqlToken, sql } from 'slonik'
import { z } from 'zod'
import type { ProductQty, StockVerb } from '../model.ts'
import { nothing, type Pool, type Transaction } from './pool.ts'

/** An attempt at a checkout (`id`: its order) or at a payment (`id`: its event), with what it wants of each product. */
export interface Member {
  id: number
  attempt: number
  products: readonly ProductQty[]
}

/**
 * `ready`: it is in the call. `recorded`: its hold is on record already. `unresolved`: an earlier call of it has no answer yet.
 * `locked`: somebody has its row. `ended`: there is nothing left to call for.
 */
export type MemberState = 'ready' | 'recorded' | 'unresolved' | 'locked' | 'ended'

/** A call that is wished for, with those who would be in it; `check`: Catalog is to be read, and put right. */
export interface WantedCall {
  callId: number
  verb: 'reserve' | 'commit' | 'check'
  productIds: readonly number[]
  members: readonly Member[]
  /** A call of ours whose answer is known: its lease is taken over. */
  holds?: number | undefined
  /** Others of this process wait behind it: newcomers let them go first. */
  more: boolean
}

export interface TakenCall {
  isTaken: boolean
  /** Products that have to be read at Catalog before anything is called for: nobody is in the call yet. */
  checks: number[]
  /** Epoch ms, by PostgreSQL's clock. */
  expiresAt: number
  /** In the order in which they were asked for: of two attempts at one the older has ended. */
  members: MemberState[]
  /** Products without a row. */
  unknown: number[]
  /** Whether somebody keeps a row of them locked. */
  isLocked: boolean
}

/** What a call changes at Catalog, a unit. */
export const effects: Record<StockVerb, { hold: -1 | 0 | 1; stock: -1 | 0 | 1 }> = {
  reserve: { hold: 1, stock: 0 },
  release: { hold: -1, stock: 0 },
  commit: { hold: -1, stock: -1 },
  restock: { hold: 0, stock: 1 },
}

const takenRow = z.object({
  g: z.int(),
  is_taken: z.boolean(),
  checks: z.array(z.int()).nullable(),
  expires_at: z.date().nullable(),
  members: z
    .array(z.object({ id: z.int(), attempt: z.int(), state: z.enum(['ready', 'recorded', 'unresolved', 'locked', 'ended']) }))
    .nullable(),
  unknown: z.array(z.int()).nullable(),
  is_locked: z.boolean(),
})
const productRow = z.object({ product_id: z.int() })

export const int4s = (values: readonly number[]) => sql.array([...values], 'int4')
export const int8s = (values: readonly number[]) => sql.array([...values], 'int8')
const after = (ms: number) => sql.fragment`clock_timestamp() + ${ms}::float8 * interval '1 ms'`

/** Checkouts that may be in a call to reserve. A member's own row is locked before its products are. */
const checkoutMembers = (ids: readonly number[]) => sql.fragment`
  lock as materialized (
    select order_id as id, order_id, attempt, case when state <> 'OPEN' or deadline_at <= clock_timestamp() then 'ended'
      when recovery_point = 'reserve-stock' then 'recorded' else 'ready' end as state
    from order_service.checkouts where order_id = any(${int4s(ids)}) order by order_id for no key update skip locked
  ), earlier as materialized (
    select order_id as id, call_id from order_service.checkouts where order_id = any(${int4s(ids)}) and call_id is not null
  )`

/** Payments that may be in a call to commit: of several events of one order the first. */
const paymentMembers = (ids: readonly number[]) => sql.fragment`
  event as materialized (
    select id, order_id, attempt, state from order_service.payment_events
    where id = any(${int8s(ids)}) order by id for no key update skip locked
  ), ordered as materialized (
    select id, status from public.orders
    where id = any(array(select order_id from event)) order by id for no key update skip locked
  ), lock as materialized (
    select e.id, e.order_id, e.attempt, case when e.state <> 'WAITING' or o.status <> 'CREATED' then 'ended'
      when e.id > min(e.id) over (partition by e.order_id) then 'unresolved' else 'ready' end as state
    from event e join ordered o on o.id = e.order_id
  ), earlier as materialized (
    select l.id, b.call_id from lock l join order_service.payment_events b on b.order_id = l.order_id where b.call_id is not null
  )`

/**
 * Takes the leases of each call's products, or none of them, and writes down who is in it, before anything is sent. A lease that ran out
 * is taken over: its call becomes an unanswered one in the same statement.
 * @param by this process; products that others wait for are left to them
 * @param leaseMs how long a lease lasts
 */
export async function takeCalls(
  pool: Pool,
  calls: readonly WantedCall[],
  { by, leaseMs }: { by: string; leaseMs: number },
): Promise<TakenCall[]> {
  const isCommit = calls.some(({ verb }) => verb === 'commit')
  const ids = calls.flatMap(({ members }) => members.map(({ id }) => id))
  const holds = calls.flatMap((call) => call.holds ?? [])
  const input = JSON.stringify(
    calls.map(({ callId, verb, holds: held, more }, g) => ({ g, call_id: callId, verb, holds: held ?? null, more })),
  )
  const wants = JSON.stringify(calls.flatMap(({ productIds }, g) => productIds.map((product_id) => ({ g, product_id }))))
  const items = JSON.stringify(
    calls.flatMap(({ members }, g) =>
      members.flatMap(({ id, attempt, products }) =>
        products.map(({ productId, qty }) => ({ g, id, attempt, product_id: productId, qty })),
      ),
    ),
  )
  const productIds = int4s([...new Set(calls.flatMap((call) => call.productIds))])
  const [members, joined] = isCommit
    ? [paymentMembers(ids), sql.fragment`update order_service.payment_events c set call_id = i.call_id from inside i where c.id = i.id`]
    : [checkoutMembers(ids), sql.fragment`update order_service.checkouts c set call_id = i.call_id from inside i where c.order_id = i.id`]
  const rows = await pool.any(sql.prepared(isCommit ? 'take-commits' : 'take-reserves', takenRow)`
    with grp as materialized (
      select * from jsonb_to_recordset(${input}::jsonb) as t (g int, call_id bigint, verb text, holds bigint, more boolean)
    ), want as materialized (
      select * from jsonb_to_recordset(${wants}::jsonb) as t (g int, product_id int)
    ), item as materialized (
      select * from jsonb_to_recordset(${items}::jsonb) as t (g int, id bigint, attempt int, product_id int, qty bigint)
    ), ${members}, unresolved as materialized (  -- it is in no other call until what became of its last one is known
      select e.id from earlier e join item i on i.id = e.id join grp using (g)
      join order_service.products p on p.product_id = i.product_id and p.call_id = e.call_id
      where p.call_id is distinct from grp.holds
      union select e.id from earlier e join order_service.unanswered_calls u on u.call_id = e.call_id where u.found is null
    ), member as materialized (
      select m.g, m.id, m.attempt, case when l.id is null then 'locked' when l.attempt <> m.attempt then 'ended'
        when l.state = 'ready' and m.id in (select id from unresolved) then 'unresolved' else l.state end as state
      from (select distinct g, id, attempt from item) m left join lock l on l.id = m.id
    ), stock as materialized (
      select product_id, call_id, call_verb, call_qty, call_expires_at < clock_timestamp() as is_expired, expected_stock
      from order_service.products
      where product_id = any(${productIds}) and (call_id is null or call_expires_at < clock_timestamp() or call_id = any(${int8s(holds)}))
        and (wanted_by is null or wanted_by = ${by} or wanted_until < clock_timestamp() or call_id = any(${int8s(holds)}))
      order by product_id for no key update skip locked
    ), fit as materialized (
      select w.g, array_agg(w.product_id) filter (where s.expected_stock is null or s.call_id is distinct from grp.holds and s.call_id is not null
        or exists (select from order_service.unanswered_calls u where u.product_id = w.product_id and u.found is null)) as checks
      from want w join grp using (g) left join stock s using (product_id) group by w.g
      having bool_and(s.product_id is not null and (s.call_id is null or s.is_expired or s.call_id is not distinct from grp.holds))
    ), taken as materialized (
      select f.g, f.checks, grp.call_id, grp.holds, grp.more, case when f.checks is null then grp.verb else 'check' end as verb,
        ${after(leaseMs)} as expires_at
      from fit f join grp using (g)
      where grp.verb = 'check' or exists (
        select from member m where m.g = f.g and (m.state = 'ready' or m.state = 'unresolved' and f.checks is not null))
    ), inside as materialized (
      select m.g, m.id, m.attempt, t.call_id from member m join taken t using (g) where m.state = 'ready' and t.verb <> 'check'
    ), expired as (
      insert into order_service.unanswered_calls (call_id, product_id, verb, qty)
      select s.call_id, s.product_id, s.call_verb, s.call_qty from taken t join want w using (g) join stock s using (product_id)
      where s.call_id is distinct from t.holds and s.call_verb <> 'check'
    ), leased as (
      update order_service.products p
      set call_id = t.call_id, call_verb = t.verb, call_expires_at = t.expires_at, call_by = ${by}, updated_at = now(),
        call_qty = (select coalesce(sum(i.qty), 0) from item i join inside using (g, id, attempt) where i.g = t.g and i.product_id = w.product_id),
        wanted_by = case when t.more then ${by} end, wanted_until = case when t.more then ${after(1000)} end,
        reconciling_since = case when t.verb = 'check' then coalesce(p.reconciling_since, now()) else p.reconciling_since end
      from taken t join want w using (g) where p.product_id = w.product_id and p.product_id = any(${productIds})
    ), joined as (
      ${joined}
    ), busy as materialized (  -- it is our turn next: no request takes it with its intent, and who has it now leaves it to us
      select product_id from order_service.products
      where product_id = any(array(select product_id from want where g not in (select g from fit)))
        and call_expires_at >= clock_timestamp() and call_id <> all(${int8s(holds)})
        and (wanted_by is null or wanted_by in (call_by, ${by}) or wanted_until < clock_timestamp())
      order by product_id for no key update skip locked
    ), marked as (
      update order_service.products set wanted_by = ${by}, wanted_until = ${after(1000)}
      where product_id = any(array(select product_id from busy))
    )
    select grp.g, t.g is not null as is_taken, t.checks, t.expires_at,
      (select jsonb_agg(jsonb_build_object('id', m.id, 'attempt', m.attempt, 'state', m.state)) from member m where m.g = grp.g) as members,
      (select array_agg(w.product_id) from want w where w.g = grp.g and t.g is null
        and not exists (select from order_service.products p where p.product_id = w.product_id)) as unknown,
      f.g is null and exists (select from want w join order_service.products p using (product_id)
        where w.g = grp.g and (p.call_id is null or p.call_expires_at < clock_timestamp())
          and p.product_id not in (select product_id from stock)) as is_locked
    from grp left join taken t using (g) left join fit f using (g) order by grp.g`)
  return rows.map((row, g) => ({
    isTaken: row.is_taken,
    checks: row.checks ?? [],
    expiresAt: row.expires_at?.getTime() ?? 0,
    members: statesOf(calls[g]!.members, row.members ?? []),
    unknown: row.unknown ?? [],
    isLocked: row.is_locked,
  }))
}

/** Two attempts at one checkout may wait in one process: each has a state of its own. */
function statesOf(members: readonly Member[], states: readonly { id: number; attempt: number; state: MemberState }[]): MemberState[] {
  const byAttempt = new Map(states.map(({ id, attempt, state }) => [`${id} ${attempt}`, state]))
  return members.map(({ id, attempt }) => byAttempt.get(`${id} ${attempt}`) ?? 'locked')
}

/** Products that nobody has asked for yet get a row, so that there is something to take. */
export async function addProducts(pool: Pool, productIds: readonly number[]): Promise<void> {
  await pool.query(sql.prepared('add-products', nothing)`
    insert into order_service.products (product_id) select unnest(${int4s(productIds)}) order by 1 on conflict do nothing`)
}

/** The next call under a lease that we have: it is written down before it is sent. */
export interface NextCall {
  callId: number
  verb: StockVerb | 'check'
  qty: number
}

/**
 * Goes on under the lease of `callId`: with another call, or (`next` is undefined) with the same one for as long again.
 * @param isUnanswered what became of `callId` is not known: it is written down as such
 * @returns when the lease ends, in epoch ms; undefined where it is not ours any more on one of the products, or somebody has its row
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
 * Calls that certainly did not happen: refused, or never sent. A lease that is not ours any more stays as it is.
 * @returns false where somebody has a row: it is to be said again, or the product waits for the end of the lease
 */
export async function releaseCalls(pool: Pool, calls: readonly { callId: number; productIds: readonly number[] }[]): Promise<boolean> {
  const input = JSON.stringify(
    calls.flatMap(({ callId: call_id, productIds }) => productIds.map((product_id) => ({ call_id, product_id }))),
  )
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

/** Catalog stops at 0: by so much a commit lowers `reserved` less than its quantity. */
const notLowered = (committed: FragmentSqlToken) =>
  sql.fragment`greatest(0, ${committed} - greatest(0, p.held + p.foreign_holds + p.hold_correction))`
/** So much of that were holds that Catalog had lost: they are missing no longer. The rest was held for nobody, and never there. */
const notMissing = (committed: FragmentSqlToken) => sql.fragment`least(${notLowered(committed)}, greatest(0, -p.foreign_holds))`
const committedNow = sql.fragment`case p.call_verb when 'commit' then p.call_qty else 0 end`
const committedLate = sql.fragment`s.committed`

/**
 * Three parts of a statement that puts on record that calls happened: units go to those who wanted them (`share`), and what is left over
 * to the corrections. Where a row is not the call's any more, or somebody has it, the same is kept in `product_changes`, for whoever has
 * the product next. Before it: `part (call_id, product_id)` and `share (call_id, product_id, held, expected_stock)`. A share of a product
 * that is no part leaves open whether the call happened there.
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
 * Takes what is kept in `product_changes` over into the product's row. A call that is known to have happened counts once: where its row
 * still has it, or where it is among the unanswered ones.
 * @returns false where somebody has the row: it is to be tried again
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
