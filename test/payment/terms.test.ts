/** A shop whose payments carry no amounts, and whose consumers want to hear of paid orders. */
import test from 'ava'
import { openShop, type Shop } from '../support/shop.ts'
import { openHarness, paymentOf, type Harness } from './harness.ts'

let shop: Shop
let harness: Harness
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'], env: { PAYMENT_AMOUNT_CHECK: 'off', EMIT_ORDER_PAID: 'true' } })
  harness = await openHarness(shop)
})
test.after.always(async () => {
  await harness?.close()
  await shop?.close()
})

test('a payment without an amount pays its order where amounts are not checked', async (t) => {
  const order = await harness.buys({ product_id: shop.catalog.product({ stock: 10 }), qty: 2 })
  const eventId = await harness.paid(paymentOf(order, { amountCents: null, currency: null }))
  t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
})

test('order.paid follows order.created, once', async (t) => {
  const id = shop.catalog.product({ stock: 10 })
  const order = await harness.buys({ product_id: id, qty: 2 })
  shop.catalog.fault({ call: 'commit', productId: id, fault: 'drop', times: 1 })
  await harness.ended(await harness.paid(paymentOf(order)))
  await harness.ended(await harness.paid(paymentOf(order, { paymentId: 'p-1' })))

  const events = await shop.query<{ type: string; payload: Record<string, unknown>; event_id: string }>(
    'select type, payload, event_id from order_service.outbox where order_id = $1 order by id',
    [order.orderId],
  )

  t.deepEqual(
    events.map(({ type }) => type),
    ['order.created', 'order.paid'],
  )
  const { payload, event_id } = events[1]!
  const { timestamp, user_email, ...rest } = payload
  t.deepEqual(rest, { type: 'order.paid', order_id: order.orderId, amount_cents: order.totalCents, currency: 'USD', event_id, version: 1 })
  t.regex(String(timestamp), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.is(user_email, events[0]!.payload.user_email)
})
