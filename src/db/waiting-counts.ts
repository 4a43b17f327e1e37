/** What waits because of a fault, for the operators' pages: cheap counts of open checkouts, waiting payments, letters, events and products. */
import { sql } from 'slonik'
import { z } from 'zod'
import { type Cause, isCause, type ServiceName, services } from '../causes.ts'
import type { DeadLetterFault } from '../model.ts'
import { CORRECTING_MS, type ProductCause } from './items-of-cause.ts'
import type { Pool } from './pool.ts'

/** More are not counted: "more than 10,000". */
export const MOST_COUNTED = 10_000

/** Items of one cause and service. Those of the others are counted up to {@link MOST_COUNTED}, and one more. */
export interface WaitingItems {
  kind: 'checkout' | 'payment'
  cause: Cause
  service: ServiceName | null
  count: number
  oldest: { id: number; orderId: number; since: Date }
  lastError: string
  /** When the oldest or the newest was last tried. */
  lastTriedAt: Date
}

const waitingRow = z.object({
  cause: z.string(),
  service: z.enum(services as unknown as [ServiceName, ...ServiceName[]]).nullable(),
  count: z.int(),
  id: z.int(),
  order_id: z.int(),
  since: z.date(),
  last_error: z.string().nullable(),
  last_tried_at: z.date(),
})

/** A table of items, and its columns by what they mean here. `where` is the predicate of its partial index. */
const tables = {
  payment: {
    name: sql.fragment`order_service.payment_events`,
    where: sql.fragment`state = 'WAITING' and cause is not null`,
    columns: sql.fragment`id, order_id, waiting_since as since, touched_at as tried_at, last_error`,
    id: sql.fragment`id`,
  },
  checkout: {
    name: sql.fragment`order_service.checkouts`,
    where: sql.fragment`state = 'OPEN' and cause is not null`,
    columns: sql.fragment`order_id as id, order_id, created_at as since, updated_at as tried_at, last_error`,
    id: sql.fragment`order_id`,
  },
}

/**
 * Finds the causes one after the other in the index, so that a hundred thousand items of one cause cost as much as ten thousand.
 * `'~'` stands for no service, and comes after all.
 */
async function readItems(pool: Pool, kind: keyof typeof tables): Promise<WaitingItems[]> {
  const { name, where, columns, id } = tables[kind]
  const ofCause = sql.fragment`${where} and cause = c.cause and coalesce(service, '~') = coalesce(c.service, '~')`
  const rows = await pool.any(sql.type(waitingRow)`
    with recursive causes as (
      (select cause, service from ${name} where ${where} order by cause, coalesce(service, '~') limit 1)
      union all
      select n.cause, n.service from causes c cross join lateral (
        select cause, service from ${name} where ${where} and (cause, coalesce(service, '~')) > (c.cause, coalesce(c.service, '~'))
        order by cause, coalesce(service, '~') limit 1) n
    )
    select c.cause, c.service, counted.n as count, oldest.id, oldest.order_id, oldest.since, newest.last_error,
      greatest(oldest.tried_at, newest.tried_at) as last_tried_at
    from causes c
    cross join lateral (select count(*) as n from (select from ${name} where ${ofCause} limit ${MOST_COUNTED + 1}) few) counted
    cross join lateral (select ${columns} from ${name} where ${ofCause} order by ${id} limit 1) oldest
    cross join lateral (select ${columns} from ${name} where ${ofCause} order by ${id} desc limit 1) newest`)
  return rows.flatMap((row) => {
    const { cause, service, count, id: item, order_id: orderId, since } = row
    if (!isCause(cause)) return []
    const oldest = { id: item, orderId, since }
    return [{ kind, cause, service, count, oldest, lastError: row.last_error ?? '', lastTriedAt: row.last_tried_at }]
  })
}

export async function readWaitingItems(pool: Pool): Promise<WaitingItems[]> {
  return [...(await readItems(pool, 'payment')), ...(await readItems(pool, 'checkout'))]
}

/** Items that wait and have met no fault yet: their jobs wait for a worker, or for a service whose breaker is open. */
export interface UntriedItems {
  payments: number
  checkouts: number
}

