/** Payment events on their way to their orders: driven by jobs, each verb a statement that holds only for the latest attempt. */
import { sql } from 'slonik'
import { z } from 'zod'
import { type DeadLetterFault, type PaymentResult, type PaymentState, paymentStates } from '../model.ts'
import { nothing, type Pool } from './pool.ts'

/** An event that a job has to drive. `attempt` is null where one may have been begun before: the job takes a new number then. */
export interface WaitingEvent {
  eventId: number
  orderId: number
  attempt: number | null
}

/** One driving of an event: its writes hold only while nobody has begun another one. */
export interface PaymentAttempt {
  eventId: number
  attempt: number
}

/**
 * Takes the next attempt number. A commit that the attempt before may have sent is written down as a doubt in the same statement.
 * @returns undefined where the event no longer waits
 */
export async function resumePayment(pool: Pool, eventId: number): Promise<number | undefined> {
  const row = await pool.maybeOne(sql.prepared('resume-payment', z.object({ attempt: z.int() }))`
    with was as materialized (
      select id, order_id, attempt, commit_call from order_service.payment_events
      where id = ${eventId} and state = 'WAITING' for update
    ), doubted as (
      insert into order_service.doubts (product_id, verb, qty, order_id, attempt)
      select p.product_id, 'commit', sum(i.qty), was.order_id, was.attempt
      from was join public.order_items i on i.order_id = was.order_id
      join order_service.products p using (product_id)  -- one without a row was never asked for
      where was.commit_call = 'unknown'
      group by p.product_id, was.order_id, was.attempt
      order by p.product_id  -- two that write down one call do not wait for each other
      on conflict do nothing
    )
    update order_service.payment_events e
    set attempt = nextval('order_service.payment_attempts'), commit_call = 'unknown', touched_at = clock_timestamp()
    from was where e.id = was.id
    returning e.attempt`)
  return row?.attempt
}

/** Notes what an attempt left that did not come to an end. `settled`: each of its calls was answered, or stands among the doubts. */
export async function leavePayment(
  pool: Pool,
  { eventId, attempt }: PaymentAttempt,
  { error, commitCall }: { error: string; commitCall: 'settled' | 'unknown' },
): Promise<void> {
  await pool.query(sql.prepared('leave-payment', nothing)`
    update order_service.payment_events
    set commit_call = ${commitCall}, last_error = ${error}, touched_at = clock_timestamp()
    where id = ${eventId} and attempt = ${attempt} and state = 'WAITING'`)
}

/** WAITING -> APPLIED without an effect on the order. */
export async function applied(pool: Pool, { eventId, attempt }: PaymentAttempt, result: PaymentResult): Promise<void> {
  await pool.query(sql.prepared('payment-applied', nothing)`
    update order_service.payment_events
    set state = 'APPLIED', result = ${result}, commit_call = 'settled', last_error = null, touched_at = clock_timestamp()
    where id = ${eventId} and attempt = ${attempt} and state = 'WAITING'`)
}

/** WAITING -> DEAD, with a dead letter for people: by an attempt that left no call without an answer. @returns false where the event is another attempt's, or no longer waits */
export async function bury(pool: Pool, { eventId, attempt }: PaymentAttempt, fault: DeadLetterFault, reason: string): Promise<boolean> {
  const { rowCount } = await pool.query(sql.prepared('bury-payment', nothing)`
    with dead as (
      update order_service.payment_events
      set state = 'DEAD', commit_call = 'settled', last_error = ${reason}, touched_at = clock_timestamp()
      where id = ${eventId} and attempt = ${attempt} and state = 'WAITING'
      returning id, topic, partition, kafka_offset, identity, key, value, headers, sent_at
    )
    insert into order_service.dead_letters (event_id, topic, partition, kafka_offset, bytes_hash, key, value, headers, sent_at, fault, reason)
    select id, topic, partition, kafka_offset, identity, key, value, headers, sent_at, ${fault}, ${reason} from dead
    on conflict (event_id) do update set state = 'WAITING', note = null, fault = excluded.fault, reason = excluded.reason,
      times = dead_letters.times + 1, last_at = clock_timestamp(), published_at = null, publish_refused = null`)
  return rowCount > 0
}

/** Events that wait and that no job has touched for so long: their job may be lost. They count as touched now, so that the next ones get their turn. */
export async function strandedPayments(pool: Pool, untouchedMs: number, limit: number): Promise<WaitingEvent[]> {
  const rows = await pool.any(sql.prepared('stranded-payments', z.object({ id: z.int(), order_id: z.int() }))`
    with found as materialized (
      select id from order_service.payment_events
      where state = 'WAITING' and touched_at < clock_timestamp() - ${untouchedMs}::float8 * interval '1 ms'
      order by id limit ${limit} for update skip locked
    )
    update order_service.payment_events set touched_at = clock_timestamp() where id = any(array(select id from found)) returning id, order_id`)
  return rows.toSorted((a, b) => a.id - b.id).map((row) => ({ eventId: row.id, orderId: row.order_id, attempt: null }))
}

/** Where an event stands. */
export interface EventState {
  eventId: number
  orderId: number
  state: PaymentState
  result: PaymentResult | undefined
  /** Why it has not come to an end yet, or is dead. */
  lastError: string | undefined
}

const stateRow = z.object({
  id: z.int(),
  order_id: z.int(),
  state: z.enum(Object.keys(paymentStates) as PaymentState[]),
  result: z.enum(['paid', 'already-paid', 'noted']).nullable(),
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
