/**
 * Finds orders for operators. Each statement is driven by an index, and reads at most {@link SCAN} candidates of each source: a search of
 * a million orders never reads them all. A page that ends at that bound says where the next one continues.
 */
import { type FragmentSqlToken, sql } from 'slonik'
import { z } from 'zod'
import { type Cause, causes, type ServiceName, services } from '../causes.ts'
import { MAX_INTEGER } from '../model.ts'
import type { Pool } from './pool.ts'

/** The most candidates that a statement reads of a source. Each costs up to three reads by primary key. */
const SCAN = 3000

/** All conditions hold together. */
export interface OrderConditions {
  /** An order id, an email, an idempotency key, or the id of a payment. */
  q?: string | undefined
  /** Of the order or, where there is none, of its checkout. */
  state?: string | undefined
  cause?: Cause | undefined
  service?: ServiceName | undefined
  productId?: number | undefined
  olderThanMs?: number | undefined
}

const foundRow = z.object({
  id: z.int(),
  state: z.string(),
  email: z.string().nullable(),
  total_cents: z.int(),
  currency: z.string(),
  created_at: z.date(),
  cause: z.string().nullable(),
  service: z.string().nullable(),
})
/** An empty page is one row of nulls. */
const pageRow = z.union([foundRow.extend({ floor: z.int() }), z.object({ floor: z.int(), id: z.null() })])
export type FoundOrder = z.infer<typeof foundRow>

/**
 * A select of order ids, and of whether each fits as far as its own row tells. `most`: it has the highest ids, up to so many; undefined: it
 * has all.
 */
interface Source {
  rows: FragmentSqlToken
  most?: number
}

type Conditions = Omit<OrderConditions, 'q' | 'olderThanMs'>

/**
 * @param before orders with lower ids only
 * @returns the orders with the highest ids first, and the id before which the next page continues; null: there are no more
 */
export async function findOrders(
  pool: Pool,
  conditions: OrderConditions,
  { before = MAX_INTEGER, limit }: { before?: number | undefined; limit: number },
): Promise<{ rows: FoundOrder[]; next: number | null }> {
  const { olderThanMs } = conditions
  const below = olderThanMs === undefined ? before : Math.min(before, (await lastBefore(pool, olderThanMs)) + 1)
  const sources = await sourcesOf(pool, conditions, { below, limit })
  const rows = await pool.any(sql.type(pageRow)`${statement(sources, conditions, limit)}`)
  const found = rows.filter((row) => row.id !== null)
  const floor = rows[0]?.floor ?? 0
  if (found.length > limit) return { rows: found.slice(0, limit), next: found[limit - 1]!.id }
  return { rows: found, next: floor > 0 ? floor : null }
}

/** The sources of a search: its most selective condition. */
async function sourcesOf(
  pool: Pool,
  conditions: OrderConditions,
  { below, limit }: { below: number; limit: number },
): Promise<readonly Source[]> {
  const { q, cause, service, productId } = conditions
  if (q !== undefined) return named(q, below)
  if (cause !== undefined) return byCause(cause, conditions, below, isOfCauseAlone(conditions) ? limit + 1 : SCAN)
  if (service !== undefined) return causesOfServices.flatMap((one) => byCause(one, conditions, below, SCAN))
  if (productId !== undefined && !(await isHot(pool, productId)))
    return [ordersWith(productId, below), ...byState(conditions, below, SCAN).filter(({ isOfOrders }) => !isOfOrders)]
  const isFiltered = Object.values(conditions).some((one) => one !== undefined)
  return byState(conditions, below, isFiltered ? SCAN : limit + 1)
}

/** Exact matches, all read: the id of an order or payment, a customer, or a key. */
function named(q: string, below: number): Source[] {
  const id = /^\d+$/.test(q) && Number(q) <= MAX_INTEGER ? Number(q) : 0
  const emails = sql.array([...new Set([q, q.toLowerCase()])], 'text')
  return [
    whole(sql.fragment`select ${id}::int as id where ${id}::int between 1 and ${below - 1}`),
    whole(sql.fragment`select id from public.orders where user_email = any(${emails}) and id < ${below}`),
    whole(sql.fragment`select order_id as id from order_service.checkouts where user_email = any(${emails}) and order_id < ${below}`),
    whole(sql.fragment`select order_id as id from order_service.checkouts
      where idempotency_key = ${q} and idempotency_key not like 'cart %' and order_id < ${below}`),
    whole(sql.fragment`select order_id as id from order_service.payment_events where payment_id = ${q} and order_id < ${below}`),
  ]
}

/** Not in the order of ids: a product with more than {@link SCAN} orders is searched by other means, a customer with more is cut. */
const whole = (ids: FragmentSqlToken): Source => ({ rows: sql.fragment`select id, true as fits from (${ids} limit ${SCAN}) found` })

