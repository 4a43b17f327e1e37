/** Events on their way to Kafka: unsent, sent, or undeliverable. Their rows are written by the transactions that they report. */
import { sql } from 'slonik'
import { z } from 'zod'
import { createLowerBound } from './lower-bound.ts'
import { nothing, type Pool } from './pool.ts'

const eventRow = z.object({ id: z.int(), order_id: z.int(), type: z.string(), value: z.string() })

/** An event that Kafka has not acknowledged. */
export interface OutboxEvent {
  /** Rises along the events of one order. Events of different orders may become visible in another order. */
  id: number
  orderId: number
  type: string
  /** The payload as JSON text, with this `id` in it as `sequence`. */
  value: string
}

/** An event that Kafka has acknowledged. `position`: where it is on the topic, as far as it is known. */
export interface SentEvent {
  id: number
  position?: { partition: number; offset: bigint } | undefined
}

const lowestRow = z.object({ lowest: z.int() })
const lagRow = z.object({ unsent: z.int(), oldest_seconds: z.number(), undeliverable: z.int() })

/** How far Kafka is behind; `oldestSeconds` is 0 where nothing is unsent. */
export interface OutboxLag {
  /** Exact below 1,000; beyond, the distance of the oldest one's id to the newest id. */
  unsent: number
  oldestSeconds: number
  undeliverable: number
}

/** The relay of this process. Where it is the leader, a call wakes it up, since a NOTIFY costs 20 to 60 % of commits. */
export interface RelayHere {
  leads(): boolean
  wake(): void
}

/**
 * PostgreSQL builds the text: nothing here needs the payload as an object, and its numbers stay as they were written.
 * @param now a monotonic clock, in ms
 * @returns a function for unsent events, so many at the most, each order's in the order they happened; empty when nothing waits
 */
export function createUnsentReader(pool: Pool, now = () => performance.now()): (limit: number) => Promise<OutboxEvent[]> {
  const lowestUnsent = createLowerBound(
    () =>
      pool.oneFirst(sql.prepared('lowest-unsent', lowestRow)`
        select coalesce((select id from order_service.outbox where sent_at is null and undeliverable_at is null order by id limit 1),
          (select max(id) from order_service.outbox), 0) as lowest`),
    now,
  )
  return async (limit) => {
    const rows = await pool.any(sql.prepared('read-unsent', eventRow)`
      select id, order_id, type, (payload || jsonb_build_object('sequence', id))::text as value
      from order_service.outbox where sent_at is null and undeliverable_at is null and id >= ${await lowestUnsent()}
      order by id limit ${limit}`)
    return rows.map(({ order_id: orderId, ...rest }) => ({ ...rest, orderId }))
  }
}

/**
 * Records that Kafka has acknowledged these, and where it put them. May be called again; a row that is undeliverable stays so.
 * @returns those whose rows are locked: the caller tries again
 */
export async function markSent(pool: Pool, events: readonly SentEvent[]): Promise<number[]> {
  const ids = events.map(({ id }) => id)
  const partitions = events.map(({ position }) => position?.partition ?? null)
  const offsets = events.map(({ position }) => (position ? Number(position.offset) : null))
  const rows = await pool.any(sql.prepared('mark-sent', z.object({ id: z.int() }))`
    with free as materialized (
      select id from order_service.outbox where id = any(${sql.array(ids, 'int8')}) order by id for no key update skip locked
    ), marked as (
      update order_service.outbox o set sent_at = now(), partition = a.partition, kafka_offset = a.kafka_offset
      from unnest(${sql.array(ids, 'int8')}, ${sql.array(partitions, 'int4')}, ${sql.array(offsets, 'int8')}) as a (id, partition, kafka_offset)
      where o.id = a.id and o.id = any(array(select id from free)) and o.sent_at is null and o.undeliverable_at is null
    )
    select id from unnest(${sql.array(ids, 'int8')}) as t (id) where id not in (select id from free)`)
  return rows.map(({ id }) => id)
}

/** Marks an event that Kafka refuses for good; the relay continues with others. A row that was sent meanwhile stays sent. */
export async function markUndeliverable(pool: Pool, id: number, reason: string): Promise<void> {
  await pool.query(sql.prepared('mark-undeliverable', nothing)`
    update order_service.outbox set undeliverable_at = now(), undeliverable_reason = ${reason}
    where id = ${id} and sent_at is null and undeliverable_at is null`)
}

/** More are not counted: otherwise a scrape would take longer the more events wait. */
const MOST_COUNTED = 1000

/** For gauges: reads the oldest unsent events, and counts what is undeliverable. */
export async function readLag(pool: Pool): Promise<OutboxLag> {
  const row = await pool.one(sql.prepared('outbox-lag', lagRow)`
    select case when count(*) < ${MOST_COUNTED} then count(*) else (select max(id) from order_service.outbox) - min(id) + 1 end as unsent,
      greatest(coalesce(extract(epoch from now() - min(created_at)), 0), 0)::float8 as oldest_seconds,
      (select count(*) from order_service.outbox where undeliverable_at is not null) as undeliverable
    from (
      select id, created_at from order_service.outbox where sent_at is null and undeliverable_at is null order by id limit ${MOST_COUNTED}) oldest`)
  return { unsent: row.unsent, oldestSeconds: row.oldest_seconds, undeliverable: row.undeliverable }
}
