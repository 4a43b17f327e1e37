/** What becomes of payments that do not just pay an order, and of those that Catalog makes hard. */
import test from 'ava'
import { allPaid, totalsInTheEnd, bridgeTotals, letters, paid, patient, placeOrders } from '../support/payment-totals.ts'
import { paymentOf } from '../support/payments.ts'
import { everything, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let shop: Shop
test.beforeEach(async () => {
  shop = await openShop({ roles: everything, env: { ...patient, PAYMENT_GRACE_MS: '1500', CALL_TIMEOUT_MS: '1500' } })
  await until(
    () => shop.get('/order/ready'),
    ({ body }) => body.components.bridge.state === 'ok',
  )
})
test.afterEach.always(() => shop?.close())

const product = (stock = 1000) => shop.catalog.product({ stock })
const faults = async (orderId: number) => (await letters(shop, orderId)).map(({ fault }) => fault)
/** Until the payment of this order was tried in vain. */
const triedInVain = (orderId: number, error: RegExp) =>
  until(
    () => shop.query<{ last_error: string | null }>('select last_error from order_service.payment_events where order_id = $1', [orderId]),
    ([row]) => error.test(row?.last_error ?? ''),
  )

test.serial('a payment that comes before its checkout has ended waits for it', async (t) => {
  const id = product()
  const customer = await shop.customer().wants({ product_id: id, qty: 1 })
  const slow = shop.shipping.fault({ call: 'create', fault: 'slow', ms: 1200 })
  const answer = customer.checkout()
  await until(slow.fired, (times) => times === 1)
  const [{ order_id: order }] = (await shop.query('select order_id from order_service.checkouts')) as [{ order_id: number }]
  await shop.pay(order, { amount_cents: 1000, currency: 'USD' })
  await triedInVain(order, /still OPEN/)

  t.is((await answer).status, 200)
  await allPaid(shop, [order])
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 999, reserved: 0 })
  t.like(await bridgeTotals(shop, { consumed: 1 }), { applied: 1, dead: 0 })
})

test.serial('a payment of an order that appears within the grace is applied, one that never appears is a dead letter', async (t) => {
  await shop.pay(1, { amount_cents: 1000, currency: 'USD' })
  await shop.pay(4711, { amount_cents: 1000, currency: 'USD' })
  await triedInVain(1, /no order 1/)
  t.deepEqual(await placeOrders(shop, 1, product()), [1])

  await allPaid(shop, [1])
  t.like(await bridgeTotals(shop, { consumed: 2 }), { applied: 1, dead: 1 })
  t.deepEqual(await faults(4711), ['unknown-order'])
})

test.serial('a payment of a cancelled checkout is a dead letter, and nothing is committed', async (t) => {
  const id = product()
  const customer = await shop.customer().wants({ product_id: id, qty: 1 })
  shop.shipping.fault({ call: 'create', fault: 'refuse', status: 422 })
  const { status } = await customer.checkout()
  t.is(status, 502)
  const [{ order_id: order }] = (await shop.query('select order_id from order_service.checkouts')) as [{ order_id: number }]

  await shop.pay(order, { amount_cents: 1000, currency: 'USD' })

  t.like(await bridgeTotals(shop, { consumed: 1 }), { dead: 1 })
  t.deepEqual(await faults(order), ['cancelled'])
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 1000, reserved: 0 })
})

test.serial('a wrong amount or currency is a dead letter, and a right one pays afterwards', async (t) => {
  const orders = await placeOrders(shop, 3, product())
  await shop.pay(orders[0]!, { amount_cents: 999 })
  await shop.pay(orders[1]!, { currency: 'EUR' })
  await shop.pay(orders[2]!, { amount_cents: undefined, currency: undefined })
  t.like(await bridgeTotals(shop, { consumed: 3 }), { dead: 3 })
  for (const order of orders) t.deepEqual(await faults(order), ['wrong-amount'])
  t.deepEqual(shop.catalog.journal({ call: 'commit' }), [])

  for (const order of orders) await shop.pay(order)
  await allPaid(shop, orders)
  t.like(await bridgeTotals(shop, { consumed: 6 }), { applied: 3, dead: 3 })
})

test.serial('where amounts are not checked, a payment without one pays', async (t) => {
  const [order] = await placeOrders(shop, 1, product())
  const other = await openShop({ roles: everything, env: { PAYMENT_AMOUNT_CHECK: 'off' } })
  t.teardown(other.close)
  const [free] = await placeOrders(other, 1, other.catalog.product({ stock: 1 }))
  for (const [one, id] of [
    [shop, order],
    [other, free],
  ] as const) {
    await one.publish([paymentOf(id!, {})])
  }

  await allPaid(other, [free!])
  await bridgeTotals(shop, { consumed: 1 })
  t.deepEqual(await paid(shop, [order!]), [])
})

test.serial('another payment of a PAID order is a dead letter, the same one told again is not', async (t) => {
  const [order] = await placeOrders(shop, 1, product())
  await shop.pay(order!, { provider: 'stripe', payment_id: 'pi_1' })
  await allPaid(shop, [order!])
  await shop.pay(order!, { provider: 'stripe', payment_id: 'pi_2' })
  await shop.pay(order!, { provider: 'stripe', payment_id: 'pi_1', envelope: true })
  await shop.pay(order!)

  t.like(await bridgeTotals(shop, { consumed: 4 }), { applied: 2, duplicate: 1, dead: 1 })
  t.deepEqual(await faults(order!), ['second-payment'])
  t.is(shop.catalog.journal({ call: 'commit' }).length, 1)
})

