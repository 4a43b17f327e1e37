import test from 'ava'
import { settled } from '../support/shop-totals.ts'
import { demoAddress, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let shop: Shop
let elsewhere: string
test.before(async () => {
  shop = await openShop({ env: { CALL_TIMEOUT_MS: '500', CHECKOUT_BUDGET_MS: '5000' } })
  elsewhere = `http://127.0.0.1:${(await shop.start(['web'])).port}`
})
test.after.always(() => shop?.close())

/** A customer with two units of a product that nobody else buys. */
async function buyer() {
  const product = shop.catalog.product({ stock: 10 })
  const customer = await shop.customer().wants({ product_id: product, qty: 2 })
  const held = () => shop.catalog.inventory(product)?.reserved
  const reserves = () => shop.catalog.journal({ call: 'reserve', productId: product }).length
  const orders = async () => {
    const rows = await shop.query<{ id: number }>('select id from public.orders where user_email = $1 order by id', [customer.email])
    return rows.map(({ id }) => id)
  }
  return { product, customer, held, reserves, orders }
}

test('a key that is sent again gets the same answer, and nothing is done twice', async (t) => {
  const { customer, held, reserves, orders } = await buyer()
  const first = await customer.checkout({ key: 'k' })
  t.is(first.status, 200, JSON.stringify(first.body))
  t.false(first.headers.has('idempotency-replayed'))

  await shop.cart.clear(customer.email)
  const again = await customer.checkout({ key: 'k' })
  const there = await customer.checkout({ key: 'k', url: elsewhere })

  for (const answer of [again, there]) {
    t.is(answer.status, 200)
    t.deepEqual(answer.body, first.body)
    t.is(answer.headers.get('idempotency-replayed'), 'true')
  }
  t.deepEqual(await orders(), [first.body.order_id])
  t.is(held(), 2)
  t.is(reserves(), 1)
  t.is(shop.shipping.count(first.body.order_id), 1)
})

test('a key that comes with another address is refused, and the order stands as it was', async (t) => {
  const { customer, held, orders } = await buyer()
  const first = await customer.checkout({ key: 'k' })

  const other = await customer.checkout({ key: 'k', address: { ...demoAddress, city: 'Cork' } })

  t.is(other.status, 422)
  t.regex(other.body.detail, /Idempotency-Key/)
  t.deepEqual(await orders(), [first.body.order_id])
  t.is(held(), 2)
  t.is(shop.shipping.shipments(first.body.order_id)[0]?.city, 'Dublin')
})

test('twenty requests at once with one key are one order', async (t) => {
  const { customer, held, reserves, orders } = await buyer()

  const answers = await Promise.all(Array.from({ length: 20 }, () => customer.checkout({ key: 'k' })))

  t.deepEqual([...new Set(answers.map(({ status }) => status))], [200], JSON.stringify(answers[0]))
  t.is(new Set(answers.map(({ body }) => JSON.stringify(body))).size, 1)
  t.deepEqual(await orders(), [answers[0]!.body.order_id])
  t.is(held(), 2)
  t.is(reserves(), 1)
  t.is(shop.shipping.count(answers[0]!.body.order_id), 1)
})

test('twenty requests at once with one key, at two processes, are one order', async (t) => {
  const { customer, held, reserves, orders } = await buyer()

  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => customer.checkout(i % 2 ? { key: 'k' } : { key: 'k', url: elsewhere })),
  )

  t.deepEqual([...new Set(answers.map(({ status }) => status))], [200], JSON.stringify(answers[0]))
  t.is(new Set(answers.map(({ body }) => JSON.stringify(body))).size, 1)
  t.deepEqual(await orders(), [answers[0]!.body.order_id])
  t.is(held(), 2)
  t.is(reserves(), 1)
})

test('a repeat at another process joins a checkout that is under way there, and hears its refusal too', async (t) => {
  const { product, customer } = await buyer()
  const refusing = shop.shipping.fault({ call: 'create', email: customer.email, fault: 'refuse', status: 422, detail: 'no such street' })
  const slow = shop.catalog.fault({ call: 'reserve', productId: product, fault: 'slow', ms: 300, times: 1 })

  const first = customer.checkout({ key: 'k' })
  await until(slow.fired, (times) => times === 1)
  const joined = await customer.checkout({ key: 'k', url: elsewhere })

  t.is(joined.status, 502)
  t.deepEqual(joined.body, (await first).body)
  t.is(joined.headers.get('order-id'), (await first).headers.get('order-id'))
  t.is(refusing.fired(), 1)
})

