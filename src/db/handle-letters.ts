/** What people do with dead letters: replay, edit, discard. Each works in the transaction that records it. */
import { createHash } from 'node:crypto'
import { sql } from 'slonik'
import { z } from 'zod'
import type { DeadLetter } from './dead-letters.ts'
import { hasContent, insertEvents, type ReadAgain, readByIdentity, type ReadMessage, receiveAgain } from './inbox.ts'
import { nothing, type Transaction } from './pool.ts'
import { int8s } from './stock-calls.ts'

/**
 * Puts the events of letters back to WAITING, with a new grace period. An attempt that still drives one is no longer the latest. They count
 * as untouched for a while, so that the rescuer adds a job soon if this process dies before it does.
 */
export async function replayEvents(tx: Transaction, letterIds: readonly number[]): Promise<{ eventId: number; orderId: number }[]> {
  if (letterIds.length === 0) return []
  const rows = await tx.any(sql.type(z.object({ id: z.int(), order_id: z.int() }))`
    with letter as (
      update order_service.dead_letters set state = 'REPLAYED', last_at = clock_timestamp()
      where id = any(${int8s(letterIds)}) and state = 'WAITING' returning event_id
    )
    update order_service.payment_events e
    set state = 'WAITING', attempt = attempt + 1, last_error = null, cause = null, service = null, waiting_since = clock_timestamp(),
      touched_at = clock_timestamp() - interval '35 s'
    where e.id = any(array(select event_id from letter)) and e.state = 'DEAD' returning e.id, e.order_id`)
  return rows.map((row) => ({ eventId: row.id, orderId: row.order_id }))
}

/** Reads a message that never became an event once more, and receives it as if it came now. The caller has locked the letter. */
export async function replayMessage(tx: Transaction, { id, topic, partition }: DeadLetter, message: ReadMessage): Promise<ReadAgain> {
  const read = await receiveAgain(tx, { topic, partition }, message)
  if (read.became === 'dead') {
    await tx.query(sql.type(nothing)`
      update order_service.dead_letters
      set times = times + 1, last_at = clock_timestamp(), fault = ${read.fault}, reason = ${read.reason} where id = ${id}`)
  } else {
    // If the event becomes a dead letter, it gets this row again. A duplicate's event may have a letter of its own.
    await markReplayed(tx, id, read.became === 'received' || read.became === 'recorded' ? read.eventId : null)
  }
  return read
}

async function markReplayed(tx: Transaction, id: number, eventId: number | null): Promise<void> {
  await tx.query(sql.type(nothing)`
    update order_service.dead_letters set state = 'REPLAYED', event_id = ${eventId}, last_at = clock_timestamp() where id = ${id}`)
}

/**
 * Receives the edited message of a letter that has an event. The edited message becomes an event of its own, which gets the letter; the
 * old event stays DEAD and keeps its identity, so that a repetition of the message as it was sent is still a duplicate (decision 0033).
 * The letter keeps the bytes that were sent.
 */
export async function editEvent(
  tx: Transaction,
  letter: DeadLetter & { eventId: number },
  message: Extract<ReadMessage, { read: 'event' }>,
): Promise<ReadAgain> {
  const { id, eventId, topic, partition, times } = letter
  const same = (await readByIdentity(tx, [message.identity])).get(message.identity)
  if (same && !(await comesOf(tx, letter, same.id))) {
    if (!hasContent(same, message.event)) return otherContent(same)
    await tx.query(sql.type(nothing)`
      update order_service.bridge_totals set received = received - 1, duplicate = duplicate + 1 where topic = ${topic} and partition = ${partition}`)
    await replace(tx, eventId, same.id)
    await markReplayed(tx, id, eventId)
    return { became: 'duplicate', eventId: same.id }
  }
  // The same payment, with another order or amount: its identity belongs to the message as it was sent.
  const identity = same
    ? createHash('sha256')
        .update(JSON.stringify(['edited', id, times, message.identity]))
        .digest('hex')
    : message.identity
  const [newId] = await insertEvents(tx, { topic, partition }, [{ ...message, identity }])
  if (newId === undefined) throw new Error(`the edited message of dead letter ${id} was received meanwhile; try again`)
  await replace(tx, eventId, newId)
  await markReplayed(tx, id, newId)
  return { became: message.event.type === 'payment.failed' ? 'recorded' : 'received', eventId: newId }
}

/** Whether an event came of the message of this letter, as it was sent or by an earlier edit. */
const comesOf = (tx: Transaction, { topic, partition, offset }: DeadLetter, eventId: number): Promise<boolean> =>
  tx.exists(sql.type(nothing)`
    select from order_service.payment_events
    where id = ${eventId} and state = 'DEAD' and topic = ${topic} and partition = ${partition} and kafka_offset = ${String(offset)}::bigint`)

const otherContent = (row: { order_id: number; amount_cents: number | null; currency: string | null }): ReadAgain => ({
  became: 'dead',
  fault: 'other-content',
  reason: `an event with this identity was already received, for order ${row.order_id}, ${row.amount_cents} ${row.currency}`,
})

/** The old event stays DEAD. Its bytes go, since the letter has the same. */
async function replace(tx: Transaction, eventId: number, by: number): Promise<void> {
  await tx.query(sql.type(nothing)`
    update order_service.payment_events
    set last_error = ${`an operator edited the message: see payment ${by}`}, touched_at = clock_timestamp(), pruned_at = now(), key = null,
      value = null, headers = '[]', details = '{}'
    where id = ${eventId} and state = 'DEAD'`)
}

/** Discards letters: they will not be applied. Their bytes stay. @returns those that waited */
export async function discardLetters(tx: Transaction, ids: readonly number[], note: string): Promise<number[]> {
  const rows = await tx.any(sql.type(z.object({ id: z.int() }))`
    with free as materialized (
      select id from order_service.dead_letters where id = any(${int8s(ids)}) and state = 'WAITING' order by id for update skip locked
    )
    update order_service.dead_letters set state = 'DISCARDED', note = ${note}, last_at = clock_timestamp()
    where id = any(array(select id from free)) returning id`)
  return rows.map(({ id }) => id)
}
