/** Customers of a shop whose Catalog or Shipping fails again and again: told so at once, served again as soon as it answers. */
import test, { type ExecutionContext } from 'ava'
import { shopTotals, settled } from '../support/shop-totals.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

async function open(t: ExecutionContext): Promise<Shop> {
  const shop = await openShop({ env: { CALL_TIMEOUT_MS: '1000', CHECKOUT_BUDGET_MS: '8000' } })
  t.teardown(shop.close)
  return shop
}

const buy = async (shop: Shop, productId: number) => (await shop.customer().wants({ product_id: productId, qty: 1 })).checkout()

const breaker = async (shop: Shop, name: 'catalog' | 'shipping') => (await shop.get('/order/ready')).body.components[name].state

/** A crowd of customers of products of their own, until the breaker is open. */
async function untilOpen(shop: Shop): Promise<number[]> {
  const ids = Array.from({ length: 24 }, () => shop.catalog.product({ stock: 100 }))
  const answers = await Promise.all(ids.map((id) => buy(shop, id)))
  for (const { status } of answers) if (status !== 503 && status !== 502) throw new Error(`answered with ${status}`)
  return ids
}

const state = 'degraded: its breaker is open'

for (const [what, fault] of [
  ['hangs', { fault: 'hang' }],
  ['reads well and hangs at changes', { fault: 'hang', call: 'reserve' }],
] as const) {
  test.serial(
    `while Catalog ${what} new customers are told so at once, nothing is sent for them, and all are served when it is back`,
    async (t) => {
      const shop = await open(t)
      const known = shop.catalog.product({ stock: 100 })
      t.is((await buy(shop, known)).status, 200)
      const hanging = shop.catalog.fault(fault)
      const ids = await untilOpen(shop)
      await until(
        () => breaker(shop, 'catalog'),
        (now) => now !== 'ok',
      )
      const sent = () => shop.catalog.journal().filter(({ call }) => call !== 'read').length
      const reserves = shop.catalog.journal({ call: 'reserve', productId: known }).length

      // One of a product that is known takes its lease with the intent. Each probe that succeeds lets one of them try: the others are refused.
      const answers = await Promise.all(Array.from({ length: 20 }, () => buy(shop, known)))

      for (const answer of answers) {
        t.is(answer.status, 503)
        t.is(answer.body.detail, 'Catalog is unreachable')
        t.true(answer.headers.has('retry-after'))
      }
      const tried = shop.catalog.journal({ call: 'reserve', productId: known }).length - reserves
      t.true(tried <= ('call' in fault ? 2 : 0), `${tried} were sent`)
      const ready = await shop.get('/order/ready')
      t.is(ready.status, 200)
      t.like(ready.body.components.catalog, { required: false })
      t.regex((await shop.get('/order/metrics')).body, /^order_breaker_open\{downstream="catalog"\} 1$/m)
      const before = sent()
      hanging.remove()

      await until(
        async () => (await buy(shop, known)).status,
        (status) => status === 200,
      )
      t.is(await breaker(shop, 'catalog'), 'ok')
      t.true(sent() > before)
      t.is((await buy(shop, ids[0]!)).status, 200)
      const { orders, sold, held } = await shopTotals(shop, [known, ...ids])
      t.deepEqual([sold, held], [orders, orders])
    },
  )
}

test.serial('a checkout that a breaker refuses is cancelled at its first attempt, and releases the leases of its products', async (t) => {
  const shop = await open(t)
  const known = shop.catalog.product({ stock: 100 })
  t.is((await buy(shop, known)).status, 200)
  await shop.catalog.down()
  await untilOpen(shop)
  const unanswered = () => shop.query('select from order_service.unanswered_calls')
  const before = (await unanswered()).length

  const customer = await shop.customer().wants({ product_id: known, qty: 1 })
  const { status } = await customer.checkout()

  t.is(status, 503)
  t.is(await breaker(shop, 'catalog'), state)
  const row = 'select state, attempt, outcome from order_service.checkouts where user_email = $1'
  t.like((await shop.query(row, [customer.email]))[0], { state: 'CANCELLED', attempt: 1 })
  t.deepEqual(await shop.query('select call_id from order_service.products where product_id = $1', [known]), [{ call_id: null }])
  t.is((await unanswered()).length, before)
  await shop.catalog.up()
})

test.serial('while Shipping fails again and again no stock is held for customers who cannot be served', async (t) => {
  const shop = await open(t)
  const failing = shop.shipping.fault({ fault: 'error', status: 503 })
  const ids = await untilOpen(shop)
  await until(
    () => breaker(shop, 'shipping'),
    (now) => now !== 'ok',
  )
  await settled(shop)
  const reserves = () => shop.catalog.journal({ call: 'reserve' }).filter(({ items }) => items[0]!.qty > 0).length
  const before = reserves()

  const answer = await buy(shop, ids[0]!)

  t.is(answer.status, 503)
  t.is(answer.body.detail, 'Shipping is unreachable')
  t.is(reserves(), before)
  t.is(await breaker(shop, 'catalog'), 'ok')
  failing.remove()
  await until(
    async () => (await buy(shop, ids[0]!)).status,
    (status) => status === 200,
  )
  t.is(await breaker(shop, 'shipping'), 'ok')
  t.deepEqual(await shopTotals(shop, ids), { orders: 1, sold: 1, held: 1, misshipped: [] })
})
