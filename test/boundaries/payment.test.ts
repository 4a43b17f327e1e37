/** A process that dies at each boundary of the bridge, of a payment and of a dead letter (docs/rescue.md): paid once, committed once. */
import test, { type ExecutionContext } from 'ava'
import { allPaid, bridgeTotals } from '../support/payment-totals.ts'
import { settled } from '../support/shop-totals.ts'
import { until } from '../support/until.ts'
import { everything } from '../support/shop.ts'
import type { Place } from '../support/wire/index.ts'
import {
  addsJob,
  asks,
  type Boundary,
  commits,
  finishesJob,
  places,
  posts,
  QTY,
  scene,
  type Scene,
  STOCK,
  reads,
  takesJob,
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
  { name: 'the lease', path: [asks('postgres', 'acquire-commits')] },
  { name: 'the commit at Catalog', path: [commit] },
  { name: 'the order that is PAID', path: [asks('postgres', 'record-paid')] },
  { name: 'the end of the job', path: [asks('postgres', 'record-paid'), finishesJob('payment')], alsoBefore: true },
]

const unanswered = [commit, asks('postgres', 'continue-call')]

/** Catalog carries it out, and says nothing. */
const happens: Boundary[] = [
  { name: 'the commit without an answer', path: unanswered, alsoBefore: true },
  { name: 'the changes that were kept for the product', path: [...unanswered, asks('postgres', 'apply-changes')] },
  { name: 'the read of Catalog', path: [...unanswered, reads] },
  { name: 'what was found, and the order that is PAID', path: [...unanswered, asks('postgres', 'record-paid'), commits], alsoBefore: true },
  { name: 'the release of the lease', path: [...unanswered, asks('postgres', 'release-calls')], alsoBefore: true },
]

/** It never comes to Catalog. */
const doesNotHappen: Boundary[] = [
  { name: 'what was found', path: [...unanswered, asks('postgres', 'record-findings'), commits] },
  { name: 'the note of what a failed attempt left', path: [asks('postgres', 'record-payment-failure')] },
  { name: 'the next attempt', path: [asks('postgres', 'resume-payment')] },
]

for (const { title, place } of places(ordinary)) test(`a payment whose process dies ${title} pays its order once`, isPaid, place, () => {})
for (const [boundaries, fault] of [
  [happens, 'drop'],
  [doesNotHappen, 'reset'],
] as const) {
  for (const { title, place } of places(boundaries)) {
    test(`a payment without an answer (${fault}) whose process dies ${title} pays its order once`, isPaid, place, ({ shop }: Scene) => {
      shop.catalog.fault({ call: 'commit', fault, times: 1 })
    })
  }
}

async function isPaid(t: ExecutionContext, place: Place, prepare: (at: Scene) => unknown): Promise<void> {
  await scene(t, everything, {}, async (at) => {
    const { shop, product, orderId } = at
    prepare(at)
    await at.diesAt(place, () => shop.pay(orderId))
    await at.another()
    const order = () => shop.query<{ status: string; user_email: string }>('select status, user_email from public.orders')
    const [{ user_email: email }] = (await until(order, ([row]) => row?.status === 'PAID')) as [{ status: string; user_email: string }]
    t.like(await bridgeTotals(shop, { consumed: 1 }), { applied: 1, dead: 0 })
    await settled(shop)
    t.deepEqual(shop.catalog.inventory(product), { in_stock: STOCK - QTY, reserved: 0 })
    const rows = await shop.query(
      'select held::int, expected_stock::int as stock, hold_correction::int as holds, stock_correction::int as extra from order_service.products',
    )
    t.deepEqual(rows, [{ held: 0, stock: STOCK - QTY, holds: 0, extra: 0 }])
    await until(
      () => events.count('order.paid', email, orderId),
      (count) => count > 0,
    )
    t.is((await shop.query(`select from order_service.outbox where type = 'order.paid'`)).length, 1)
  })
}

/** Payments that wait for the same product are one commit: here two, while a third one has the product. */
const together: Boundary[] = [
  { name: 'the lease of a commit of several', path: [commit, asks('postgres', 'record-paid'), asks('postgres', 'acquire-commits')] },
  { name: 'the commit of several at Catalog', path: [commit, asks('postgres', 'record-paid'), commit] },
  { name: 'the orders that are PAID', path: [commit, asks('postgres', 'record-paid'), commit, asks('postgres', 'record-paid')] },
]

for (const { title, place } of places(together)) {
  test(`payments that travel in one commit, whose process dies ${title}, pay their orders once`, async (t) => {
    await scene(t, everything, {}, async (at) => {
      const { shop, product, first, orderId } = at
      const orderIds = [orderId]
      for (let i = 0; i < 2; i += 1) {
        const customer = await shop.customer().wants({ product_id: product, qty: QTY })
        orderIds.push((await customer.checkout({ url: first.url })).body.order_id)
      }
      const slow = shop.catalog.fault({ call: 'commit', fault: 'slow', ms: 700, times: 1 })
      await at.diesAt(place, async () => {
        await shop.pay(orderIds[0]!)
        await until(slow.fired, (times) => times === 1)
        await Promise.all(orderIds.slice(1).map((id) => shop.pay(id)))
      })
      await at.another()
      await allPaid(shop, orderIds)
      t.like(await bridgeTotals(shop, { consumed: 3 }), { applied: 3, dead: 0 })
      await settled(shop)
      t.deepEqual(shop.catalog.inventory(product), { in_stock: STOCK - 3 * QTY, reserved: 0 })
      t.is((await shop.query(`select from order_service.outbox where type = 'order.paid'`)).length, 3)
    })
  })
}

const deadLetter: Boundary[] = [
  { name: 'the dead letter', path: [asks('postgres', 'dead-letter-payment')], alsoBefore: true },
  { name: 'the letter to Kafka', path: [asks('postgres', 'dead-letter-payment'), asks('kafka', 'produce')], alsoBefore: true },
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
      t.like(await bridgeTotals(shop, { consumed: 1 }), { applied: 0, dead: 1 })
      t.deepEqual(await shop.query('select status from public.orders'), [{ status: 'CREATED' }])
      t.deepEqual(shop.catalog.inventory(product), { in_stock: STOCK, reserved: QTY })
    })
  })
}
