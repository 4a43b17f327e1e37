/** Dead letters: messages that a person has to check, and their publishing on the dead-letter topic. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { DeadLetterFault } from '../model.ts'
import type { Message } from './inbox.ts'
import { nothing, type Pool, type Transaction } from './pool.ts'
import { int8s } from './stock-calls.ts'

export interface DeadLetter extends Message {
  id: number
  /** undefined: the message is unreadable, or has the identity of an event with other content. */
  eventId: number | undefined
  orderId: number | undefined
  topic: string
  partition: number
  fault: DeadLetterFault
  reason: string
  state: 'WAITING' | 'REPLAYED' | 'DISCARDED'
  /** Why it was discarded. */
  note: string | undefined
  times: number
  firstAt: Date
  lastAt: Date
  publishedAt: Date | undefined
  /** When its bytes were pruned: key, value and headers. */
  prunedAt: Date | undefined
  /** The edited value that was applied last, and that a replay applies again; undefined where it was never edited. */
  editedValue: Buffer | undefined
}

export const letterRow = z.object({
  id: z.int(),
  event_id: z.int().nullable(),
  order_id: z.int().nullable(),
  topic: z.string(),
  partition: z.int(),
  kafka_offset: z.int(),
  key: z.string().nullable(),
  value: z.string().nullable(),
  headers: z.string(),
  sent_at: z.date(),
  fault: z.string(),
  reason: z.string(),
  state: z.enum(['WAITING', 'REPLAYED', 'DISCARDED']),
  note: z.string().nullable(),
  times: z.int(),
  first_at: z.date(),
  last_at: z.date(),
  published_at: z.date().nullable(),
  pruned_at: z.date().nullable(),
  edited_value: z.string().nullable(),
})
const headerList = z.array(z.tuple([z.string(), z.string()]))
const columns = sql.fragment`l.id, l.event_id, e.order_id, l.topic, l.partition, l.kafka_offset, encode(l.key, 'base64') as key,
  encode(l.value, 'base64') as value, l.headers, l.sent_at, l.fault, l.reason, l.state, l.note, l.times, l.first_at, l.last_at, l.published_at, l.pruned_at,
  case when e.value is distinct from l.value then encode(e.value, 'base64') end as edited_value`
const letters = sql.fragment`order_service.dead_letters l left join order_service.payment_events e on e.id = l.event_id`

const bytes = (text: string | null) => (text === null ? null : Buffer.from(text, 'base64'))

function letterOf(row: z.infer<typeof letterRow>): DeadLetter {
  return {
    id: row.id,
    eventId: row.event_id ?? undefined,
    orderId: row.order_id ?? undefined,
    topic: row.topic,
    partition: row.partition,
    offset: BigInt(row.kafka_offset),
    key: bytes(row.key),
    value: bytes(row.value),
    headers: headerList.parse(JSON.parse(row.headers)).map(([name, value]) => [name, Buffer.from(value, 'base64')] as const),
    sentAt: row.sent_at,
    fault: row.fault as DeadLetterFault,
    reason: row.reason,
    state: row.state,
    note: row.note ?? undefined,
    times: row.times,
    firstAt: row.first_at,
    lastAt: row.last_at,
    publishedAt: row.published_at ?? undefined,
    prunedAt: row.pruned_at ?? undefined,
    editedValue: bytes(row.edited_value) ?? undefined,
  }
}

/** The oldest first. @param all also those that are no longer waiting for a person */
export async function listLetters(pool: Pool, { all, limit }: { all: boolean; limit: number }): Promise<DeadLetter[]> {
  // In the statement's text: with a parameter, the partial index of waiting letters would not be used.
  const wanted = all ? sql.fragment`true` : sql.fragment`l.state = 'WAITING'`
  const rows = await pool.any(sql.type(letterRow)`
    select ${columns} from ${letters} where ${wanted} order by l.id limit ${limit}`)
  return rows.map(letterOf)
}

const summaryRow = letterRow.pick({
  id: true,
  event_id: true,
  order_id: true,
  fault: true,
  reason: true,
  state: true,
  times: true,
  last_at: true,
})
/** A letter without its bytes. */
export type LetterSummary = z.infer<typeof summaryRow>

export interface LetterQuery {
  /** undefined: any that waits */
  faults?: readonly DeadLetterFault[] | undefined
  /** WAITING where nothing is said. */
  state?: DeadLetter['state'] | undefined
  /** An id: letters after it. */
  after?: number | undefined
  limit: number
}

