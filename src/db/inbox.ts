/** The inbox stores each event of the payment topic once, and counts the messages in the totals of the bridge. */
import { sql } from 'slonik'
import { z } from 'zod'
import { Drained, isDrained } from './drain.ts'
import { type DeadLetterFault, type PaymentEvent, type PaymentState, paymentStates } from '../model.ts'
import type { WaitingEvent } from './payment-events.ts'
import { nothing, type Pool, type Transaction } from './pool.ts'

/** A message of the topic. Bytes are unchanged, and `headers` keep their order. */
export interface Message {
  offset: bigint
  key: Buffer | null
  value: Buffer | null
  headers: readonly (readonly [name: string, value: Buffer])[]
  sentAt: Date
}

/** A message and how the bridge read it. `identity` tells a repetition from a new event. */
export type ReadMessage = Message &
  (
    | { read: 'event'; event: PaymentEvent; identity: string }
    | { read: 'ignored' }
    | { read: 'unreadable' | 'ambiguous'; reason: string; bytesHash: string }
  )

/** The result of one message of a batch. */
export type Receipt = 'received' | 'recorded' | 'duplicate' | 'dead' | 'ignored'

export interface Received {
  receipts: Receipt[]
  waiting: WaitingEvent[]
}

const idRow = z.object({ id: z.int() })
const eventRow = z.object({
  id: z.int(),
  identity: z.string(),
  state: z.enum(Object.keys(paymentStates) as PaymentState[]),
  type: z.string(),
  order_id: z.int(),
  amount_cents: z.int().nullable(),
  currency: z.string().nullable(),
  attempt: z.int(),
})
type EventRow = z.infer<typeof eventRow>
const base64 = (bytes: Buffer | null) => bytes?.toString('base64') ?? null
const bytesOf = (message: Message) => ({
  kafka_offset: String(message.offset),
  key: base64(message.key),
  value: base64(message.value),
  headers: JSON.stringify(message.headers.map(([name, value]) => [name, base64(value)])),
  sent_at: message.sentAt.toISOString(),
})

/**
 * Writes a batch of one partition into the inbox, the dead letters and the totals of the bridge, in one transaction. If the batch is
 * repeated, for example after a crash, all of it is duplicate.
 * @returns a receipt for each message, in order, and all events of the batch that wait for a job, including those received before
 * @throws Drained if the service is drained and the batch has new messages. Duplicates are accepted, so that the group can move past them
 */
export async function receive(pool: Pool, source: Source, batch: readonly ReadMessage[]): Promise<Received> {
  return pool.transaction(async (tx) => {
    const { sorted, waiting } = await storeMessages(tx, source, batch)
    const newLetters = await insertLetters(tx, source, sorted.filter(isFaulty))
    // A dead letter that is stored already is a duplicate, like a stored event.
    const receipts = sorted.map((one) => (isFaulty(one) ? (newLetters.has(one.message.offset) ? 'dead' : 'duplicate') : one.receipt))
    const count = (receipt: Receipt) => receipts.filter((one) => one === receipt).length
    const isNew = count('duplicate') + count('ignored') < batch.length
    const { rowCount } = await tx.query(sql.prepared('count-received', nothing)`
      insert into order_service.bridge_totals (topic, partition, consumed, received, duplicate, ignored)
      select ${source.topic}, ${source.partition}::int, ${batch.length}::bigint, ${count('received') + count('recorded')}::bigint,
        ${count('duplicate')}::bigint, ${count('ignored')}::bigint
      where not (${isNew} and ${isDrained})
      on conflict (topic, partition) do update set consumed = bridge_totals.consumed + excluded.consumed,
        received = bridge_totals.received + excluded.received, duplicate = bridge_totals.duplicate + excluded.duplicate,
        ignored = bridge_totals.ignored + excluded.ignored`)
    if (rowCount === 0) throw new Drained('the service is drained: new payments wait on their topic')
    return { receipts, waiting }
  })
}

/** The result of reading a dead letter again. */
export type ReadAgain =
  | { became: 'received' | 'recorded' | 'duplicate'; eventId: number }
  | { became: 'ignored' }
  | { became: 'dead'; fault: DeadLetterFault; reason: string }

/**
 * Receives a message of a dead letter, in the transaction that updates the dead letter. The message was counted as consumed when it
 * arrived, so only its new result is counted.
 */
