import { createHash } from 'node:crypto'
import test from 'ava'
import {
  countLetters,
  listLetters,
  lockLetters,
  markPublished,
  readLetter,
  markLetterUndeliverable,
  unpublishedLetters,
} from '../../src/db/dead-letters.ts'
import { discardLetters, replayEvents, replayMessage } from '../../src/db/handle-letters.ts'
import { type ReadAgain, type ReadMessage, readBridgeTotals, receive } from '../../src/db/inbox.ts'
import { createPaymentEvents, type PaymentEvents, strandedPayments } from '../../src/db/payment-events.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import type { PaymentEvent } from '../../src/model.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { hostClock } from '../support/clock.ts'
import { readWaitingItems } from '../../src/db/waiting-counts.ts'
import { createDatabase, query } from '../support/database.ts'

let database: Awaited<ReturnType<typeof createDatabase>>
let pool: Pool
let events: PaymentEvents
test.before(async () => {
  database = await createDatabase()
  pool = await connectPool(database.dsn, { size: 6, logger: createLogger('silent') })
  events = createPaymentEvents(pool, hostClock)
})
test.after.always(async () => {
  await pool?.end()
  await database?.drop()
})
/** Whatever a test does, the bridge's totals balance at any moment that one can see. */
test.afterEach.always(async (t) => {
  const { consumed, applied: ended, duplicate, dead, waiting, ignored } = await readBridgeTotals(pool)
  t.is(consumed, ended + duplicate + dead + waiting + ignored)
  const [row] = await query<{ n: number }>(
    database.dsn,
    `select count(*)::int as n from order_service.payment_events where state = 'APPLIED'`,
  )
  t.is(ended, row!.n)
})

const source = { topic: 'payment.events', partition: 0 }
let offsets = 0n
let orders = 1000

const hash = (text: string) => createHash('sha256').update(text).digest('hex')

function event(changes: Partial<PaymentEvent> = {}, identity?: string): ReadMessage {
  orders += 1
  const told: PaymentEvent = {
    type: 'payment.succeeded',
    orderId: orders,
    amountCents: 2000,
    currency: 'USD',
    provider: null,
    paymentId: null,
    details: {},
    ...changes,
  }
  const value = Buffer.from(JSON.stringify(told))
  return { ...asOnTopic(value), read: 'event', event: told, identity: identity ?? hash(String(value)) }
}

function asOnTopic(value: Buffer | null) {
  offsets += 1n
  return { offset: offsets, key: Buffer.from('7'), value, headers: [['trace', Buffer.from([0, 255])]] as const, sentAt: new Date() }
}
const unreadable = (bytes: Buffer, reason = 'no JSON'): ReadMessage => ({
  ...asOnTopic(bytes),
  read: 'unreadable',
  reason,
  bytesHash: createHash('sha256').update(bytes).digest('hex'),
})
const ignored = (): ReadMessage => ({ ...asOnTopic(Buffer.from('{}')), read: 'ignored' })

/** The same message as the topic would give it again at another offset. */
const again = (one: ReadMessage): ReadMessage => ({ ...one, offset: ++offsets })

test.serial('a new event waits for its job, which is its first attempt', async (t) => {
  const [one, two] = [event(), event()]
  const { receipts, waiting } = await receive(pool, source, [one, two])
  t.deepEqual(receipts, ['received', 'received'])
  t.is(waiting.length, 2)
  t.deepEqual(
    waiting.map(({ attempt }) => attempt),
    [1, 1],
  )
})

test.serial('a failed payment is recorded, and needs no job', async (t) => {
  const { receipts, waiting } = await receive(pool, source, [event({ type: 'payment.failed', details: { reason: 'card', code: '51' } })])
  t.deepEqual(receipts, ['recorded'])
  t.deepEqual(waiting, [])
})

test.serial('a repeated event is a duplicate; one that still waits gets a job again, under a new attempt', async (t) => {
  const one = event()
  const first = await receive(pool, source, [one])
  const second = await receive(pool, source, [one])
  const third = await receive(pool, source, [again(one)])
  t.deepEqual([second.receipts, third.receipts], [['duplicate'], ['duplicate']])
  t.deepEqual(second.waiting, [{ ...first.waiting[0]!, attempt: null }])
})

test.serial('an event that comes twice in a batch is received once', async (t) => {
  const one = event()
  const { receipts, waiting } = await receive(pool, source, [one, again(one), ignored(), again(one)])
  t.deepEqual(receipts, ['received', 'duplicate', 'ignored', 'duplicate'])
  t.is(waiting.length, 1)
})

