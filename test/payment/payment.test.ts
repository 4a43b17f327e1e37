import test from 'ava'
import { strandedPayments } from '../../src/db/payment-events.ts'
import { createPayments } from '../../src/db/payments.ts'
import { paymentJobId } from '../../src/queues/payment.ts'
import { hostClock } from '../support/clock.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { openHarness, paymentOf, type Harness } from './harness.ts'

let shop: Shop
let harness: Harness
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'], env: { CALL_TIMEOUT_MS: '600' } })
  harness = await openHarness(shop)
})
test.after.always(async () => {
  await harness?.close()
  await shop?.close()
})

const product = (stock = 10) => shop.catalog.product({ stock })

test('a payment commits the stock of its order at Catalog, and the order is PAID', async (t) => {
  const [shoes, socks] = [product(), product(50)]
  const order = await harness.buys({ product_id: shoes, qty: 2 }, { product_id: socks, qty: 3 }, { product_id: shoes, qty: 1 })

  const eventId = await harness.paid(paymentOf(order))

  t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid', fault: null })
  t.is(await harness.statusOf(order), 'PAID')
  await harness.totalsAre(shoes, { in_stock: 7, reserved: 0 })
  await harness.totalsAre(socks, { in_stock: 47, reserved: 0 })
  t.deepEqual(harness.commits(shoes, 3), { applied: 1, net: 1 })
  await until(
    () => harness.payments.queue.getJob(paymentJobId(eventId)),
    (job) => job === undefined,
  )
})

