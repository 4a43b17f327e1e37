/** A process that dies at each boundary of a checkout and of its event (docs/rescue.md): the customer's repeat gets the one order. */
import test, { type ExecutionContext } from 'ava'
import { shopTotals } from '../support/shop-totals.ts'
import { until } from '../support/until.ts'
import type { IsAsked, Place } from '../support/wire/index.ts'
import { customersOnly, type Shop } from '../support/shop.ts'
import {
  addsJob,
  allInOrder,
  asks,
  asksOnce,
  type Boundary,
  finishesJob,
  places,
  posts,
  QTY,
  reads,
  repeats,
  scene,
  takesJob,
} from './dying.ts'
import { type Events, listen } from './events.ts'

let events: Events
test.before(async () => {
  events = await listen()
})
test.after.always(() => events?.close())

const reserve = posts('/catalog/v1/inventory/reserve')
const create = posts('/shipping/v1/shipments')

const ordinary: Boundary[] = [
  { name: 'the intent with the lease', path: [asks('postgres', 'intend')], alsoBefore: true },
  { name: 'the job', path: [addsJob('checkout')] },
  { name: 'the taking of the job', path: [addsJob('checkout'), takesJob('checkout')] },
  { name: 'the reserve at Catalog', path: [reserve] },
  { name: 'the shipment at Shipping', path: [create] },
  { name: 'the order with its hold and its event', path: [asks('postgres', 'complete')] },
  { name: 'the end of the job', path: [asks('postgres', 'complete'), finishesJob('checkout')], alsoBefore: true },
  { name: 'the event to Kafka', path: [asks('postgres', 'complete'), asks('kafka', 'produce')], alsoBefore: true },
  { name: 'the mark that the event was sent', path: [asks('postgres', 'mark-sent')] },
]

const shippingIsSlow: Boundary[] = [
  { name: 'the record of the reserve on its own', path: [asks('postgres', 'record-holds')], alsoBefore: true },
]

const shippingFails: Boundary[] = [
  { name: 'the note of what a failed attempt left', path: [asks('postgres', 'record-failure')], alsoBefore: true },
  { name: 'the next attempt', path: [asks('postgres', 'resume')] },
]

const sets: [Boundary[], (shop: Shop) => unknown][] = [
  [ordinary, () => {}],
  [shippingIsSlow, (shop) => shop.shipping.fault({ call: 'create', fault: 'slow', ms: 300, times: 1 })],
  [shippingFails, (shop) => shop.shipping.fault({ call: 'create', fault: 'error', times: 1 })],
]

for (const [boundaries, prepare] of sets) {
  for (const { title, place } of places(boundaries))
    test(`a checkout whose process dies ${title} becomes one order`, becomesAnOrder, place, prepare)
}

async function becomesAnOrder(t: ExecutionContext, place: Place, prepare: (shop: Shop) => unknown): Promise<void> {
  await scene(t, customersOnly, {}, async (at) => {
    const { shop, product } = at
    const customer = await shop.customer().wants({ product_id: product, qty: 2 })
    prepare(shop)
    let first: Awaited<ReturnType<typeof asksOnce>>
    await at.diesAt(place, async () => {
      first = await asksOnce(customer, at.first.url)
    })
    const again = await repeats(customer, await at.another())
    if (first) t.deepEqual([first.status, first.body.order_id], [200, again.body.order_id])
    await allInOrder(t, at, 2)
    const { order_id: orderId } = again.body
    await until(
      () => events.count('order.created', customer.email, orderId),
      (count) => count > 0,
    )
    const orders = await shop.query('select id from public.orders where user_email = $1', [customer.email])
    t.deepEqual(orders, [{ id: orderId }])
  })
}

/** Those who wait while somebody has their product travel in one call: three here, where there is stock for two and a half of them. */
const waiting: readonly IsAsked[] = [reserve, asks('postgres', 'record-holds')]
const group: Boundary[] = [
  { name: 'the lease of several', path: [...waiting, asks('postgres', 'acquire-reserves')], alsoBefore: true },
  { name: 'the reserve of several at Catalog', path: [...waiting, reserve] },
  { name: 'the read of what is free', path: [...waiting, reserve, reads] },
  { name: 'the next call under the lease', path: [...waiting, reserve, reads, asks('postgres', 'acquire-reserves')], alsoBefore: true },
  { name: 'the reserve of those for whom there is stock', path: [...waiting, reserve, reads, reserve] },
  { name: 'the record of several', path: [...waiting, reserve, reads, reserve, asks('postgres', 'record-holds')], alsoBefore: true },
]

for (const { title, place } of places(group)) {
  test(`of checkouts that travel in one call, whose process dies ${title}, as many become orders as there is stock for`, async (t) => {
    await scene(t, customersOnly, { WORKER_CONCURRENCY: '64' }, async (at) => {
      const { shop, first } = at
      const product = shop.catalog.product({ stock: 4 * QTY - 1 })
      const buy = () => shop.customer().wants({ product_id: product, qty: QTY })
      t.is((await (await buy()).checkout({ url: first.url })).status, 200)
      const customers = await Promise.all([buy(), buy(), buy()])
      const slow = shop.catalog.fault({ call: 'reserve', fault: 'slow', ms: 500, times: 1 })
      await at.diesAt(place, async () => {
        void asksOnce(customers[0]!, first.url)
        await until(slow.fired, (times) => times === 1)
        for (const customer of customers.slice(1)) void asksOnce(customer, first.url)
      })
      const url = await at.another()
      const answers = await Promise.all(
        customers.map((customer) =>
          until(
            () => customer.checkout({ key: 'once', url }),
            ({ status }) => status === 200 || status === 409,
          ),
        ),
      )
      t.deepEqual(answers.map(({ status }) => status).sort(), [200, 200, 409])
      t.deepEqual(await shopTotals(shop, [product]), { orders: 3, sold: 3 * QTY, held: 3 * QTY, misshipped: [] })
      const orders = await shop.query('select id from public.orders where user_email = any($1)', [customers.map(({ email }) => email)])
      t.is(orders.length, 2)
    })
  })
}