test.serial('of two bridges that receive one batch at once each event is received by one of them', async (t) => {
  const batch = Array.from({ length: 40 }, () => event())
  const batches = [batch, batch.toReversed(), batch, batch.toReversed()]
  const received = await Promise.all(batches.map((one, partition) => receive(pool, { ...source, partition }, one)))
  const times = received.flatMap(({ receipts }) => receipts).filter((receipt) => receipt === 'received').length
  t.is(times, 40)
})

test.serial('an event with the identity of another one and other content is a dead letter, once', async (t) => {
  const one = event()
  if (one.read !== 'event') throw new Error('an event')
  const other: ReadMessage = { ...again(one), read: 'event', identity: one.identity, event: { ...one.event, amountCents: 1 } }
  t.deepEqual((await receive(pool, source, [one, other])).receipts, ['received', 'dead'])
  t.deepEqual((await receive(pool, source, [one, other])).receipts, ['duplicate', 'duplicate'])
  const [letter] = (await listLetters(pool, { all: false, limit: 100 })).filter(({ fault }) => fault === 'other-content')
  t.like(letter, { eventId: undefined, offset: other.offset, state: 'WAITING', times: 1 })
})

test.serial('an unreadable message becomes a dead letter with its bytes, once', async (t) => {
  const bytes = Buffer.from([0x7b, 0x00, 0xff, 0xfe])
  const poison = unreadable(bytes)
  t.deepEqual((await receive(pool, source, [poison])).receipts, ['dead'])
  t.deepEqual((await receive(pool, source, [poison])).receipts, ['duplicate'])
  const letter = (await listLetters(pool, { all: false, limit: 1000 })).find(({ offset }) => offset === poison.offset)!
  t.deepEqual(letter.value, bytes)
  t.deepEqual(letter.headers, poison.headers)
  t.like(letter, { fault: 'unreadable', reason: 'no JSON', key: Buffer.from('7') })
})

test.serial('a topic that was created again begins at 0: other bytes at a known offset are another dead letter', async (t) => {
  const poison = unreadable(Buffer.from('first'))
  const other = { ...unreadable(Buffer.from('second')), offset: poison.offset }
  t.deepEqual((await receive(pool, source, [poison])).receipts, ['dead'])
  t.deepEqual((await receive(pool, source, [other])).receipts, ['dead'])
})

test.serial('a message without a value, and one that concerns no order, are counted and leave no event', async (t) => {
  const empty: ReadMessage = { ...asOnTopic(null), key: null, read: 'unreadable', reason: 'no value', bytesHash: hash('') }
  t.deepEqual((await receive(pool, source, [empty, ignored()])).receipts, ['dead', 'ignored'])
})

test.serial('a value that PostgreSQL refuses leaves nothing of its batch behind', async (t) => {
  const before = await readBridgeTotals(pool)
  const batch = [event(), event({ provider: 'a\0b' }), unreadable(Buffer.from('poison'))]
  await t.throwsAsync(receive(pool, source, batch))
  t.deepEqual(await readBridgeTotals(pool), before)
  t.deepEqual((await receive(pool, source, [batch[0]!, batch[2]!])).receipts, ['received', 'dead'])
})

async function newEvent() {
  const { waiting } = await receive(pool, source, [event()])
  const { eventId, attempt } = waiting[0]!
  return { eventId, attempt: attempt! }
}
const state = async (eventId: number) => {
  const [row] = await query<{ state: string; attempt: number; last_error: string | null }>(
    database.dsn,
    'select state, attempt, last_error from order_service.payment_events where id = $1',
    [eventId],
  )
  return row!
}
const letterOf = async (eventId: number) => {
  const letter = (await listLetters(pool, { all: true, limit: 1000 })).find((one) => one.eventId === eventId)
  if (!letter) throw new Error(`no letter of event ${eventId}`)
  return letter
}

test.serial('a payment attempt that was taken over writes nothing any more', async (t) => {
  const old = await newEvent()
  const attempt = (await events.resume(old.eventId))!
  t.true(attempt > old.attempt)
  await events.recordFailure(old, 'late')
  await events.recordApplied(old, 'already-paid')
  t.false(await events.deadLetter(old, 'cancelled', 'late'))
  t.deepEqual(await state(old.eventId), { state: 'WAITING', attempt, last_error: null })
  await events.recordApplied({ eventId: old.eventId, attempt }, 'already-paid')
  t.is(await events.resume(old.eventId), undefined, 'it waits no longer')
})

