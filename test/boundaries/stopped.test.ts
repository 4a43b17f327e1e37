/**
 * A process that is stopped (SIGSTOP) for so long that another one has taken over, and wakes. It is stopped in the moment in which the
 * answer to a call arrives, and for as long as it takes the other one to come to an end: beyond its job's lock (3 s) and its leases,
 * which last 3.5 s here, since a call may take 1 s and not 5. Longer than that changes nothing: 40 s are the same to everybody.
 */
import test from 'ava'
import { until } from '../support/until.ts'
import { customersOnly, everything } from '../support/shop.ts'
import { addsJob, allInOrder, asksOnce, posts, QTY, repeats, scene, type Scene, STOCK, takesJob } from './dying.ts'

/** Calls that change something, since the process woke. */
const changes = ({ wire }: Scene, from: number) => wire.asked.slice(from).filter(({ asks }) => asks.startsWith('POST '))

for (const [call, path] of [
  ['reserve', '/catalog/v1/inventory/reserve'],
  ['shipment', '/shipping/v1/shipments'],
] as const) {
  test(`a checkout whose process was stopped over its ${call} is another’s when it wakes: nothing it writes counts, and it calls nobody`, async (t) => {
    await scene(t, customersOnly, {}, async (at) => {
      const { shop, wire, first, product } = at
      const customer = await shop.customer().wants({ product_id: product, qty: QTY })
      let stopped: ReturnType<typeof asksOnce>
      await at.stopsAt({ when: 'after', path: [posts(path)] }, () => void (stopped = asksOnce(customer, first.url)))
      const again = await repeats(customer, await at.another())
      await allInOrder(t, at, 2)
      const rows = () => shop.query('select order_id, state, attempt, recovery_point, call_id, shipment_call from order_service.checkouts')
      const before = await rows()
      const from = wire.asked.length

      process.kill(first.pid, 'SIGCONT')

      await first.logged('checkout step failed')
      const heard = await stopped!
      if (heard?.status === 200) t.is(heard.body.order_id, again.body.order_id)
      t.deepEqual(changes(at, from), [])
      t.deepEqual(await rows(), before)
      await allInOrder(t, at, 2)
    })
  })
}

/** The other process ends it: Catalog refuses before the deadline is near, or the shipment that may have been asked for never shows. */
for (const { moment, path, budgetMs, state, status } of [
  {
    moment: 'over the taking of its job',
    path: [addsJob('checkout'), takesJob('checkout')],
    budgetMs: 60_000,
    state: 'REJECTED',
    status: 409,
  },
  { moment: 'over its reserve', path: [posts('/catalog/v1/inventory/reserve')], budgetMs: 6000, state: 'CANCELLED', status: 503 },
]) {
  test(`a checkout whose process was stopped ${moment}, and that has ended when it wakes, asks nobody for anything`, async (t) => {
    await scene(t, customersOnly, { CHECKOUT_BUDGET_MS: String(budgetMs) }, async (at) => {
      const { shop, wire, first, product } = at
      const customer = await shop.customer().wants({ product_id: product, qty: QTY })
      let stopped: ReturnType<typeof asksOnce>
      await at.stopsAt({ when: 'after', path }, () => void (stopped = asksOnce(customer, first.url)))
      shop.catalog.fault({ call: 'reserve', fault: 'refuse', detail: 'Not enough stock', times: 1 })
      await at.another()
      await until(
        () => shop.query('select from order_service.checkouts where state = $1', [state]),
        (rows) => rows.length === 1,
      )
      shop.catalog.clearFaults()
      await allInOrder(t, at, 1)
      const from = wire.asked.length

      process.kill(first.pid, 'SIGCONT')

      await first.logged('checkout step failed')
      t.is((await stopped!)?.status, status)
      t.deepEqual(changes(at, from), [])
      await allInOrder(t, at, 1)
    })
  })
}

test('a payment whose process was stopped over its commit is another’s when it wakes: nothing it writes counts, and it calls nobody', async (t) => {
  await scene(t, everything, {}, async (at) => {
    const { shop, wire, first, product, orderId } = at
    await at.stopsAt({ when: 'after', path: [posts('/catalog/v1/inventory/commit')] }, () => shop.pay(orderId))
    await at.another()
    await until(
      () => shop.query(`select from public.orders where status = 'PAID'`),
      (rows) => rows.length === 1,
    )
    await allInOrder(t, at, 0)
    const rows = () => shop.query('select state, result, attempt, call_id from order_service.payment_events')
    const before = await rows()
    const from = wire.asked.length

    process.kill(first.pid, 'SIGCONT')

    await until(() => wire.asked.slice(from).some(({ asks }) => asks === 'record-payment-failure'))
    t.deepEqual(changes(at, from), [])
    t.deepEqual(await rows(), before)
    await allInOrder(t, at, 0)
    t.deepEqual(shop.catalog.inventory(product), { in_stock: STOCK - QTY, reserved: 0 })
  })
})