const both = (parts: readonly (FragmentSqlToken | false)[]) =>
  sql.join([sql.fragment`true`, ...parts.filter((part) => part !== false)], sql.fragment` and `)

/** States are literal text, since they are conditions of partial indexes. */
const checkoutsIn = {
  OPEN: sql.fragment`state = 'OPEN'`,
  REJECTED: sql.fragment`state = 'REJECTED'`,
  CANCELLED: sql.fragment`state = 'CANCELLED'`,
}

function checkouts(where: FragmentSqlToken, { state, service, productId }: Conditions, below: number, most = SCAN): Source {
  const fits = both([
    state !== undefined && sql.fragment`state = ${state}`,
    service !== undefined && sql.fragment`coalesce(service, '~') = ${service}`,
    productId !== undefined && sql.fragment`lines @> ${JSON.stringify([{ product_id: productId }])}::jsonb`,
  ])
  return {
    most,
    rows: sql.fragment`select order_id as id, ${fits} as fits from (
      select order_id, state, service, lines from order_service.checkouts
      where ${where} and order_id < ${below} order by order_id desc limit ${most}) c`,
  }
}

/** `offset 0`: the lines of each order are read by its id. */
const hasProduct = (orderId: FragmentSqlToken, productId: number) => sql.fragment`coalesce((
      select true from (select product_id from public.order_items where order_id = ${orderId} offset 0) i
      where product_id = ${productId} limit 1), false)`

function orders({ state, productId }: Conditions, below: number, most: number): Source {
  const fits = both([
    state !== undefined && sql.fragment`status = ${state}`,
    productId !== undefined && hasProduct(sql.fragment`o.id`, productId),
  ])
  return {
    most,
    rows: sql.fragment`select id, ${fits} as fits from (
      select id, status from public.orders where id < ${below} order by id desc limit ${most}) o`,
  }
}

function payments(where: FragmentSqlToken, { state, productId }: Conditions, below: number, most: number): Source {
  const fits = both([
    state !== undefined && sql.fragment`coalesce((select status from public.orders where id = e.id) = ${state}, true)`,
    productId !== undefined && hasProduct(sql.fragment`e.id`, productId),
  ])
  return {
    most,
    rows: sql.fragment`select id, ${fits} as fits from (
      select order_id as id from order_service.payment_events
      where state = 'WAITING' and ${where} and order_id < ${below} order by order_id desc limit ${most}) e`,
  }
}

/** The causes that are recorded with a service. */
const causesOfServices = (Object.keys(causes) as Cause[]).filter((cause) => cause.startsWith('downstream-'))

/** Whether all rows of the sources of a cause fit, so that a page of each is enough. */
const isOfCauseAlone = ({ state, service, productId, olderThanMs }: OrderConditions) =>
  [state, service, productId, olderThanMs].every((one) => one === undefined)

/** As in the indexes: `'~'` stands for no service. A source for each service, so that each is in the order of ids. */
function byCause(cause: Cause, conditions: Conditions, below: number, most: number): Source[] {
  const { service, state } = conditions
  const names = service === undefined ? ['~', ...services] : [service]
  const is = (one: string) => state === undefined || state === one
  const ofService = (name: string) => sql.fragment`cause = ${cause} and coalesce(service, '~') = ${name}`
  const open = names.map((name) => checkouts(sql.fragment`${checkoutsIn.OPEN} and ${ofService(name)}`, conditions, below, most))
  const ended = (['REJECTED', 'CANCELLED'] as const)
    .filter(is)
    .map((one) => checkouts(sql.fragment`${checkoutsIn[one]} and cause = ${cause}`, conditions, below, most))
  return [...(is('OPEN') ? open : []), ...ended, ...names.map((name) => payments(ofService(name), conditions, below, most))]
}

function byState(conditions: Conditions, below: number, most: number): (Source & { isOfOrders: boolean })[] {
  const { state } = conditions
  const ofOrders = { ...orders(conditions, below, most), isOfOrders: true }
  const open = { ...checkouts(checkoutsIn.OPEN, conditions, below, most), isOfOrders: false }
  const ended = { ...checkouts(sql.fragment`state in ('REJECTED', 'CANCELLED')`, conditions, below, most), isOfOrders: false }
  if (state === undefined) return [ofOrders, open, ended]
  if (state === 'OPEN') return [open]
  if (state === 'REJECTED') return [ended]
  return state === 'CANCELLED' ? [ofOrders, ended] : [ofOrders] // others cancel orders by SQL
}

const ordersWith = (productId: number, below: number): Source =>
  whole(sql.fragment`select order_id as id from public.order_items where product_id = ${productId} and order_id < ${below}`)

/** Whether too many orders contain a product to read them all. Then the latest orders are searched for it. */
async function isHot(pool: Pool, productId: number): Promise<boolean> {
  const lines = await pool.oneFirst(sql.type(z.object({ n: z.int() }))`
    select count(*) as n from (select from public.order_items where product_id = ${productId} limit ${SCAN}) lines`)
  return lines === SCAN
}