test.serial('a payment keeps its latest twenty failures, and the cause of the last one', async (t) => {
  const driven = await newEvent()
  for (let i = 1; i <= 25; i++) await events.recordFailure(driven, `failure ${i}`, { cause: 'downstream-error', service: 'catalog' })
  await events.recordFailure(driven, 'there is no order', { cause: 'payment-early' })
  const [row] = await query<{ cause: string; service: string | null; history: { error: string; cause: string }[] }>(
    database.dsn,
    'select cause, service, history from order_service.payment_events where id = $1',
    [driven.eventId],
  )
  t.like(row, { cause: 'payment-early', service: null })
  t.deepEqual(
    row!.history.map(({ error }) => error),
    [...Array.from({ length: 19 }, (_, i) => `failure ${i + 7}`), 'there is no order'],
  )
  t.like(row!.history[0], { attempt: driven.attempt, cause: 'downstream-error', service: 'catalog' })
})

test.serial('attempts that take over one event at once each get a number of their own, and only the last one counts', async (t) => {
  const { eventId } = await newEvent()
  const attempts = await Promise.all(Array.from({ length: 6 }, () => events.resume(eventId)))
  t.is(new Set(attempts).size, 6)
  t.is((await state(eventId)).attempt, Math.max(...attempts.map((attempt) => attempt!)))
})

test.serial('an event that died is a dead letter; replayed it waits again, with a new grace', async (t) => {
  const first = await newEvent()
  t.true(await events.deadLetter(first, 'unknown-order', 'there is no order'))
  t.false(await events.deadLetter(first, 'unknown-order', 'there is no order'))
  const letter = await letterOf(first.eventId)
  t.like(letter, { fault: 'unknown-order', state: 'WAITING', times: 1 })
  await query(database.dsn, `update order_service.payment_events set waiting_since = now() - interval '1 h' where id = $1`, [first.eventId])

  const replays = await Promise.all(Array.from({ length: 4 }, () => replayOne(letter.id)))

  t.is(replays.filter(Boolean).length, 1, 'of four people at once')
  const [row] = await query<{ young: boolean }>(
    database.dsn,
    `select waiting_since > now() - interval '1 min' as young from order_service.payment_events where id = $1`,
    [first.eventId],
  )
  t.true(row!.young)
  t.like(await state(first.eventId), { state: 'WAITING' })
  t.false(await events.deadLetter(first, 'cancelled', 'whoever drove it before'))

  const attempt = (await events.resume(first.eventId))!
  t.true(await events.deadLetter({ eventId: first.eventId, attempt }, 'cancelled', 'again'))
  t.like(await letterOf(first.eventId), { id: letter.id, fault: 'cancelled', reason: 'again', state: 'WAITING', times: 2 })
})

test.serial('a discarded letter keeps its bytes and the reason, and is not replayed any more', async (t) => {
  const first = await newEvent()
  await events.deadLetter(first, 'second-payment', 'paid before')
  const { id } = await letterOf(first.eventId)
  const discards = await Promise.all(['refunded', 'also refunded'].map((note) => pool.transaction((tx) => discardLetters(tx, [id], note))))
  t.deepEqual(discards.flat(), [id])
  t.false(await replayOne(id))
  const letter = (await readLetter(pool, id))!
  t.is(letter.state, 'DISCARDED')
  t.regex(letter.note!, /refunded/)
  t.true(letter.value!.length > 0)
  t.is((await state(first.eventId)).state, 'DEAD')
})

const replayOne = async (id: number) => (await pool.transaction((tx) => replayEvents(tx, [id]))).length > 0

/** @returns undefined where the letter does not wait, or somebody else is at it */
const readAgain = (id: number, message: ReadMessage): Promise<ReadAgain | undefined> =>
  pool.transaction(async (tx) => {
    const [letter] = await lockLetters(tx, [id])
    return letter && replayMessage(tx, letter, message)
  })

async function unreadLetter(): Promise<{ id: number; message: ReadMessage }> {
  const one = unreadable(Buffer.from(`poison ${offsets}`))
  await receive(pool, source, [one])
  const letter = (await listLetters(pool, { all: true, limit: 1000 })).find(({ offset }) => offset === one.offset)!
  return { id: letter.id, message: one }
}
const asEvent = ({ message: { offset, key, value, headers, sentAt } }: { message: ReadMessage }, like: ReadMessage): ReadMessage =>
  Object.assign({}, like, { offset, key, value, headers, sentAt })

