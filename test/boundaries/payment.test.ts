/** A process that dies at each boundary of the bridge, of a payment and of a dead letter (docs/rescue.md): paid once, committed once. */
import test, { type ExecutionContext } from 'ava'
import { bridgeBooks } from '../support/payment-books.ts'
import { settled } from '../support/books.ts'
import { until } from '../support/until.ts'
import { everything } from '../support/shop.ts'
import type { Place } from '../support/wire/index.ts'
import {
  addsJob,
  asks,
  type Boundary,
  finishesJob,
  letsLeaseGo,
  places,
  posts,
  QTY,
  scene,
  type Scene,
  STOCK,
  takesJob,
  takesLease,
} from './dying.ts'
import { readTopic } from '../support/topic.ts'
import { type Events, listen } from './events.ts'

let events: Events
test.before(async () => {
  events = await listen()
})
test.after.always(() => events?.close())

const commit = posts('/catalog/v1/inventory/commit')

const ordinary: Boundary[] = [
  { name: 'the event in the inbox', path: [asks('postgres', 'insert-payment-events')], alsoBefore: true },
  { name: 'the count of what was received', path: [asks('postgres', 'count-received')] },
  { name: 'the end of the inbox’ transaction', path: [asks('postgres', 'count-received'), asks('postgres', 'COMMIT')] },
  { name: 'the job', path: [addsJob('payment')] },
  { name: 'the offset', path: [addsJob('payment'), asks('kafka', 'offset-commit')] },
  { name: 'the taking of the job', path: [addsJob('payment'), takesJob('payment')] },
  { name: 'the lease', path: [takesLease] },
  { name: 'the commit at Catalog', path: [commit] },
  { name: 'the order that is PAID', path: [asks('postgres', 'mark-paid')] },
  { name: 'the end of the job', path: [asks('postgres', 'mark-paid'), finishesJob('payment')], alsoBefore: true },
  { name: 'the release of the lease', path: [asks('postgres', 'mark-paid'), letsLeaseGo], alsoBefore: true },
]

const catalogFails: Boundary[] = [
  { name: 'the doubt', path: [commit, asks('postgres', 'doubt')], alsoBefore: true },
  { name: 'the note of what a failed attempt left', path: [asks('postgres', 'leave-payment')] },
  { name: 'the next attempt', path: [asks('postgres', 'resume-payment')] },
]

for (const { title, place } of places(ordinary)) test(`a payment whose process dies ${title} pays its order once`, isPaid, place, () => {})
for (const { title, place } of places(catalogFails)) {
  test(`a payment whose process dies ${title} pays its order once`, isPaid, place, ({ shop }: Scene) => {
    shop.catalog.fault({ call: 'commit', fault: 'drop', times: 1 })
  })
}

async function isPaid(t: ExecutionContext, place: Place, prepare: (at: Scene) => unknown): Promise<void> {
  await scene(t, everything, {}, async (at) => {
    const { shop, product, orderId } = at
    prepare(at)
    await at.diesAt(place, () => shop.pay(orderId))
    await at.another()
    const order = () => shop.query<{ status: string; user_email: string }>('select status, user_email from public.orders')
    const [{ user_email: email }] = (await until(order, ([row]) => row?.status === 'PAID')) as [{ status: string; user_email: string }]
    t.like(await bridgeBooks(shop, { consumed: 1 }), { applied: 1, dead: 0 })
    await settled(shop)
    t.deepEqual(shop.catalog.books(product), { in_stock: STOCK - QTY, reserved: 0 })
    const ledger =
      'select predicted_stock::int as predicted, extra_hold::int as hold, extra_stock::int as stock from order_service.products'
    t.deepEqual(await shop.query(ledger), [{ predicted: STOCK - QTY, hold: 0, stock: 0 }])
    await until(
      () => events.count('order.paid', email, orderId),
      (count) => count > 0,
    )
    t.is((await shop.query(`select from order_service.outbox where type = 'order.paid'`)).length, 1)
  })
}

const deadLetter: Boundary[] = [
  { name: 'the dead letter', path: [asks('postgres', 'bury-payment')], alsoBefore: true },
  { name: 'the letter to Kafka', path: [asks('postgres', 'bury-payment'), asks('kafka', 'produce')], alsoBefore: true },
  { name: 'the mark that the letter was sent', path: [asks('postgres', 'mark-published')] },
]

for (const { title, place } of places(deadLetter)) {
  test(`a payment of a wrong amount whose process dies ${title} is one dead letter, which is published`, async (t) => {
    await scene(t, everything, {}, async (at) => {
      const { shop, product, orderId } = at
      await at.diesAt(place, () => shop.pay(orderId, { amount_cents: 1 }))
      await at.another()
      const letters = () => shop.query<{ fault: string }>('select fault from order_service.dead_letters where published_at is not null')
      t.deepEqual(await until(letters, (rows) => rows.length > 0), [{ fault: 'wrong-amount' }])
      const landed = await readTopic(process.env.KAFKA_BOOTSTRAP!, shop.deadLetterTopic).catch(() => []) // where there is no topic yet
      t.true(landed.length > 0, 'it is on the topic for dead letters')
      t.like(await bridgeBooks(shop, { consumed: 1 }), { applied: 0, dead: 1 })
      t.deepEqual(await shop.query('select status from public.orders'), [{ status: 'CREATED' }])
      t.deepEqual(shop.catalog.books(product), { in_stock: STOCK, reserved: QTY })
    })
  })
}