test('after a 503 the same key begins afresh, while the reconciler still works', async (t) => {
  const { product, customer, held, orders } = await buyer()
  const away = shop.shipping.fault({ call: 'create', email: customer.email, fault: 'hang' })

  const asked = customer.checkout({ key: 'k' })
  await until(away.fired, (times) => times === 1)
  // Its units are given back by a reserve of less than nothing.
  const giving = shop.catalog.fault({ call: 'reserve', productId: product, fault: 'hang', times: 1 })
  const first = await asked
  t.is(first.status, 503, JSON.stringify(first.body))
  await until(giving.fired, (times) => times === 1)
  away.remove()
  const again = await customer.checkout({ key: 'k' })

  t.is(again.status, 200, JSON.stringify(again.body))
  t.false(again.headers.has('idempotency-replayed'))
  t.not(String(again.body.order_id), first.headers.get('order-id'))
  await settled(shop)
  t.deepEqual(await orders(), [again.body.order_id])
  t.is(held(), 2)
  t.is(shop.catalog.inventory(product)?.in_stock, 10)
})

test('a double click without a key is one order, at one process or at two', async (t) => {
  for (const url of [shop.url, elsewhere]) {
    const { customer, held, orders } = await buyer()

    const [first, second] = await Promise.all([customer.checkout(), customer.checkout({ url })])

    t.is(first.status, 200, JSON.stringify(first.body))
    t.deepEqual(second.body, first.body)
    t.deepEqual(await orders(), [first.body.order_id])
    t.is(held(), 2)
  }
})

test('the same cart again, after its order stands, is a second order', async (t) => {
  const { customer, held, orders } = await buyer()

  const first = await customer.checkout()
  const second = await customer.checkout()

  t.is(second.status, 200, JSON.stringify(second.body))
  t.deepEqual(await orders(), [first.body.order_id, second.body.order_id])
  t.is(held(), 4)
  t.is(shop.shipping.count(first.body.order_id), 1)
  t.is(shop.shipping.count(second.body.order_id), 1)
})

const HOUR_MS = 3_600_000

/** Moves the checkouts of a customer into the past, for the clock that windows go by. */
const anHourPasses = (of: Shop, email: string) =>
  of.query(`update order_service.checkouts set deadline_at = deadline_at - interval '1 hour' where user_email = $1`, [email])

test('within DUPLICATE_ORDER_WINDOW_MS the same cart and address get the first order again, and only they', async (t) => {
  const own = await openShop({ env: { DUPLICATE_ORDER_WINDOW_MS: String(HOUR_MS / 2) } })
  try {
    const there = `http://127.0.0.1:${(await own.start(['web'])).port}`
    const product = own.catalog.product({ stock: 100 })
    const customer = await own.customer().wants({ product_id: product, qty: 2 })
    const first = await customer.checkout()
    t.is(first.status, 200, JSON.stringify(first.body))
    t.false(first.headers.has('idempotency-replayed'))

    for (const url of [own.url, there]) {
      const again = await customer.checkout({ url })
      t.deepEqual(again.body, first.body)
      t.is(again.headers.get('idempotency-replayed'), 'true')
    }
    t.is(own.catalog.inventory(product)?.reserved, 2)

    const others = [
      await customer.checkout({ address: { ...demoAddress, city: 'Cork' } }),
      await customer.checkout({ key: 'k' }),
      await (await own.customer().wants({ product_id: product, qty: 2 })).checkout(),
      await (await customer.wants({ product_id: product, qty: 3 })).checkout(),
    ]
    t.is(new Set([first, ...others].map(({ body }) => body.order_id)).size, 5)
  } finally {
    await own.close()
  }
})

test('when the window is over the same cart is another order, one for a double click, and its own window begins', async (t) => {
  const own = await openShop({ env: { DUPLICATE_ORDER_WINDOW_MS: String(HOUR_MS / 2) } })
  try {
    const product = own.catalog.product({ stock: 100 })
    const customer = await own.customer().wants({ product_id: product, qty: 1 })
    const first = await customer.checkout()
    await anHourPasses(own, customer.email)

    const both = await Promise.all([customer.checkout(), customer.checkout()])

    t.is(both[0].status, 200, JSON.stringify(both[0].body))
    t.not(both[0].body.order_id, first.body.order_id)
    t.deepEqual(both[1].body, both[0].body)
    t.deepEqual((await customer.checkout()).body, both[0].body)
    t.is(own.catalog.inventory(product)?.reserved, 2)

    const withoutWindow = await own.start(['web'], { DUPLICATE_ORDER_WINDOW_MS: '0' })
    const third = await customer.checkout({ url: `http://127.0.0.1:${withoutWindow.port}` })
    t.is(third.status, 200, JSON.stringify(third.body))
    t.not(third.body.order_id, both[0].body.order_id)
  } finally {
    await own.close()
  }
})