test.serial('a failed payment is kept and pays nothing, other types are passed by, and the customer may pay after both', async (t) => {
  const [order] = await placeOrders(shop, 1, product())
  await shop.pay(order!, { type: 'payment.failed', reason: 'declined', code: 'card_51' })
  await shop.pay(order!, { type: 'payment.refund-requested' })
  t.like(await bridgeTotals(shop, { consumed: 2 }), { applied: 1, ignored: 1 })
  t.deepEqual(await shop.query('select state, result, details from order_service.payment_events'), [
    { state: 'APPLIED', result: 'recorded', details: { reason: 'declined', code: 'card_51' } },
  ])
  t.deepEqual(await paid(shop, [order!]), [])

  await shop.pay(order!)
  await allPaid(shop, [order!])
  t.like(await bridgeTotals(shop, { consumed: 3 }), { applied: 2, ignored: 1 })
})

test.serial('a hundred payments wait for a Catalog that is down, and are all applied after its return', async (t) => {
  const ids = Array.from({ length: 10 }, () => product())
  const orders = (await Promise.all(ids.map((id) => placeOrders(shop, 10, id)))).flat()
  await shop.catalog.down()
  await shop.publish(orders.map((order) => paymentOf(order, { amount_cents: 1000, currency: 'USD' })))
  // Some are tried in vain; the jobs of those that come after the breaker has opened wait.
  await until(
    () => shop.query<{ last_error: string | null }>(`select last_error from order_service.payment_events where state = 'WAITING'`),
    (rows) => rows.length === 100 && rows.some(({ last_error: error }) => error !== null),
  )
  t.deepEqual(await paid(shop, orders), [])
  await shop.catalog.up()

  await allPaid(shop, orders)
  t.like(await bridgeTotals(shop, { consumed: 100 }), { applied: 100, dead: 0 })
  for (const id of ids) t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 990, reserved: 0 })
  const commits = shop.catalog.journal({ call: 'commit' }).filter(({ applied }) => applied)
  t.is(
    commits.reduce((sum, { items }) => sum + items.reduce((qty, item) => qty + item.qty, 0), 0),
    100,
  )
})

for (const [what, fault] of [
  ['drops its answer after it acted', { fault: 'drop' }],
  ['hangs', { fault: 'hang' }],
  ['answers 500 after it acted', { fault: 'error', actFirst: true }],
  ['answers 500', { fault: 'error' }],
  ['refuses our key', { fault: 'refuse', status: 401 }],
] as const) {
  test.serial(`a commit of a Catalog that once ${what} counts once in the end`, async (t) => {
    const id = product()
    const [order] = await placeOrders(shop, 1, id, 3)
    const injected = shop.catalog.fault({ call: 'commit', times: 1, ...fault })
    await shop.pay(order!)

    await allPaid(shop, [order!])
    t.is(injected.fired(), 1)
    await until(
      () => totalsInTheEnd(shop, id),
      (totals) => totals?.in_stock === 997 && totals.reserved === 0,
    )
    t.is(shop.catalog.inFlightMost(id), 1)
    t.like(await bridgeTotals(shop, { consumed: 1 }), { applied: 1, dead: 0 })
  })
}

test.serial('of many payments in one batch the one that fails goes on by itself, and the others do not wait for it', async (t) => {
  const ids = Array.from({ length: 12 }, () => product())
  const orders = (await Promise.all(ids.map((id) => placeOrders(shop, 1, id)))).flat()
  const injected = shop.catalog.fault({ call: 'commit', productId: ids[5]!, fault: 'error', times: 3 })
  await shop.publish(orders.map((order) => ({ ...paymentOf(order, { amount_cents: 1000, currency: 'USD' }), partition: 0 })))

  await allPaid(shop, orders.toSpliced(5, 1))
  t.deepEqual(await paid(shop, [orders[5]!]), [])
  await allPaid(shop, orders)
  t.is(injected.fired(), 3)
  const repeated = await shop.query('select order_id from order_service.payment_events where attempt > 1')
  t.deepEqual(repeated, [{ order_id: orders[5]! }])
  t.like(await bridgeTotals(shop, { consumed: 12 }), { applied: 12, dead: 0 })
})

test.serial('a commit that Catalog refuses for good is a dead letter, and the order stays as it is', async (t) => {
  const id = product()
  const [order] = await placeOrders(shop, 1, id)
  shop.catalog.fault({ call: 'commit', fault: 'refuse', status: 404, detail: 'Inventory missing' })
  await shop.pay(order!)

  t.like(await bridgeTotals(shop, { consumed: 1 }), { dead: 1 })
  t.deepEqual(await faults(order!), ['catalog-refused'])
  t.deepEqual(await shop.query('select status from public.orders'), [{ status: 'CREATED' }])
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 1000, reserved: 1 })
})

test.serial(
  'twenty payments of one product at once, of which the first commits get no answer: all PAID, and the stock is right',
  async (t) => {
    const id = product(100)
    const orders = await placeOrders(shop, 20, id)
    const injected = shop.catalog.fault({ call: 'commit', fault: 'drop', times: 2 })
    await shop.publish(orders.map((order) => paymentOf(order, { amount_cents: 1000, currency: 'USD' })))

    await allPaid(shop, orders)
    injected.remove()
    t.true(injected.fired() >= 1)
    await until(
      () => totalsInTheEnd(shop, id),
      (totals) => totals?.in_stock === 80 && totals.reserved === 0,
    )
    t.is(shop.catalog.inFlightMost(id), 1)
    t.like(await bridgeTotals(shop, { consumed: 20 }), { applied: 20, dead: 0 })
  },
)