export async function receiveAgain(tx: Transaction, source: Source, message: ReadMessage): Promise<ReadAgain> {
  const { sorted, idOf } = await storeMessages(tx, source, [message])
  const one = sorted[0]!
  if (isFaulty(one)) return { became: 'dead', fault: one.fault, reason: one.reason }
  const { receipt } = one
  await tx.query(sql.prepared('count-read-again', nothing)`
    update order_service.bridge_totals
    set received = received + ${receipt === 'received' || receipt === 'recorded' ? 1 : 0}::int,
      duplicate = duplicate + ${receipt === 'duplicate' ? 1 : 0}::int, ignored = ignored + ${receipt === 'ignored' ? 1 : 0}::int
    where topic = ${source.topic} and partition = ${source.partition}`)
  return receipt === 'ignored' ? { became: receipt } : { became: receipt, eventId: idOf(message)! }
}

export interface Source {
  topic: string
  partition: number
}

/** A message that a person has to handle, with the reason. */
interface Faulty {
  message: Message
  fault: DeadLetterFault
  reason: string
  bytesHash: string
}
type Sorted = Faulty | { receipt: 'received' | 'recorded' | 'duplicate' | 'ignored' }

const isFaulty = (one: Sorted): one is Faulty => 'fault' in one

/** Stores the events of a batch in the inbox, and classifies each message. */
async function storeMessages(tx: Transaction, source: Source, batch: readonly ReadMessage[]) {
  const events = batch.filter((message) => message.read === 'event')
  const fresh = new Set(await insertEvents(tx, source, events))
  // A separate statement sees the rows that another bridge inserted at the same moment.
  const rows = await readByIdentity(
    tx,
    events.map(({ identity }) => identity),
  )
  const waiting = [...rows.values()]
    .filter(({ state }) => state === 'WAITING')
    .map(({ id, order_id: orderId, attempt }) => ({ eventId: id, orderId, attempt: fresh.has(id) ? attempt : null }))
  const sorted = batch.map((message): Sorted => {
    if (message.read === 'ignored') return { receipt: 'ignored' }
    if (message.read !== 'event') return { message, fault: message.read, reason: message.reason, bytesHash: message.bytesHash }
    const row = rows.get(message.identity)!
    if (!hasContent(row, message.event)) {
      const reason = `an event with this identity was already received, for order ${row.order_id}, ${row.amount_cents} ${row.currency}`
      return { message, fault: 'other-content', reason, bytesHash: message.identity }
    }
    if (!fresh.delete(row.id)) return { receipt: 'duplicate' }
    return { receipt: row.state === 'APPLIED' ? 'recorded' : 'received' }
  })
  return { sorted, waiting, idOf: (message: ReadMessage) => (message.read === 'event' ? rows.get(message.identity)?.id : undefined) }
}

export const hasContent = (row: EventRow, event: PaymentEvent) =>
  row.order_id === event.orderId && row.amount_cents === event.amountCents && row.currency === event.currency

/** Inserts in the order of identities, so that two bridges cannot deadlock. @returns the ids of the new events */
export async function insertEvents(
  tx: Transaction,
  { topic, partition }: Source,
  events: readonly Extract<ReadMessage, { read: 'event' }>[],
): Promise<number[]> {
  if (events.length === 0) return []
  const input = JSON.stringify(
    events.map(({ event, identity, ...message }, ord) => ({
      ord,
      identity,
      type: event.type,
      order_id: event.orderId,
      amount_cents: event.amountCents,
      currency: event.currency,
      provider: event.provider,
      payment_id: event.paymentId,
      details: event.details,
      ...bytesOf(message),
    })),
  )
  const rows = await tx.any(sql.prepared('insert-payment-events', idRow)`
    insert into order_service.payment_events
      (identity, type, order_id, amount_cents, currency, provider, payment_id, details, state, result, topic, partition, kafka_offset, key, value, headers, sent_at)
    select identity, type, order_id, amount_cents, currency, provider, payment_id, details,
      -- A failed payment changes nothing: it is kept, and there is nothing to drive.
      case type when 'payment.failed' then 'APPLIED' else 'WAITING' end, case type when 'payment.failed' then 'recorded' end,
      ${topic}, ${partition}::int, kafka_offset, decode(key, 'base64'), decode(value, 'base64'), headers, sent_at
    from (
      select distinct on (identity) * from jsonb_to_recordset(${input}::jsonb) as t (
        ord int, identity text, type text, order_id int, amount_cents bigint, currency text, provider text, payment_id text, details jsonb,
        kafka_offset bigint, key text, value text, headers text, sent_at timestamptz)
      order by identity, ord) firsts
    on conflict (identity) do nothing
    returning id`)
  return rows.map(({ id }) => id)
}

