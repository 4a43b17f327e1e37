/**
 * Lists and counts what waits because of a cause: payments, open checkouts, dead letters, products, events. Each statement reads the rows
 * of an index that has nothing else, and no more of them than asked for. The oldest come first.
 */
import { type FragmentSqlToken, sql } from 'slonik'
import { z } from 'zod'
import type { Cause, ServiceName } from '../causes.ts'
import type { DeadLetterFault } from '../model.ts'
import type { Pool } from './pool.ts'

const itemRow = z.object({
  id: z.int(),
  order_id: z.int().nullable(),
  since: z.date(),
  attempts: z.int().nullable(),
  evidence: z.string(),
})
export type ItemRow = z.infer<typeof itemRow>

interface Recorded {
  cause: Cause
  service: ServiceName | null
}

/** As in the indexes: `'~'` stands for no service. */
const recorded = ({ cause, service }: Recorded) =>
  service === null ? sql.fragment`cause = ${cause}` : sql.fragment`cause = ${cause} and coalesce(service, '~') = ${service}`

/** @param after lists have higher ids */
export const listPayments = (pool: Pool, what: Recorded, after: number, limit: number) =>
  pool.any(sql.type(itemRow)`
    select id, order_id, waiting_since as since, attempt as attempts, coalesce(last_error, '') as evidence
    from order_service.payment_events where state = 'WAITING' and ${recorded(what)} and id > ${after} order by id limit ${limit}`)

export const listCheckouts = (pool: Pool, what: Recorded, after: number, limit: number) =>
  pool.any(sql.type(itemRow)`
    select order_id as id, order_id, created_at as since, attempt as attempts, coalesce(last_error, '') as evidence
    from order_service.checkouts where state = 'OPEN' and ${recorded(what)} and order_id > ${after} order by order_id limit ${limit}`)

const union = (parts: readonly FragmentSqlToken[]) => sql.join(parts, sql.fragment` union all `)

/** Each fault is read for itself, in the order of its index. */
export const listLetters = (pool: Pool, faults: readonly DeadLetterFault[], after: number, limit: number) =>
  pool.any(sql.type(itemRow)`
    select l.id, e.order_id, l.last_at as since, l.times as attempts, l.reason as evidence
    from (select * from (${union(
      faults.map(
        (fault) => sql.fragment`(select id, event_id, last_at, times, reason from order_service.dead_letters
          where state = 'WAITING' and fault = ${fault} and id > ${after} order by id limit ${limit})`,
      ),
    )}) found order by id limit ${limit}) l
    left join lateral (select order_id from order_service.payment_events where id = l.event_id limit 1) e on true order by l.id`)

export const listEvents = (pool: Pool, after: number, limit: number) =>
  pool.any(sql.type(itemRow)`
    select id, order_id, undeliverable_at as since, null::int as attempts, undeliverable_reason as evidence
    from order_service.outbox where undeliverable_at is not null and id > ${after} order by id limit ${limit}`)

/** The causes that are conditions of products, not recorded failures. */
export type ProductCause = Extract<Cause, 'product-unreconciled' | 'product-oversold' | 'product-ambiguous'>

/** A correction that takes longer than this is a problem. Most take a call to Catalog. */
export const CORRECTING_MS = 5000
const late = sql.fragment`(hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null)
      and coalesce(reconciling_since, updated_at) < now() - ${CORRECTING_MS}::float8 * interval '1 ms'`
const productConditions = {
  'product-unreconciled': sql.fragment`${late} and (hold_correction > 0 or stock_correction <> 0)`,
  'product-oversold': sql.fragment`${late} and (foreign_holds < 0 or hold_correction < 0)`,
}

/** Products of which a cause is true now, with `id`, `since` and `evidence`. */
export function productsOf(cause: ProductCause): FragmentSqlToken {
  if (cause === 'product-ambiguous')
    return sql.fragment`select product_id as id, min(at) as since, string_agg(explanation, '; ' order by at desc) as evidence
      from order_service.ambiguities where accepted_at is null group by product_id`
  return sql.fragment`
    select product_id as id, coalesce(reconciling_since, updated_at) as since,
      format('hold correction %s, stock correction %s, foreign holds %s', hold_correction, stock_correction, foreign_holds) as evidence
    from order_service.products where ${productConditions[cause]}`
}

export const listProductsOf = (pool: Pool, cause: ProductCause, after: number, limit: number) =>
  pool.any(sql.type(itemRow)`
    select id, null::int as order_id, since, null::int as attempts, evidence from (${productsOf(cause)}) p
    where id > ${after} order by id limit ${limit}`)

/** A part of the items of a cause, as a select of one row each. The order makes PostgreSQL use the index of causes. */
export const counted = {
  payments: (what: Recorded) =>
    sql.fragment`select 1 from order_service.payment_events where state = 'WAITING' and ${recorded(what)} order by id`,
  checkouts: (what: Recorded) =>
    sql.fragment`select 1 from order_service.checkouts where state = 'OPEN' and ${recorded(what)} order by order_id`,
  letters: (faults: readonly DeadLetterFault[]) =>
    sql.fragment`select 1 from order_service.dead_letters where state = 'WAITING' and fault = any(${sql.array([...faults], 'text')})`,
  events: () => sql.fragment`select 1 from order_service.outbox where undeliverable_at is not null`,
  products: (cause: ProductCause) => sql.fragment`select 1 from (${productsOf(cause)}) p`,
}

/** Counts up to a limit. @returns at most `limit + 1` */
export const countUpTo = (pool: Pool, parts: readonly FragmentSqlToken[], limit: number): Promise<number> =>
  pool.oneFirst(sql.type(z.object({ n: z.int() }))`
    select count(*) as n from (
      select from (${union(parts.map((part) => sql.fragment`(${part} limit ${limit + 1})`))}) parts limit ${limit + 1}) found`)
