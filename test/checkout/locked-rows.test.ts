/** Rows that a person keeps locked: what waits for them waits, everybody else is served as usual, and nothing is lost. */
import test, { type ExecutionContext } from 'ava'
import { openHarness, paymentOf } from '../payment/harness.ts'
import { keepLocked } from '../stock/harness.ts'
import { settled } from '../support/shop-totals.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

async function open(t: ExecutionContext): Promise<Shop> {
  const shop = await openShop({ env: { CALL_TIMEOUT_MS: '1000' } })
  t.teardown(shop.close)
  return shop
}
const buy = async (shop: Shop, productId: number) => (await shop.customer().wants({ product_id: productId, qty: 1 })).checkout()
const statuses = (answers: readonly { status: number }[]) => answers.map(({ status }) => status)

test.serial('a product whose row a person keeps locked holds up its own customers alone, who are served when it is free', async (t) => {
  const shop = await open(t)
  const [locked, ...others] = Array.from({ length: 6 }, () => shop.catalog.product({ stock: 100 }))
  t.deepEqual(new Set(statuses(await Promise.all([locked!, ...others].map((id) => buy(shop, id))))), new Set([200]))
  await settled(shop)
  const unlock = await keepLocked(shop.dsn, 'update order_service.products set updated_at = now() where product_id = $1', [locked])

  let ended = 0
  const waiting = Array.from({ length: 20 }, () => buy(shop, locked!).finally(() => (ended += 1)))
  const served = await Promise.all(Array.from({ length: 40 }, (_, i) => buy(shop, others[i % others.length]!)))

  t.deepEqual(new Set(statuses(served)), new Set([200]))
  t.is(ended, 0, 'all that while the row was locked')
  await unlock()
  t.deepEqual(new Set(statuses(await Promise.all(waiting))), new Set([200]))
  await settled(shop)
  t.deepEqual(shop.catalog.inventory(locked!), { in_stock: 100, reserved: 21 })
})

test.serial('customers of a product that stays locked get a 503 at their deadline, and leave nothing', async (t) => {
  const shop = await open(t)
  const [locked, other] = [shop.catalog.product({ stock: 100 }), shop.catalog.product({ stock: 100 })]
  t.is((await buy(shop, locked)).status, 200)
  await settled(shop)
  const unlock = await keepLocked(shop.dsn, 'select from order_service.products where product_id = $1 for update', [locked])
  const waiting = await Promise.all([buy(shop, locked), buy(shop, locked), buy(shop, other)])
  t.deepEqual(statuses(waiting), [503, 503, 200])
  await unlock()
  await settled(shop)
  t.deepEqual(shop.catalog.inventory(locked), { in_stock: 100, reserved: 1 })
})

test.serial(
  'a checkout whose row a person keeps locked holds up nobody else of the same product, and is answered in the end',
  async (t) => {
    const shop = await open(t)
    const product = shop.catalog.product({ stock: 100 })
    t.is((await buy(shop, product)).status, 200)
    const slow = shop.catalog.fault({ call: 'reserve', productId: product, fault: 'slow', ms: 400, times: 1 })
    const first = buy(shop, product)
    await until(slow.fired, (times) => times === 1)
    const [row] = await shop.query<{ order_id: number }>(`select order_id from order_service.checkouts where state = 'OPEN'`)
    const unlock = await keepLocked(shop.dsn, 'select from order_service.checkouts where order_id = $1 for update', [row!.order_id])

    const others = await Promise.all(Array.from({ length: 10 }, () => buy(shop, product)))

    t.deepEqual(new Set(statuses(others)), new Set([200]))
    await unlock()
    const { status } = await first
    t.true([200, 503].includes(status), String(status))
    await settled(shop)
    t.is(shop.catalog.inventory(product)?.reserved, 11 + (status === 200 ? 1 : 0))
  },
)

for (const [what, lock] of [
  ['order', 'select from public.orders where id = $1 for update'],
  ['payment event', 'select from order_service.payment_events where order_id = $1 for update'],
] as const) {
  test.serial(
    `a payment whose ${what} a person keeps locked holds up no other payment of the same product, and is applied in the end`,
    async (t) => {
      const shop = await open(t)
      const product = shop.catalog.product({ stock: 100 })
      const harness = await openHarness(shop)
      t.teardown(() => harness.close())
      const orders = []
      for (let i = 0; i < 6; i += 1) orders.push(await harness.buys({ product_id: product, qty: 1 }))
      const events = []
      for (const order of orders) events.push(await harness.written(paymentOf(order)))
      const unlock = await keepLocked(shop.dsn, lock, [orders[0]!.orderId])

      await harness.payments.addTogether(events)
      for (const { eventId } of events.slice(1)) t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
      t.like(await harness.event(events[0]!.eventId), { state: 'WAITING' })

      await unlock()
      t.like(await harness.ended(events[0]!.eventId), { state: 'APPLIED', result: 'paid' })
      await harness.totalsAre(product, { in_stock: 94, reserved: 0 })
      t.is(harness.commits(product, 1).net, 6)
    },
  )
}