const inState = {
  WAITING: sql.fragment`l.state = 'WAITING'`,
  REPLAYED: sql.fragment`l.state = 'REPLAYED'`,
  DISCARDED: sql.fragment`l.state = 'DISCARDED'`,
}

/** A page of letters, in the order of their ids. */
export async function pageOfLetters(
  pool: Pool,
  { faults, state = 'WAITING', after = 0, limit }: LetterQuery,
): Promise<readonly LetterSummary[]> {
  const wanted = faults === undefined ? sql.fragment`true` : sql.fragment`l.fault = any(${sql.array([...faults], 'text')})`
  return pool.any(sql.type(summaryRow)`
    select l.id, l.event_id, e.order_id, l.fault, l.reason, l.state, l.times, l.last_at from ${letters}
    where ${inState[state]} and ${wanted} and l.id > ${after} order by l.id limit ${limit}`)
}

/** Locks the letters that wait, of these, and reads them. Rows that another session has locked are left out. */
export async function lockLetters(tx: Transaction, ids: readonly number[]): Promise<DeadLetter[]> {
  const rows = await tx.any(sql.type(letterRow)`
    select ${columns} from ${letters} where l.id = any(${int8s(ids)}) and l.state = 'WAITING' order by l.id for update of l skip locked`)
  return rows.map(letterOf)
}

/** States of letters, without their bytes. */
export async function readLetterStates(db: Pool | Transaction, ids: readonly number[]): Promise<Map<number, LetterState>> {
  const rows = await db.any(sql.type(stateRow)`
    select id, state, note, last_at, event_id from order_service.dead_letters where id = any(${int8s(ids)})`)
  return new Map(
    rows.map((row) => [row.id, { state: row.state, note: row.note ?? undefined, lastAt: row.last_at, eventId: row.event_id ?? undefined }]),
  )
}

const stateRow = letterRow.pick({ id: true, state: true, note: true, last_at: true, event_id: true })
export type LetterState = Pick<DeadLetter, 'state' | 'note' | 'lastAt' | 'eventId'>

export async function readLetter(pool: Pool, id: number): Promise<DeadLetter | undefined> {
  const row = await pool.maybeOne(sql.type(letterRow)`select ${columns} from ${letters} where l.id = ${id}`)
  return row ? letterOf(row) : undefined
}

/** Letters that are not on the dead-letter topic yet, the oldest first. */
export async function unpublishedLetters(pool: Pool, limit: number): Promise<DeadLetter[]> {
  const rows = await pool.any(sql.prepared('unpublished-letters', letterRow)`
    select ${columns} from ${letters} where l.published_at is null and l.undeliverable_reason is null order by l.id limit ${limit}`)
  return rows.map(letterOf)
}

/** Records that Kafka has acknowledged these. @returns those whose rows are locked: the caller tries again */
export async function markPublished(pool: Pool, ids: readonly number[]): Promise<number[]> {
  const rows = await pool.any(sql.prepared('mark-published', z.object({ id: z.int() }))`
    with free as materialized (
      select id from order_service.dead_letters where id = any(${sql.array([...ids], 'int8')}) order by id for no key update skip locked
    ), marked as (
      update order_service.dead_letters set published_at = now() where id = any(array(select id from free)) and published_at is null
    )
    select id from unnest(${sql.array([...ids], 'int8')}) as t (id) where id not in (select id from free)`)
  return rows.map(({ id }) => id)
}

/** Marks a letter that brokers refuse for good (too large). The table keeps it. */
export async function markLetterUndeliverable(pool: Pool, id: number, reason: string): Promise<void> {
  await pool.query(sql.prepared('mark-letter-undeliverable', nothing)`
    update order_service.dead_letters set undeliverable_reason = ${reason} where id = ${id} and published_at is null`)
}

const lettersCount = z.object({ by_fault: z.record(z.string(), z.int()), unpublished: z.int() })

/** How many wait for a person, in all and by fault, and how many are not on the dead-letter topic yet. */
export async function countLetters(
  pool: Pool,
): Promise<{ waiting: number; byFault: Partial<Record<DeadLetterFault, number>>; unpublished: number }> {
  const { by_fault: byFault, unpublished } = await pool.one(sql.prepared('count-dead-letters', lettersCount)`
    select (
        select coalesce(jsonb_object_agg(fault, letters), '{}')
        from (select fault, count(*) as letters from order_service.dead_letters where state = 'WAITING' group by fault) as counted
      ) as by_fault,
      (select count(*) from order_service.dead_letters where published_at is null and undeliverable_reason is null) as unpublished`)
  return { waiting: Object.values(byFault).reduce((sum, ofFault) => sum + ofFault, 0), byFault, unpublished }
}