test('a payment leaves the holds of other orders alone', async (t) => {
  const id = product()
  await harness.buys({ product_id: id, qty: 4 })
  const order = await harness.buys({ product_id: id, qty: 2 })
  t.like(await harness.ended(await harness.paid(paymentOf(order))), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(id, { in_stock: 8, reserved: 4 })
})

test('the orders of a crowd are paid at once, each once', async (t) => {
  const id = product(1000)
  const orders = await Promise.all(Array.from({ length: 20 }, (_, i) => harness.buys({ product_id: id, qty: 1 + (i % 3) })))
  const events = await Promise.all(orders.map((order) => harness.paid(paymentOf(order))))
  for (const eventId of events) t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(id, { in_stock: 1000 - 39, reserved: 0 })
  t.is(shop.catalog.inFlightMost(id), 1)
})

test('one event that two workers drive at once is applied once', async (t) => {
  const id = product()
  const order = await harness.buys({ product_id: id, qty: 2 })
  const slow = shop.catalog.fault({ call: 'commit', productId: id, fault: 'slow', ms: 400, times: 1 })
  const one = await harness.written(paymentOf(order))
  await harness.payments.add([one])
  await until(slow.fired, (times) => times === 1)
  // As Redis forgets a job that is under way: the same event, with a job beside the one that runs.
  t.is(await harness.redis.del(harness.payments.queue.toKey(paymentJobId(one.eventId))), 1)
  await harness.payments.add([{ ...one, attempt: null }])

  t.like(await harness.ended(one.eventId), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(id, { in_stock: 8, reserved: 0 })
  t.is(harness.commits(id, 2).net, 1)
  t.is(shop.catalog.inFlightMost(id), 1)
})

test('of two messages of one payment at once one commits, and the other finds the order paid', async (t) => {
  const id = product()
  const order = await harness.buys({ product_id: id, qty: 2 })
  const events = await Promise.all([harness.paid(paymentOf(order)), harness.paid(paymentOf(order, { provider: 'card', paymentId: 'p-1' }))])
  const results = await Promise.all(events.map(async (eventId) => (await harness.ended(eventId)).result))
  t.deepEqual(results.sort(), ['already-paid', 'paid'])
  await harness.totalsAre(id, { in_stock: 8, reserved: 0 })
  t.deepEqual(harness.commits(id, 2), { applied: 1, net: 1 })
})

test('of two messages of one payment at once one commits, also where the first commit acts and gets no answer', async (t) => {
  const id = product()
  const order = await harness.buys({ product_id: id, qty: 2 })
  shop.catalog.fault({ call: 'commit', productId: id, fault: 'drop', times: 1 })
  const events = await Promise.all([harness.paid(paymentOf(order)), harness.paid(paymentOf(order, { provider: 'card', paymentId: 'p-1' }))])
  const results = await Promise.all(events.map(async (eventId) => (await harness.ended(eventId)).result))
  t.deepEqual(results.sort(), ['already-paid', 'paid'])
  await harness.totalsAre(id, { in_stock: 8, reserved: 0 })
  t.is(harness.commits(id, 2).net, 1)
})

test('a second payment of a PAID order is a dead letter', async (t) => {
  const id = product()
  const order = await harness.buys({ product_id: id, qty: 2 })
  await harness.ended(await harness.paid(paymentOf(order, { paymentId: 'p-1' })))
  const second = await harness.ended(await harness.paid(paymentOf(order, { paymentId: 'p-2' })))
  t.like(second, { state: 'DEAD', fault: 'second-payment' })
  t.deepEqual(harness.commits(id, 2), { applied: 1, net: 1 })
})

test('a payment that is told again without its provider is the same one, and with another provider’s name it is not', async (t) => {
  const told = { paymentId: 'p-1', provider: 'card' }
  const untold = { paymentId: 'p-1', provider: null }
  for (const [one, again] of [
    [told, untold],
    [untold, told],
  ] as const) {
    const id = product()
    const order = await harness.buys({ product_id: id, qty: 2 })
    t.like(await harness.ended(await harness.paid(paymentOf(order, one))), { state: 'APPLIED', result: 'paid' })
    t.like(await harness.ended(await harness.paid(paymentOf(order, again))), { state: 'APPLIED', result: 'already-paid' })
    const other = await harness.ended(await harness.paid(paymentOf(order, { ...told, provider: 'wallet' })))
    if (one.provider !== null) t.like(other, { state: 'DEAD', fault: 'second-payment' })
    t.deepEqual(harness.commits(id, 2), { applied: 1, net: 1 })
  }
})

test('an order that the predecessor made is paid, with the product met first', async (t) => {
  const id = shop.catalog.product({ stock: 10, reserved: 5 })
  const order = await harness.olderOrder([{ productId: id, qty: 2 }])
  t.like(await harness.ended(await harness.paid(paymentOf(order))), { state: 'APPLIED', result: 'paid' })
  t.is(await harness.statusOf(order), 'PAID')
  await harness.totalsAre(id, { in_stock: 8, reserved: 3 })
})

test('an order of the predecessor whose hold has leaked is paid, and Catalog has no unit too many', async (t) => {
  const id = product()
  const order = await harness.olderOrder([{ productId: id, qty: 2 }])
  t.like(await harness.ended(await harness.paid(paymentOf(order))), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(id, { in_stock: 8, reserved: 0 })
})

test('an order that the predecessor has marked PAID stays so, with nothing asked of Catalog', async (t) => {
  const id = product()
  const order = await harness.olderOrder([{ productId: id, qty: 2 }], 'PAID')
  t.like(await harness.ended(await harness.paid(paymentOf(order))), { state: 'APPLIED', result: 'already-paid' })
  t.deepEqual(shop.catalog.journal({ productId: id }), [])
})

test('an order without items is paid all the same', async (t) => {
  const order = await harness.olderOrder([])
  t.like(await harness.ended(await harness.paid(paymentOf(order))), { state: 'APPLIED', result: 'paid' })
})

test('a payment that comes before its order waits for it', async (t) => {
  const id = product()
  const customer = await shop.customer().wants({ product_id: id, qty: 2 })
  const slow = shop.shipping.fault({ fault: 'slow', ms: 500, times: 1 })
  const answer = customer.checkout()
  const [row] = await until(
    () =>
      shop.query<{ order_id: number; total_cents: number }>(
        `select order_id, total_cents::int from order_service.checkouts where user_email = $1 and state = 'OPEN'`,
        [customer.email],
      ),
    (rows) => rows.length === 1,
  )
  const eventId = await harness.paid(paymentOf({ orderId: row!.order_id, totalCents: row!.total_cents }))
  t.regex((await harness.tried(eventId)).last_error!, /there is no order|is still OPEN/)
  t.is((await answer).status, 200)
  slow.remove()
  t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(id, { in_stock: 8, reserved: 0 })
})

test('a payment whose order does not come within the grace is a dead letter', async (t) => {
  const eventId = await harness.paid(paymentOf({ orderId: 2_000_000_000, totalCents: 100 }))
  t.is((await harness.tried(eventId)).last_error, 'there is no order 2000000000')
  await shop.query(`update order_service.payment_events set waiting_since = now() - interval '11 min' where id = $1`, [eventId])
  t.like(await harness.ended(eventId), { fault: 'unknown-order', reason: 'there is no order 2000000000 after 600 s' })
})

test('a payment of a checkout that became no order is a dead letter', async (t) => {
  const customer = await shop.customer().wants({ product_id: product(1), qty: 2 })
  const answer = await customer.checkout()
  t.is(answer.status, 409)
  const orderId = Number(answer.headers.get('order-id'))
  t.like(await harness.ended(await harness.paid(paymentOf({ orderId, totalCents: 2000 }))), { state: 'DEAD', fault: 'cancelled' })
})

for (const [what, changes] of [
  ['another amount', { amountCents: 1 }],
  ['no amount', { amountCents: null }],
  ['another currency', { currency: 'EUR' }],
] as const) {
  test(`a payment with ${what} is a dead letter, and neither order nor stock are touched`, async (t) => {
    const id = product()
    const order = await harness.buys({ product_id: id, qty: 2 })
    t.like(await harness.ended(await harness.paid(paymentOf(order, changes))), { state: 'DEAD', fault: 'wrong-amount' })
    t.is(await harness.statusOf(order), 'CREATED')
    await harness.totalsAre(id, { in_stock: 10, reserved: 2 })
  })
}

/** A worker that stopped when Catalog had committed: what it sends is here, what it would put on record is not. */
async function committed(order: { orderId: number }, productId: number, qty: number): Promise<void> {
  const response = await fetch(`${shop.catalogBase}/catalog/v1/inventory/commit`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-internal-key': 'devkey', 'idempotency-key': `order:${order.orderId}:commit` },
    body: JSON.stringify({ items: [{ product_id: productId, qty }] }),
  })
  if (response.status !== 200) throw new Error(`Catalog says ${response.status}`)
}

let calls = 900_000_001
/** A call to commit under way, as the worker leaves it that took the product and wrote down who is in it. */
async function callUnderWay(productId: number, qty: number, eventIds: readonly number[]): Promise<number> {
  calls += 1
  const callId = calls
  await shop.query(
    `update order_service.products set call_id = $2, call_verb = 'commit', call_qty = $3, call_by = 'gone',
       call_expires_at = now() + interval '1 minute' where product_id = $1`,
    [productId, callId, qty],
  )
  await shop.query('update order_service.payment_events set call_id = $2 where id = any($1)', [eventIds, callId])
  return callId
}
const expired = (productId: number) =>
  shop.query(`update order_service.products set call_expires_at = now() - interval '1 ms' where product_id = $1`, [productId])
const openPayments = () => createPayments(harness.pool, { clock: hostClock, emitPaid: false, relay: undefined })

test('a worker that dies between commit and record: the next one finds the commit by reading Catalog, and the record of the first changes nothing', async (t) => {
  const id = product()
  const order = await harness.buys({ product_id: id, qty: 2 })
  await harness.totalsAre(id, { in_stock: 10, reserved: 2 })
  const { eventId } = await harness.written(paymentOf(order))
  const callId = await callUnderWay(id, 2, [eventId])
  await committed(order, id, 2)
  await expired(id)

  await harness.payments.add([{ eventId, orderId: order.orderId, attempt: null }])

  t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  const late = { callId, productIds: [id], members: [{ eventId, products: [{ productId: id, qty: 2 }] }] }
  t.deepEqual((await openPayments().recordPaid(late)).eventIds, [])
  await harness.totalsAre(id, { in_stock: 8, reserved: 0 })
  t.deepEqual(harness.commits(id, 2), { applied: 1, net: 1 })
})

test('a worker that dies before its commit is sent: the next one finds that nothing happened, and commits', async (t) => {
  const id = product()
  const order = await harness.buys({ product_id: id, qty: 2 })
  await harness.totalsAre(id, { in_stock: 10, reserved: 2 })
  const { eventId } = await harness.written(paymentOf(order))
  await callUnderWay(id, 2, [eventId])
  await expired(id)

  await harness.payments.add([{ eventId, orderId: order.orderId, attempt: null }])

  t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(id, { in_stock: 8, reserved: 0 })
  t.deepEqual(harness.commits(id, 2), { applied: 1, net: 1 })
})

test('an attempt that was taken over reads nothing, also in one batch with its successor', async (t) => {
  const id = product()
  const order = await harness.buys({ product_id: id, qty: 2 })
  const old = await harness.written(paymentOf(order))
  const [{ attempt }] = (await shop.query<{ attempt: number }>(
    `update order_service.payment_events set attempt = attempt + 1 where id = $1 returning attempt`,
    [old.eventId],
  )) as [{ attempt: number }]
  const payments = openPayments()
  const [before, now] = await Promise.all([old.attempt!, attempt].map((one) => payments.read({ eventId: old.eventId, attempt: one })))
  t.is(before, undefined)
  t.like(now, { orderId: order.orderId, checkout: 'CREATED' })
})

test('two events of one order in one record pay it once, and two orders of one product lower it by both', async (t) => {
  const id = product()
  const [order, other] = [await harness.buys({ product_id: id, qty: 2 }), await harness.buys({ product_id: id, qty: 3 })]
  await harness.totalsAre(id, { in_stock: 10, reserved: 5 })
  const messages = [paymentOf(order, { paymentId: 'a' }), paymentOf(order, { paymentId: 'b' }), paymentOf(other)]
  const eventIds: number[] = []
  for (const message of messages) eventIds.push((await harness.written(message)).eventId)
  const callId = await callUnderWay(id, 5, eventIds)
  await committed(order, id, 5)

  const members = eventIds.map((eventId, i) => ({ eventId, products: [{ productId: id, qty: i === 2 ? 3 : 2 }] }))
  const recorded = await openPayments().recordPaid({ callId, productIds: [id], members })

  t.deepEqual(
    { ...recorded, eventIds: recorded.eventIds.toSorted((a, b) => a - b) },
    { eventIds: [eventIds[0]!, eventIds[2]!], missedProducts: [] },
  )
  const [row] = await shop.query('select expected_stock::int, held::int from order_service.products where product_id = $1', [id])
  t.deepEqual(row, { expected_stock: 5, held: 0 })
  await harness.totalsAre(id, { in_stock: 5, reserved: 0 })
})

test.serial('payments whose jobs are lost are found in PostgreSQL, and paid', async (t) => {
  const id = product()
  const orders = [await harness.buys({ product_id: id, qty: 2 }), await harness.buys({ product_id: id, qty: 1 })]
  await harness.payments.queue.pause()
  const events = await Promise.all(orders.map((order) => harness.paid(paymentOf(order))))
  await harness.payments.queue.obliterate({ force: true })
  await harness.payments.queue.resume()

  const stranded = await strandedPayments(harness.pool, { from: 0, untouchedMs: 0, limit: 100 })
  t.deepEqual(
    stranded.map(({ eventId }) => eventId),
    [...events].sort((a, b) => a - b),
  )
  await harness.payments.add(stranded)

  for (const eventId of events) t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(id, { in_stock: 7, reserved: 0 })
  t.is(harness.commits(id, 1).net, 3)
})

test.serial('a payment that shares a job which is still at it is left to that job by one of its own, and committed once', async (t) => {
  const ids = [product(), product()]
  const orders = [await harness.buys({ product_id: ids[0]!, qty: 1 }), await harness.buys({ product_id: ids[1]!, qty: 1 })]
  const slow = shop.catalog.fault({ call: 'commit', productId: ids[0]!, fault: 'slow', ms: 400, times: 1 })
  const events = [await harness.written(paymentOf(orders[0]!)), await harness.written(paymentOf(orders[1]!))]
  await harness.payments.addTogether(events)
  await until(
    () => slow.fired(),
    (fired) => fired === 1,
  )

  // As a bridge that gets the same messages again, or a rescuer that takes the job for lost.
  await harness.payments.rescue({ ...events[0]!, attempt: null })

  t.like(await harness.ended(events[0]!.eventId), { state: 'APPLIED', result: 'paid', attempt: events[0]!.attempt })
  await harness.totalsAre(ids[0]!, { in_stock: 9, reserved: 0 })
  t.is(harness.commits(ids[0]!, 1).applied, 1)
  slow.remove()
})