test.serial('unread messages that can be read now become what they would have been, and each is counted once', async (t) => {
  const known = event()
  await receive(pool, source, [known])
  const cases: [string, ReadMessage][] = [
    ['received', event()],
    ['recorded', event({ type: 'payment.failed' })],
    ['duplicate', known],
    ['ignored', ignored()],
  ]
  for (const [became, like] of cases) {
    const letter = await unreadLetter()
    const before = await readBridgeTotals(pool)
    const read = await Promise.all([1, 2, 3].map(() => readAgain(letter.id, asEvent(letter, like))))
    t.deepEqual(
      read.flatMap((one) => (one ? [one.became] : [])),
      [became],
      'once, by whoever was first',
    )
    t.is((await readLetter(pool, letter.id))!.state, 'REPLAYED')
    const after = await readBridgeTotals(pool)
    t.is(after.consumed, before.consumed)
    t.is(after.dead, before.dead - 1)
    const once = (await receive(pool, source, [asEvent(letter, like)])).receipts[0]
    t.is(once, became === 'ignored' ? became : 'duplicate', 'the topic may give it once more')
  }
})

test.serial('unread messages that still cannot be taken in stay, and say why', async (t) => {
  const letter = await unreadLetter()
  const reader = (message: ReadMessage) => readAgain(letter.id, message)
  t.like(await reader(asEvent(letter, unreadable(Buffer.from('x'), 'still no JSON'))), { became: 'dead', reason: 'still no JSON' })
  const known = event()
  await receive(pool, source, [known])
  if (known.read !== 'event') throw new Error('an event')
  const other = { ...known, event: { ...known.event, amountCents: 3 } }
  t.like(await reader(asEvent(letter, other)), { became: 'dead', fault: 'other-content' })
  t.like(await readLetter(pool, letter.id), { state: 'WAITING', fault: 'other-content', times: 3 })
})

test.serial('a replay that PostgreSQL refuses changes nothing', async (t) => {
  const letter = await unreadLetter()
  await t.throwsAsync(readAgain(letter.id, asEvent(letter, event({ provider: 'a\0b' }))))
  t.like(await readLetter(pool, letter.id), { state: 'WAITING', times: 1 })
})

test.serial('each dead letter is published once, one that no broker takes never, and one that died again once more', async (t) => {
  const first = await newEvent()
  await events.deadLetter(first, 'cancelled', 'no order')
  const [letter, large] = [await letterOf(first.eventId), await unreadLetter()]
  const isUnpublished = async (id: number) => (await unpublishedLetters(pool, 1000)).some((one) => one.id === id)
  t.true((await isUnpublished(letter.id)) && (await isUnpublished(large.id)))
  const before = await countLetters(pool)

  await markPublished(pool, [letter.id])
  await markLetterUndeliverable(pool, large.id, 'too large')

  t.false((await isUnpublished(letter.id)) || (await isUnpublished(large.id)))
  t.deepEqual(await countLetters(pool), { ...before, unpublished: before.unpublished - 2 })
  await replayOne(letter.id)
  const attempt = (await events.resume(first.eventId))!
  await events.deadLetter({ eventId: first.eventId, attempt }, 'cancelled', 'no order')
  t.true(await isUnpublished(letter.id))
})

test.serial('events that no job has touched for a while are stranded, those that wait properly are not', async (t) => {
  const [lost, driven] = [await newEvent(), await newEvent()]
  const old = `update order_service.payment_events set touched_at = now() - interval '2 min' where id = any($1)`
  await query(database.dsn, old, [[lost.eventId, driven.eventId]])
  await events.recordFailure(driven, 'there is no order')
  const stranded = await strandedPayments(pool, { from: 0, untouchedMs: 60_000, limit: 1000 })
  t.deepEqual(
    stranded.map(({ eventId, attempt }) => ({ eventId, attempt })),
    [{ eventId: lost.eventId, attempt: null }],
  )
})

test.serial('a payment that is found again has not been tried: the fault that it met may be over', async (t) => {
  const tried = await newEvent()
  await events.recordFailure(tried, 'no answer', { cause: 'downstream-timeout', service: 'shipping' })
  await query(database.dsn, `update order_service.payment_events set touched_at = now() - interval '2 min' where id = $1`, [tried.eventId])
  const found = await strandedPayments(pool, { from: 0, untouchedMs: 60_000, limit: 1000 })
  t.true(found.some(({ eventId }) => eventId === tried.eventId))
  t.deepEqual(await strandedPayments(pool, { from: 0, untouchedMs: 60_000, limit: 1000 }), [], 'the next ones get their turn')
  const [waiting] = (await readWaitingItems(pool)).filter(({ service }) => service === 'shipping')
  t.true(Date.now() - waiting!.lastTriedAt.getTime() > 15_000)
})
