/** Payment events until they are applied: each method is a statement that takes effect only for the latest attempt. */
import { sql } from 'slonik'
import { z } from 'zod'
import { type DeadLetterFault, type PaymentResult, type PaymentState, paymentStates } from '../model.ts'
import type { Fault } from '../causes.ts'
import type { Clock } from '../clock.ts'
import { LOCKED, untilUnlocked } from './locked.ts'
import { nothing, type Pool } from './pool.ts'

/** An event that a job has to drive. `attempt` is null where one may have been begun before: the job takes a new number then. */
export interface WaitingEvent {
  eventId: number
  orderId: number
  attempt: number | null
}

/** One attempt at an event. Its writes count only while it is the latest attempt. */
export interface PaymentAttempt {
  eventId: number
  attempt: number
}

/** The statements of an attempt on its event. */
export interface PaymentEvents {
  /** Takes the next attempt number. @returns undefined where the event no longer waits. @throws RowLocked */
  resume(eventId: number): Promise<number | undefined>
  /** Records why an attempt did not finish the event. Nothing is recorded where the row is locked. */
  recordFailure(attempt: PaymentAttempt, error: string, fault?: Fault): Promise<void>
  /** WAITING -> APPLIED without an effect on the order. */
  recordApplied(attempt: PaymentAttempt, result: PaymentResult): Promise<void>
  /** WAITING -> DEAD, with a dead letter for people. @returns false where the event is another attempt's, or no longer waits */
  deadLetter(attempt: PaymentAttempt, fault: DeadLetterFault, reason: string): Promise<boolean>
}

export function createPaymentEvents(pool: Pool, clock: Clock): PaymentEvents {
  return {
    resume: (eventId) => untilUnlocked(clock, `payment event ${eventId}`, () => resumePayment(pool, eventId)),
    recordFailure: (attempt, error, fault) => recordPaymentFailure(pool, attempt, error, fault),
    recordApplied: (attempt, result) => recordApplied(pool, attempt, result),
    deadLetter: (attempt, fault, reason) => deadLetter(pool, attempt, fault, reason),
  }
}

/** @returns LOCKED where another session has locked the row; undefined where the event no longer waits */
async function resumePayment(pool: Pool, eventId: number): Promise<number | typeof LOCKED | undefined> {
  const row = await pool.maybeOne(sql.prepared('resume-payment', z.object({ attempt: z.int().nullable() }))`
    with waits as materialized (
      select id from order_service.payment_events where id = ${eventId} and state = 'WAITING'
    ), was as materialized (
      select id from order_service.payment_events where id = ${eventId} and state = 'WAITING' for update skip locked
    ), resumed as (
      update order_service.payment_events e set attempt = e.attempt + 1, touched_at = clock_timestamp()
      from was where e.id = was.id returning e.attempt
    )
    select (select attempt from resumed) as attempt from waits`)
  return row ? (row.attempt ?? LOCKED) : undefined
}

/** A fault may last for days, with a try every ten seconds. */
const MOST_HISTORY = 20

async function recordPaymentFailure(pool: Pool, { eventId, attempt }: PaymentAttempt, error: string, fault?: Fault): Promise<void> {
  const { cause = null, service = null } = fault ?? {}
  const entry = JSON.stringify({ attempt, at: new Date().toISOString(), error, ...fault })
  await pool.query(sql.prepared('record-payment-failure', nothing)`
    update order_service.payment_events
    set last_error = ${error}, cause = ${cause}::text, service = ${service}::text, touched_at = clock_timestamp(),
      history = case when jsonb_array_length(history) < ${MOST_HISTORY}::int then history else history - 0 end || ${entry}::jsonb
    where id = any(array(
      select id from order_service.payment_events
      where id = ${eventId} and attempt = ${attempt} and state = 'WAITING' for update skip locked))`)
}