export async function readByIdentity(tx: Transaction, identities: readonly string[]): Promise<Map<string, EventRow>> {
  if (identities.length === 0) return new Map()
  const rows = await tx.any(sql.prepared('read-payment-events', eventRow)`
    select id, identity, state, type, order_id, amount_cents, currency, attempt from order_service.payment_events
    where identity = any(${sql.array([...identities], 'text')})`)
  return new Map(rows.map((row) => [row.identity, row]))
}

/** @returns the offsets of the new dead letters */
async function insertLetters(tx: Transaction, { topic, partition }: Source, letters: readonly Faulty[]): Promise<Set<bigint>> {
  if (letters.length === 0) return new Set()
  const input = JSON.stringify(
    letters.map(({ message, fault, reason, bytesHash }) => ({ fault, reason, bytes_hash: bytesHash, ...bytesOf(message) })),
  )
  const rows = await tx.any(sql.prepared('insert-dead-letters', z.object({ kafka_offset: z.int() }))`
    insert into order_service.dead_letters (topic, partition, kafka_offset, bytes_hash, key, value, headers, sent_at, fault, reason)
    select ${topic}, ${partition}::int, kafka_offset, bytes_hash, decode(key, 'base64'), decode(value, 'base64'), headers, sent_at, fault, reason
    from jsonb_to_recordset(${input}::jsonb) as t (
      kafka_offset bigint, bytes_hash text, key text, value text, headers text, sent_at timestamptz, fault text, reason text)
    order by kafka_offset
    on conflict (topic, partition, kafka_offset, bytes_hash) where event_id is null do nothing
    returning kafka_offset`)
  return new Set(rows.map((row) => BigInt(row.kafka_offset)))
}

/**
 * Records that the topic no longer has the offsets from `from` up to, but not including, `upTo`. A repetition after a crash counts once.
 */
export async function recordLoss(pool: Pool, { topic, partition }: Source, { from, upTo }: { from: bigint; upTo: bigint }): Promise<void> {
  await pool.query(sql.prepared('record-loss', nothing)`
    insert into order_service.bridge_losses (topic, partition, from_offset, up_to_offset)
    values (${topic}, ${partition}, ${String(from)}::bigint, ${String(upTo)}::bigint)
    on conflict (topic, partition, from_offset) do update set up_to_offset = greatest(bridge_losses.up_to_offset, excluded.up_to_offset)`)
}

/** `consumed = applied + duplicate + dead + waiting + ignored`, from one snapshot. `applied` includes recorded failed payments. */
export interface BridgeTotals {
  consumed: number
  applied: number
  duplicate: number
  dead: number
  waiting: number
  ignored: number
  /** Offsets that the topic lost before the bridge read them. They are not in `consumed`. */
  lost: number
}

const totalsRow = z.object({
  consumed: z.int(),
  applied: z.int(),
  duplicate: z.int(),
  dead: z.int(),
  waiting: z.int(),
  ignored: z.int(),
  lost: z.int(),
})

export async function readBridgeTotals(pool: Pool): Promise<BridgeTotals> {
  return await pool.one(sql.prepared('bridge-totals', totalsRow)`
    select consumed, received - waiting - dead_events as applied, duplicate, ignored, waiting, dead,
      (select coalesce(sum(up_to_offset - from_offset), 0)::bigint from order_service.bridge_losses) as lost
    from (
      select coalesce(sum(consumed), 0)::bigint as consumed, coalesce(sum(received), 0)::bigint as received,
        coalesce(sum(duplicate), 0)::bigint as duplicate, coalesce(sum(ignored), 0)::bigint as ignored,
        (select count(*) from order_service.payment_events where state = 'WAITING') as waiting,
        -- By their letters: an event whose message was edited stays DEAD, and its letter belongs to the event that came of the edit.
        (select count(event_id) from order_service.dead_letters where state <> 'REPLAYED') as dead_events,
        (select count(*) from order_service.dead_letters where state <> 'REPLAYED') as dead
      from order_service.bridge_totals) counted`)
}
