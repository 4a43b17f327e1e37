/**
 * Acquires the leases of products for calls, in one statement for all calls that are requested together (docs/stock.md).
 *
 * It waits for no row: a locked row is skipped, and only its product is requested again.
 */
import { type FragmentSqlToken, sql } from 'slonik'
import { z } from 'zod'
import type { ProductQty } from '../model.ts'
import type { Pool } from './pool.ts'
import { after, int4s, int8s } from './stock-calls.ts'

/** An attempt at a checkout (`id`: its order) or at a payment (`id`: its event), with what it wants of each product. */
export interface Member {
  id: number
  attempt: number
  products: readonly ProductQty[]
}

/**
 * `ready`: it is in the call. `recorded`: its hold is on record already. `unresolved`: an earlier call of it has no answer yet.
 * `locked`: another session has locked its row. `ended`: it no longer needs a call.
 */
export type MemberState = 'ready' | 'recorded' | 'unresolved' | 'locked' | 'ended'

/** A call that is requested, with its members. `check`: Catalog is to be read and corrected. */
export interface WantedCall {
  callId: number
  verb: 'reserve' | 'commit' | 'check'
  productIds: readonly number[]
  members: readonly Member[]
  /** A call of ours whose answer is known: its lease is taken over. */
  holds?: number | undefined
  /** Whether others of this process wait behind it: newcomers let them go first. */
  more: boolean
}

export interface AcquiredCall {
  isAcquired: boolean
  /** Products that have to be read at Catalog first: the call has no members yet. */
  checks: number[]
  /** Epoch ms, by PostgreSQL's clock. */
  expiresAt: number
  /** In the order of the request. Of two attempts at one checkout the older has ended. */
  members: MemberState[]
  /** Products without a row. */
  unknown: number[]
  /** Whether another session has locked one of their rows. */
  isLocked: boolean
}

const acquiredRow = z.object({
  g: z.int(),
  is_acquired: z.boolean(),
  checks: z.array(z.int()).nullable(),
  expires_at: z.date().nullable(),
  members: z
    .array(z.object({ id: z.int(), attempt: z.int(), state: z.enum(['ready', 'recorded', 'unresolved', 'locked', 'ended']) }))
    .nullable(),
  unknown: z.array(z.int()).nullable(),
  is_locked: z.boolean(),
})

/** The input: calls, the products of each, and what each member wants of them. */
function input(calls: readonly WantedCall[]): FragmentSqlToken {
  const grp = calls.map(({ callId, verb, holds, more }, g) => ({ g, call_id: callId, verb, holds: holds ?? null, more }))
  const want = calls.flatMap(({ productIds }, g) => productIds.map((product_id) => ({ g, product_id })))
  const item = calls.flatMap(({ members }, g) =>
    members.flatMap(({ id, attempt, products }) => products.map(({ productId, qty }) => ({ g, id, attempt, product_id: productId, qty }))),
  )
  return sql.fragment`
  grp as materialized (
    select * from jsonb_to_recordset(${JSON.stringify(grp)}::jsonb) as t (g int, call_id bigint, verb text, holds bigint, more boolean)
  ), want as materialized (
    select * from jsonb_to_recordset(${JSON.stringify(want)}::jsonb) as t (g int, product_id int)
  ), item as materialized (
    select * from jsonb_to_recordset(${JSON.stringify(item)}::jsonb) as t (g int, id bigint, attempt int, product_id int, qty bigint)
  )`
}

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

/** The state of each member. A member joins no other call until the result of its last one is known. */
const memberStates = sql.fragment`
  unresolved as materialized (
    select e.id from earlier e join item i on i.id = e.id join grp using (g)
    join order_service.products p on p.product_id = i.product_id and p.call_id = e.call_id
    where p.call_id is distinct from grp.holds
    union select e.id from earlier e join order_service.unanswered_calls u on u.call_id = e.call_id where u.found is null
  ), member as materialized (
    select m.g, m.id, m.attempt, case when l.id is null then 'locked' when l.attempt <> m.attempt then 'ended'
      when l.state = 'ready' and m.id in (select id from unresolved) then 'unresolved' else l.state end as state
    from (select distinct g, id, attempt from item) m left join lock l on l.id = m.id
  )`

interface Scope {
  by: string
  leaseMs: number
  /** Those of all calls. */
  productIds: readonly number[]
  /** Calls of ours whose leases are taken over. */
  holds: readonly number[]
}

