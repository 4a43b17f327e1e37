/** A process that dies at each boundary of a checkout and of its event (docs/rescue.md): the customer's repeat gets the one order. */
import test, { type ExecutionContext } from 'ava'
import { until } from '../support/until.ts'
import type { Place } from '../support/wire/index.ts'
import { customersOnly, type Shop } from '../support/shop.ts'
import {
  addsJob,
  asks,
  asksOnce,
  type Boundary,
  evening,
  finishesJob,
  letsLeaseGo,
  places,
  posts,
  repeats,
  scene,
  takesJob,
  takesLease,
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
  { name: 'the intent', path: [asks('postgres', 'intend')], alsoBefore: true },
  { name: 'the job', path: [addsJob('checkout')] },
  { name: 'the taking of the job', path: [addsJob('checkout'), takesJob('checkout')] },
  { name: 'the lease', path: [takesLease] },
  { name: 'the reserve at Catalog', path: [reserve] },
  { name: 'the shipment at Shipping', path: [create] },
  { name: 'the order with its record and its event', path: [asks('postgres', 'complete')] },
  { name: 'the end of the job', path: [asks('postgres', 'complete'), finishesJob('checkout')], alsoBefore: true },
  { name: 'the release of the lease', path: [letsLeaseGo], alsoBefore: true },
  { name: 'the event to Kafka', path: [asks('postgres', 'complete'), asks('kafka', 'produce')], alsoBefore: true },
  { name: 'the mark that the event was sent', path: [asks('postgres', 'mark-sent')] },
]

const shippingIsSlow: Boundary[] = [
  { name: 'the record of the reserve on its own', path: [asks('postgres', 'record-reserved')], alsoBefore: true },
]

const shippingFails: Boundary[] = [
  { name: 'the note of what a failed attempt left', path: [asks('postgres', 'leave')], alsoBefore: true },
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
    await evening(t, at, 2)
    const { order_id: orderId } = again.body
    await until(
      () => events.count('order.created', customer.email, orderId),
      (count) => count > 0,
    )
    const orders = await shop.query('select id from public.orders where user_email = $1', [customer.email])
    t.deepEqual(orders, [{ id: orderId }])
  })
}