async function recordApplied(pool: Pool, { eventId, attempt }: PaymentAttempt, result: PaymentResult): Promise<void> {
  await pool.query(sql.prepared('payment-applied', nothing)`
    update order_service.payment_events
    set state = 'APPLIED', result = ${result}, last_error = null, touched_at = clock_timestamp()
    where id = ${eventId} and attempt = ${attempt} and state = 'WAITING'`)
}

async function deadLetter(pool: Pool, { eventId, attempt }: PaymentAttempt, fault: DeadLetterFault, reason: string): Promise<boolean> {
  const { rowCount } = await pool.query(sql.prepared('dead-letter-payment', nothing)`
    with dead as (
      update order_service.payment_events
      set state = 'DEAD', last_error = ${reason}, touched_at = clock_timestamp()
      where id = ${eventId} and attempt = ${attempt} and state = 'WAITING'
      returning id, topic, partition, kafka_offset, identity, key, value, headers, sent_at
    )
    insert into order_service.dead_letters (event_id, topic, partition, kafka_offset, bytes_hash, key, value, headers, sent_at, fault, reason)
    select id, topic, partition, kafka_offset, identity, key, value, headers, sent_at, ${fault}, ${reason} from dead
    on conflict (event_id) do update set state = 'WAITING', note = null, fault = excluded.fault, reason = excluded.reason,
      times = dead_letters.times + 1, last_at = clock_timestamp(), published_at = null, undeliverable_reason = null`)
  return rowCount > 0
}

/** @see createLowerBound */
export async function readLowestWaiting(pool: Pool): Promise<number> {
  return pool.oneFirst(sql.prepared('lowest-waiting', z.object({ lowest: z.int() }))`
    select coalesce((select id from order_service.payment_events where state = 'WAITING' order by id limit 1),
      (select max(id) from order_service.payment_events), 0) as lowest`)
}

/** Longer than the time in which a try shows that a fault lasts (src/operators/find-problems.ts): to be found is no try. */
const FOUND = sql.fragment`interval '20 s'`

/**
 * Events that wait and that no job has touched for so long: their job may be lost. They count as touched 20 s ago, so that the next ones get
 * their turn.
 * @param search `from`: no event with a lower id is searched for
 */
export async function strandedPayments(
  pool: Pool,
  { from, untouchedMs, limit }: { from: number; untouchedMs: number; limit: number },
): Promise<WaitingEvent[]> {
  const rows = await pool.any(sql.prepared('stranded-payments', z.object({ id: z.int(), order_id: z.int() }))`
    with found as materialized (
      select id from order_service.payment_events
      where state = 'WAITING' and id >= ${from} and touched_at < clock_timestamp() - ${untouchedMs}::float8 * interval '1 ms'
      order by id limit ${limit} for update skip locked
    )
    update order_service.payment_events set touched_at = clock_timestamp() - ${FOUND} where id = any(array(select id from found))
    returning id, order_id`)
  return rows.toSorted((a, b) => a.id - b.id).map((row) => ({ eventId: row.id, orderId: row.order_id, attempt: null }))
}

/** The state of an event. */
export interface EventState {
  eventId: number
  orderId: number
  state: PaymentState
  result: PaymentResult | undefined
  /** Why it is not applied yet, or is dead. */
  lastError: string | undefined
}

const stateRow = z.object({
  id: z.int(),
  order_id: z.int(),
  state: z.enum(Object.keys(paymentStates) as PaymentState[]),
  result: z.enum(['paid', 'already-paid', 'recorded']).nullable(),
  last_error: z.string().nullable(),
})

/** In the order of their ids. */
export async function readEventStates(pool: Pool, eventIds: readonly number[]): Promise<EventState[]> {
  const rows = await pool.any(sql.type(stateRow)`
    select id, order_id, state, result, last_error from order_service.payment_events
    where id = any(${sql.array([...eventIds], 'int8')}) order by id`)
  return rows.map(({ id: eventId, order_id: orderId, state, result, last_error: lastError }) => ({
    eventId,
    orderId,
    state,
    result: result ?? undefined,
    lastError: lastError ?? undefined,
  }))
}