/** Calls whose products are all free, or have expired leases. */
const freeCalls = ({ by, leaseMs, productIds, holds }: Scope) => sql.fragment`
  stock as materialized (
    select product_id, call_id, call_verb, call_qty, call_expires_at < clock_timestamp() as is_expired, expected_stock
    from order_service.products
    where product_id = any(${int4s(productIds)}) and (call_id is null or call_expires_at < clock_timestamp() or call_id = any(${int8s(holds)}))
      and (wanted_by is null or wanted_by = ${by} or wanted_until < clock_timestamp() or call_id = any(${int8s(holds)}))
    order by product_id for no key update skip locked
  ), fit as materialized (
    select w.g, array_agg(w.product_id) filter (where s.expected_stock is null or s.call_id is distinct from grp.holds and s.call_id is not null
      or exists (select from order_service.unanswered_calls u where u.product_id = w.product_id and u.found is null)) as checks
    from want w join grp using (g) left join stock s using (product_id) group by w.g
    having bool_and(s.product_id is not null and (s.call_id is null or s.is_expired or s.call_id is not distinct from grp.holds))
  ), acquired as materialized (
    select f.g, f.checks, grp.call_id, grp.holds, grp.more, case when f.checks is null then grp.verb else 'check' end as verb,
      ${after(leaseMs)} as expires_at
    from fit f join grp using (g)
    where grp.verb = 'check' or exists (
      select from member m where m.g = f.g and (m.state = 'ready' or m.state = 'unresolved' and f.checks is not null))
  ), inside as materialized (
    select m.g, m.id, m.attempt, t.call_id from member m join acquired t using (g) where m.state = 'ready' and t.verb <> 'check'
  )`

/** Writes the calls into the rows of their products. A call whose lease expired becomes an unanswered call. */
const lease = ({ by, productIds }: Scope) => sql.fragment`
  expired as (
    insert into order_service.unanswered_calls (call_id, product_id, verb, qty)
    select s.call_id, s.product_id, s.call_verb, s.call_qty from acquired t join want w using (g) join stock s using (product_id)
    where s.call_id is distinct from t.holds and s.call_verb <> 'check'
  ), leased as (
    update order_service.products p
    set call_id = t.call_id, call_verb = t.verb, call_expires_at = t.expires_at, call_by = ${by}, updated_at = now(),
      call_qty = (select coalesce(sum(i.qty), 0) from item i join inside using (g, id, attempt) where i.g = t.g and i.product_id = w.product_id),
      wanted_by = case when t.more then ${by} end, wanted_until = case when t.more then ${after(1000)} end,
      reconciling_since = case when t.verb = 'check' then coalesce(p.reconciling_since, now()) else p.reconciling_since end
    from acquired t join want w using (g) where p.product_id = w.product_id and p.product_id = any(${int4s(productIds)})
  )`

/** Marks busy products as ours next: no intent acquires them, and the process that has them leaves them to us. */
const markWanted = ({ by, holds }: Scope) => sql.fragment`
  busy as materialized (
    select product_id from order_service.products
    where product_id = any(array(select product_id from want where g not in (select g from fit)))
      and call_expires_at >= clock_timestamp() and call_id <> all(${int8s(holds)})
      and (wanted_by is null or wanted_by in (call_by, ${by}) or wanted_until < clock_timestamp())
    order by product_id for no key update skip locked
  ), marked as (
    update order_service.products set wanted_by = ${by}, wanted_until = ${after(1000)}
    where product_id = any(array(select product_id from busy))
  )`

/** Writes the call into the rows of its members. */
const joinCheckouts = sql.fragment`
  joined as (update order_service.checkouts c set call_id = i.call_id from inside i where c.order_id = i.id)`
const joinPayments = sql.fragment`
  joined as (update order_service.payment_events c set call_id = i.call_id from inside i where c.id = i.id)`

/**
 * Acquires the leases of each call's products, or none of them, and records its members, before anything is sent. An expired lease is
 * taken over: its call becomes an unanswered one in the same statement.
 * @param by this process; products that others wait for are left to them
 * @param leaseMs how long a lease lasts
 */
export async function acquireCalls(
  pool: Pool,
  calls: readonly WantedCall[],
  { by, leaseMs }: { by: string; leaseMs: number },
): Promise<AcquiredCall[]> {
  const isCommit = calls.some(({ verb }) => verb === 'commit')
  const ids = calls.flatMap(({ members }) => members.map(({ id }) => id))
  const productIds = [...new Set(calls.flatMap((call) => call.productIds))]
  const scope: Scope = { by, leaseMs, productIds, holds: calls.flatMap(({ holds }) => holds ?? []) }
  const rows = await pool.any(sql.prepared(isCommit ? 'acquire-commits' : 'acquire-reserves', acquiredRow)`
    with ${input(calls)}, ${isCommit ? paymentMembers(ids) : checkoutMembers(ids)}, ${memberStates},
    ${freeCalls(scope)}, ${lease(scope)}, ${isCommit ? joinPayments : joinCheckouts}, ${markWanted(scope)}
    select grp.g, t.g is not null as is_acquired, t.checks, t.expires_at,
      (select jsonb_agg(jsonb_build_object('id', m.id, 'attempt', m.attempt, 'state', m.state)) from member m where m.g = grp.g) as members,
      (select array_agg(w.product_id) from want w where w.g = grp.g and t.g is null
        and not exists (select from order_service.products p where p.product_id = w.product_id)) as unknown,
      f.g is null and exists (select from want w join order_service.products p using (product_id)
        where w.g = grp.g and (p.call_id is null or p.call_expires_at < clock_timestamp())
          and p.product_id not in (select product_id from stock)) as is_locked
    from grp left join acquired t using (g) left join fit f using (g) order by grp.g`)
  return rows.map((row, g) => ({
    isAcquired: row.is_acquired,
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
