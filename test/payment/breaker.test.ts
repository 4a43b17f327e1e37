/** Payments while Catalog fails again and again: they wait for its breaker instead of trying one by one. */
import test from 'ava'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { type Bought, openHarness, paymentOf, type Harness } from './harness.ts'

const RUN = 10

let shop: Shop
let harness: Harness
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'], env: { CALL_TIMEOUT_MS: '400', WATCHDOG_MS: '1500' } })
  harness = await openHarness(shop)
})
test.after.always(async () => {
  await harness?.close()
  await shop?.close()
})

const breaker = async () => (await shop.get('/order/ready')).body.components.catalog.state
const commits = () => shop.catalog.journal({ call: 'commit' }).length
const probes = () => shop.catalog.journal({ call: 'read' }).length
const isOpen = (state: string) => state !== 'ok'

/** So many orders, each of a product of its own. */
async function ordered(count: number): Promise<{ ids: number[]; orders: Bought[] }> {
  const ids = Array.from({ length: count }, () => shop.catalog.product({ stock: 10 }))
  const orders: Bought[] = []
  for (const id of ids) orders.push(await harness.buys({ product_id: id, qty: 1 }))
  return { ids, orders }
}

/** @returns the ids of their events. One after the other: on a busy machine the harness's few connections would not do. */
async function paid(orders: readonly Bought[]): Promise<number[]> {
  const events: number[] = []
  for (const order of orders) events.push(await harness.paid(paymentOf(order)))
  return events
}

test.serial('payments wait while Catalog is away, none is given up, and each is applied once when it is back', async (t) => {
  const { ids, orders } = await ordered(3 * RUN)
  await shop.catalog.down()
  const events = await paid(orders)
  await until(breaker, isOpen)
  // What was taken before is put back; from then on nothing is begun.
  const jobs = () => harness.payments.queue.getJobCounts('active', 'waiting', 'delayed')
  await until(jobs, ({ active }) => active === 0)
  const rows = () => shop.query<{ attempts: number }>('select sum(attempt)::int as attempts from order_service.payment_events')
  const [{ attempts }] = (await rows()) as [{ attempts: number }]
  const attemptsSince = async () => (await rows())[0]!.attempts - attempts
  // Longer than a watchdog waits for a worker that takes none of the jobs that are due.
  await until(
    async () => (await harness.payments.queue.getDelayedCount()) + (await harness.payments.queue.getWaitingCount()) === events.length,
  )
  const began = performance.now()
  await until(() => performance.now() - began > 4000)
  t.is(await attemptsSince(), 0)
  t.is((await shop.get('/order/ready')).body.components['payment-worker-progress'].state, 'ok')
  await shop.catalog.up()

  for (const eventId of events) t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  t.is(await breaker(), 'ok')
  for (const id of ids) await harness.totalsAre(id, { in_stock: 9, reserved: 0 })
  for (const id of ids) t.is(harness.commits(id, 1).net, 1)
})

test.serial('waiting payments are tried one at a time where Catalog answers reads and fails changes', async (t) => {
  const { ids, orders } = await ordered(3 * RUN)
  shop.catalog.forget()
  const failing = shop.catalog.fault({ fault: 'error', call: 'commit' })
  const events = await paid(orders)
  await until(breaker, isOpen)
  const [tried, probed] = [commits(), probes()]
  await until(() => commits() >= tried + 2)
  t.true(probes() >= probed + 1, 'a probe comes before each try')
  t.is(shop.catalog.callsAtOnceMost() <= 16, true)
  failing.remove()
  for (const eventId of events) t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  for (const id of ids) await harness.totalsAre(id, { in_stock: 9, reserved: 0 })
})

test.serial('a 404 of a gateway is no answer of Catalog: the payments wait, and none becomes a dead letter', async (t) => {
  const { ids, orders } = await ordered(3)
  const gone = shop.catalog.fault({ fault: 'error', status: 404 })
  const events = await paid(orders)
  for (const eventId of events) await harness.tried(eventId)
  gone.remove()
  for (const eventId of events) t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid', fault: null })
  for (const id of ids) await harness.totalsAre(id, { in_stock: 9, reserved: 0 })
})

test.serial('a payment that Catalog puts off with a Retry-After is not tried before', async (t) => {
  const { ids, orders } = await ordered(1)
  shop.catalog.forget()
  shop.catalog.fault({ fault: 'refuse', status: 429, retryAfter: '2', call: 'commit', times: 1 })
  t.like(await harness.ended(await harness.paid(paymentOf(orders[0]!))), { state: 'APPLIED', result: 'paid' })
  const [first, second] = shop.catalog.journal({ call: 'commit', productId: ids[0]! })
  t.true(second!.at - first!.at >= 2000)
})