/**
 * The lookups are subqueries with a limit, so that PostgreSQL makes each by its primary key. It does not know how few candidates there
 * are, and would join them with whole tables. `floor`: below it a source was not read.
 */
function statement(sources: readonly Source[], conditions: OrderConditions, limit: number) {
  const names = sources.map((_, i) => sql.identifier([`source_${i}`]))
  const list = (parts: readonly FragmentSqlToken[], glue: FragmentSqlToken) => sql.join(parts, glue)
  const floors = sources.flatMap(({ most }, i) =>
    most === undefined ? [] : [sql.fragment`(select min(id) from ${names[i]!} having count(*) >= ${most}::int)`],
  )
  return sql.fragment`
    with ${list(
      sources.map(({ rows }, i) => sql.fragment`${names[i]!} as materialized (${rows})`),
      sql.fragment`, `,
    )}, floor as materialized (select ${floors.length > 0 ? sql.fragment`coalesce(greatest(${list(floors, sql.fragment`, `)}), 0)` : sql.fragment`0`} as id)
    select f.id as floor, page.* from floor f left join lateral (
      select s.id, coalesce(o.status, c.state) as state, coalesce(o.user_email, c.user_email) as email,
        coalesce(o.total_cents, c.total_cents) as total_cents, coalesce(o.currency, c.currency) as currency,
        coalesce(o.created_at at time zone 'utc', c.created_at) as created_at,
        coalesce(p.cause, c.cause) as cause, case when p.cause is null then c.service else p.service end as service
      from (select distinct id from (${list(
        names.map((name) => sql.fragment`select id from ${name} where fits`),
        sql.fragment` union all `,
      )}) candidates where id >= f.id order by id desc) s
      left join lateral (select status, user_email, total_cents, currency, created_at from public.orders where id = s.id limit 1) o on true
      left join lateral (
        select state, user_email, total_cents, currency, created_at, case when state <> 'CREATED' then cause end as cause,
          case when state <> 'CREATED' then service end as service, lines
        from order_service.checkouts where order_id = s.id limit 1) c on true
      left join lateral ${waitingPayment} p on true
      where ${filter(conditions)}
      order by s.id desc limit ${limit + 1}
    ) page on true order by page.id desc`
}

/** `offset 0`: otherwise PostgreSQL may read all payments that wait, to find the latest one of an order. */
const waitingPayment = sql.fragment`(
        select cause, service from (
          select id, state, cause, service from order_service.payment_events where order_id = s.id offset 0) e
        where state = 'WAITING' and cause is not null order by id desc limit 1)`

function filter({ state, cause, service, productId, olderThanMs }: OrderConditions) {
  const parts = [sql.fragment`(o.status is not null or c.state is not null)`]
  if (state !== undefined) parts.push(sql.fragment`coalesce(o.status, c.state) = ${state}`)
  if (cause !== undefined) parts.push(sql.fragment`(p.cause = ${cause} or c.cause = ${cause})`)
  if (service !== undefined) parts.push(sql.fragment`(p.service = ${service} or c.service = ${service})`)
  if (olderThanMs !== undefined)
    parts.push(sql.fragment`coalesce(o.created_at at time zone 'utc', c.created_at) <= now() - ${olderThanMs}::float8 * interval '1 ms'`)
  if (productId !== undefined)
    parts.push(sql.fragment`(case when o.status is null then c.lines @> ${JSON.stringify([{ product_id: productId }])}::jsonb
      else ${hasProduct(sql.fragment`s.id`, productId)} end)`)
  return sql.join(parts, sql.fragment` and `)
}

/** Ids are drawn in the order of time, but an order is created some seconds after its id was drawn. */
const MARGIN_MS = 60_000

/** @returns an id such that later ones are younger than `ageMs`: found by bisection, since no index has the time */
async function lastBefore(pool: Pool, ageMs: number): Promise<number> {
  return pool.oneFirst(sql.type(z.object({ low: z.int() }))`
    with recursive step (low, high, n) as (
      select 0::bigint, greatest((select max(id) from public.orders), (select max(order_id) from order_service.checkouts), 0)::bigint, 0
      union all
      select case when is_old then middle else low end, case when is_old then high else middle - 1 end, n + 1
      from (select low, high, n, (low + high + 1) / 2 as middle from step where low < high and n < 40) s
      cross join lateral (
        select coalesce((
          select at <= now() - (${ageMs}::float8 - ${MARGIN_MS}::float8) * interval '1 ms' from (
            (select id, created_at at time zone 'utc' as at from public.orders where id <= middle order by id desc limit 1)
            union all
            (select order_id, created_at from order_service.checkouts where order_id <= middle order by order_id desc limit 1)
          ) latest order by id desc limit 1), true) as is_old) probe
    )
    select low from step order by n desc limit 1`)
}
