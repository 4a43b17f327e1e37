import test from 'ava'
import { readBridgeTotals, receive } from '../../src/db/inbox.ts'
import { readLetter } from '../../src/db/dead-letters.ts'
import { createPaymentEvents } from '../../src/db/payment-events.ts'
import { readPaymentMessage } from '../../src/kafka/payment-message.ts'
import { ActionRefused } from '../../src/operators/action.ts'
import { hostClock } from '../support/clock.ts'
import { by, openActions, type OperatorsHarness } from './harness.ts'

let harness: OperatorsHarness
test.before(async () => {
  harness = await openActions()
})
test.after.always(async () => harness?.close())
test.afterEach.always(async (t) => {
  const { consumed, applied, duplicate, dead, waiting, ignored } = await readBridgeTotals(harness.pool)
  t.is(consumed, applied + duplicate + dead + waiting + ignored, 'the totals of the bridge balance')
})

let orders = 100
const paid = (changes: object = {}) => {
  orders += 1
  return {
    type: 'payment.succeeded',
    order_id: orders,
    amount_cents: 5,
    currency: 'USD',
    provider: 'card',
    payment_id: `p-${orders}`,
    ...changes,
  }
}
const bytes = (fields: object) => Buffer.from(JSON.stringify(fields))
const edit = (id: number, value: Buffer) => harness.results({ verb: 'edit-letter', selection: { items: [id], value } })
const eventsOf = (orderId: number) =>
  harness.ask<{ id: number; state: string; amount: number; value: Buffer | null; last_error: string | null }>(
    'select id::int, state, amount_cents::int as amount, value, last_error from order_service.payment_events where order_id = $1 order by id',
    [orderId],
  )

test.serial('an edited amount becomes a payment of its own, and both what was sent and what is applied stay on record', async (t) => {
  const sent = paid()
  const { letterId, eventId } = await harness.died(sent)
  const applied = bytes({ ...sent, amount_cents: 2000 })

  const { action, items } = await edit(letterId, applied)

  const [old, edited] = await eventsOf(sent.order_id)
  t.like(old, {
    id: eventId,
    state: 'DEAD',
    amount: 5,
    value: null,
    last_error: `an operator edited the message: see payment ${edited!.id}`,
  })
  t.like(edited, { state: 'WAITING', amount: 2000, value: applied })
  t.deepEqual(items, { [letterId]: ['changed', `payment ${edited!.id} is processed`] })
  t.like(await readLetter(harness.pool, letterId), { state: 'REPLAYED', eventId: edited!.id, value: bytes(sent), editedValue: applied })
  t.deepEqual(await harness.actions.readEdited(action.id), applied)
  t.is(await harness.queues.paymentQueue.queue.getJobState(`payment-${edited!.id}`), 'waiting')

  const again = readPaymentMessage({ offset: 99_999n, key: null, value: bytes(sent), headers: [], sentAt: new Date() })
  const { receipts } = await receive(harness.pool, { topic: 'payment.events', partition: 0 }, [again])
  t.deepEqual(receipts, ['duplicate'], 'the topic may give the message as it was sent once more')
})

test.serial('an edited payment that dies again is in the same letter, and can be edited again or replayed', async (t) => {
  const sent = paid()
  const { letterId } = await harness.died(sent)
  await edit(letterId, bytes({ ...sent, amount_cents: 6 }))
  const [, second] = await eventsOf(sent.order_id)
  await createPaymentEvents(harness.pool, hostClock).deadLetter({ eventId: second!.id, attempt: 1 }, 'wrong-amount', '6 is wrong as well')
  t.like(await readLetter(harness.pool, letterId), { state: 'WAITING', times: 2, reason: '6 is wrong as well', value: bytes(sent) })
  await edit(letterId, bytes({ ...sent, amount_cents: 7 }))
  t.deepEqual(
    (await eventsOf(sent.order_id)).map(({ state, amount }) => [state, amount]),
    [
      ['DEAD', 5],
      ['DEAD', 6],
      ['WAITING', 7],
    ],
  )
})