/** Among the latest {@link MOST_COUNTED} that wait, and only those that have waited for `ms`. */
export async function countUntried(pool: Pool, ms: number): Promise<UntriedItems> {
  return pool.one(sql.prepared('untried-items', z.object({ payments: z.int(), checkouts: z.int() }))`
    select (select count(*) from (
        select cause, received_at from order_service.payment_events where state = 'WAITING' order by id desc limit ${MOST_COUNTED}) latest
        where cause is null and received_at < clock_timestamp() - ${ms}::float8 * interval '1 ms') as payments,
      (select count(*) from (
        select cause, created_at from order_service.checkouts where state = 'OPEN' order by order_id desc limit ${MOST_COUNTED}) latest
        where cause is null and created_at < clock_timestamp() - ${ms}::float8 * interval '1 ms') as checkouts`)
}

export interface WaitingLetters {
  fault: DeadLetterFault
  count: number
  oldest: { id: number; orderId: number | null; since: Date }
  reason: string
}

const lettersRow = z.object({
  fault: z.string(),
  count: z.int(),
  id: z.int(),
  order_id: z.int().nullable(),
  since: z.date(),
  reason: z.string(),
})

/** Dead letters that wait for a person, by fault. */
export async function readWaitingLetters(pool: Pool, faults: readonly DeadLetterFault[]): Promise<WaitingLetters[]> {
  const rows = await pool.any(sql.prepared('waiting-letters', lettersRow)`
    select w.fault, n.count, f.id, e.order_id, f.first_at as since, f.reason
    from unnest(${sql.array([...faults], 'text')}) as w (fault) cross join lateral (
      select count(*) as count from (select from order_service.dead_letters
        where state = 'WAITING' and fault = w.fault limit ${MOST_COUNTED + 1}) few
    ) n cross join lateral (
      select id, event_id, first_at, reason from order_service.dead_letters where state = 'WAITING' and fault = w.fault order by id limit 1
    ) f left join order_service.payment_events e on e.id = f.event_id`)
  return rows.map(({ order_id: orderId, id, since, fault, ...rest }) => ({
    ...rest,
    fault: fault as DeadLetterFault,
    oldest: { id, orderId, since },
  }))
}

/** Products of one kind of problem. `units`: how many are concerned. */
export interface WaitingProducts {
  cause: ProductCause
  count: number
  units: number
  oldest: { id: number; since: Date }
}

const productsRow = z.object({
  cause: z.enum(['product-unreconciled', 'product-oversold', 'product-ambiguous']),
  count: z.int(),
  units: z.int(),
  id: z.int(),
  since: z.date(),
})

export async function readWaitingProducts(pool: Pool): Promise<WaitingProducts[]> {
  const rows = await pool.any(sql.prepared('waiting-products', productsRow)`
    with late as materialized (
      select product_id, hold_correction, stock_correction, foreign_holds, coalesce(reconciling_since, updated_at) as since
      from order_service.products
      where (hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null)
        and coalesce(reconciling_since, updated_at) < clock_timestamp() - ${CORRECTING_MS}::float8 * interval '1 ms'
    ), found as (
      select 'product-unreconciled' as cause, product_id, abs(hold_correction) + abs(stock_correction) as units, since
      from late where hold_correction > 0 or stock_correction <> 0
      union all
      select 'product-oversold', product_id, greatest(0, -foreign_holds) + greatest(0, -hold_correction), since
      from late where foreign_holds < 0 or hold_correction < 0
      union all
      select 'product-ambiguous', product_id, sum(greatest(too_many, too_few)), min(at) from order_service.ambiguities
      where accepted_at is null group by product_id
    )
    select cause, count(*) as count, sum(units)::bigint as units, (array_agg(product_id order by since))[1] as id, min(since) as since
    from found group by cause`)
  return rows.map(({ id, since, ...rest }) => ({ ...rest, oldest: { id, since } }))
}

const eventsRow = z.object({ count: z.int(), id: z.int(), order_id: z.int(), since: z.date(), reason: z.string() })

/** Events that Kafka refuses for good. */
export async function readUndeliverable(
  pool: Pool,
): Promise<{ count: number; oldest: { id: number; orderId: number; since: Date }; reason: string } | undefined> {
  const row = await pool.maybeOne(sql.prepared('undeliverable-events', eventsRow)`
    select n.count, f.id, f.order_id, f.undeliverable_at as since, f.undeliverable_reason as reason
    from (select count(*) as count from (select from order_service.outbox where undeliverable_at is not null limit ${MOST_COUNTED + 1}) few) n
    cross join lateral (
      select id, order_id, undeliverable_at, undeliverable_reason from order_service.outbox where undeliverable_at is not null order by id limit 1) f`)
  return row ? { count: row.count, oldest: { id: row.id, orderId: row.order_id, since: row.since }, reason: row.reason } : undefined
}