test.serial('an edited order id is applied to the other order', async (t) => {
  const sent = paid()
  const { letterId } = await harness.died(sent, 'unknown-order')
  await edit(letterId, bytes({ ...sent, order_id: 9001, payment_id: 'p-9001' }))
  t.like((await eventsOf(9001))[0], { state: 'WAITING' })
  t.deepEqual(
    (await eventsOf(sent.order_id)).map(({ state }) => state),
    ['DEAD'],
  )
})

test.serial('an edited message that could not be read becomes its payment', async (t) => {
  const id = await harness.unread('{"type": "payment.succeeded"')
  const value = bytes(paid())
  await edit(id, value)
  t.like((await eventsOf(orders))[0], { state: 'WAITING', value })
  t.like(await readLetter(harness.pool, id), { state: 'REPLAYED', value: Buffer.from('{"type": "payment.succeeded"') })
})

test.serial('an edit that makes a payment of another one that was received is a duplicate, or is refused', async (t) => {
  const other = paid()
  await receive(harness.pool, { topic: 'payment.events', partition: 0 }, [
    readPaymentMessage({ offset: 88_888n, key: null, value: bytes(other), headers: [], sentAt: new Date() }),
  ])
  const [known] = await eventsOf(other.order_id)
  const { letterId, eventId } = await harness.died(paid())
  await t.throwsAsync(edit(letterId, bytes({ ...other, amount_cents: 6 })), {
    instanceOf: ActionRefused,
    message: /already received, for order/,
  })
  t.like(await readLetter(harness.pool, letterId), { state: 'WAITING', eventId })
  t.deepEqual((await edit(letterId, bytes(other))).items, {
    [letterId]: ['changed', `a repetition of payment ${known!.id}: nothing is applied twice`],
  })
  t.like(await readLetter(harness.pool, letterId), { state: 'REPLAYED' })
})

const unusable: [string, Buffer, RegExp][] = [
  ['is not JSON', Buffer.from('{'), /the value is not JSON/],
  ['is not UTF-8', Buffer.from([0xff]), /not UTF-8/],
  ['is empty', Buffer.from(''), /the value is empty/],
  ['has a type that does not concern orders', bytes({ type: 'payment.opened' }), /discard the letter instead/],
]
for (const [what, value, message] of unusable) {
  test.serial(`an edit that ${what} changes nothing, records nothing and says why`, async (t) => {
    const sent = paid()
    const letters = [await harness.unread('{'), (await harness.died(sent)).letterId]
    const before = await harness.actions.list({ limit: 1 })
    for (const id of letters) {
      await t.throwsAsync(harness.actions.act({ verb: 'edit-letter', selection: { items: [id], value }, ...by }), {
        instanceOf: ActionRefused,
        message,
      })
      t.like(await readLetter(harness.pool, id), { state: 'WAITING', times: 1 })
    }
    t.deepEqual(await harness.actions.list({ limit: 1 }), before)
  })
}

test.serial('replaying letters drives events again, reads messages again, and records what became of each', async (t) => {
  const { letterId, eventId } = await harness.died(paid())
  const [broken, readable, failed] = [
    await harness.unread('{'),
    await harness.unread(JSON.stringify(paid())),
    await harness.unread(JSON.stringify(paid({ type: 'payment.failed' }))),
  ]
  const { items } = await harness.results({ verb: 'replay-letters', selection: { items: [letterId, broken, readable, failed, 777_777] } })
  const [event] = await eventsOf(orders - 1)
  t.deepEqual(items, {
    [letterId]: ['changed', `payment ${eventId} of order ${orders - 2} is processed again`],
    [broken]: ['failed', 'dead again: the value is not JSON'],
    [readable]: ['changed', `payment ${event!.id} is processed`],
    [failed]: ['changed', 'a failed payment: recorded, the order is unchanged'],
    777_777: ['failed', 'no dead letter has this id'],
  })
  for (const id of [eventId, event!.id]) t.is(await harness.queues.paymentQueue.queue.getJobState(`payment-${id}`), 'waiting')
  const history = await harness.actions.historyOf('letter', letterId, 10)
  t.like(history[0], { verb: 'replay-letters', result: 'changed', operator: by.operator })
})
