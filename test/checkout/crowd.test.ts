import test from 'ava'
import { shopTotals } from '../support/shop-totals.ts'
import { type Answer, openShop, type Shop } from '../support/shop.ts'
import { startProcess } from '../support/service-process.ts'

let shop: Shop
let web: Shop
test.before(async () => {
  ;[shop, web] = await Promise.all([openShop(), openShop({ roles: ['web', 'relay'] })])
})
test.after.always(async () => {
  await Promise.all([shop?.close(), web?.close()])
})

/** So many customers, one after the other at the shelf, all at once at the harness. */
async function crowd(at: Shop, count: number, products: readonly number[]): Promise<Answer[]> {
  const customers = await Promise.all(
    Array.from({ length: count }, (_, i) => at.customer().wants({ product_id: products[i % products.length]!, qty: 1 })),
  )
  return Promise.all(customers.map((customer) => customer.checkout()))
}

const productIds = (at: Shop, count: number) => Array.from({ length: count }, () => at.catalog.product({ stock: 1000 }))
const countBy = (answers: readonly Answer[]) =>
  Object.fromEntries(Object.entries(Object.groupBy(answers, ({ status }) => status)).map(([status, all]) => [status, all!.length]))

for (const [count, products] of [
  [64, 64],
  [250, 50],
] as const) {
  test.serial(`${count} customers at once all get their orders, and Shipping bears it`, async (t) => {
    const bought = productIds(shop, products)

    const answers = await crowd(shop, count, bought)

    t.deepEqual(countBy(answers), { 200: count }, JSON.stringify(answers.find(({ status }) => status !== 200)))
    t.false(shop.shipping.broke())
    t.is(shop.catalog.inFlightMost(), 1)
    t.deepEqual(await shopTotals(shop, bought), { orders: count, sold: count, held: count, misshipped: [] })
  })
}

test.serial('of 30 customers at once for the last 10 of a product, at two worker processes, 10 get one', async (t) => {
  const workers = await Promise.all([1, 2].map(() => startProcess(t, ['worker'], web.env)))
  await Promise.all(workers.map((worker) => worker.logged('started')))
  const last = web.catalog.product({ stock: 10 })
  const others = productIds(web, 10)

  const [hot, calm] = await Promise.all([crowd(web, 30, [last]), crowd(web, 10, others)])

  t.deepEqual(countBy(hot), { 200: 10, 409: 20 }, JSON.stringify(hot.find(({ status }) => status >= 500)))
  t.deepEqual(countBy(calm), { 200: 10 })
  t.is(web.catalog.inFlightMost(last), 1)
  t.deepEqual(await shopTotals(web, [last]), { orders: 10, sold: 10, held: 10, misshipped: [] })
  t.deepEqual(web.catalog.inventory(last), { in_stock: 10, reserved: 10 })
  t.deepEqual(await shopTotals(web, others), { orders: 10, sold: 10, held: 10, misshipped: [] })
  t.deepEqual(await Promise.all(workers.map((worker) => worker.stop())), [0, 0])
})

test.serial('customers with crossing carts do not wait for each other for ever', async (t) => {
  const [a, b, c] = [1, 2, 3].map(() => shop.catalog.product({ stock: 1000 })) as [number, number, number]
  const carts = Array.from(
    { length: 30 },
    (_, i) =>
      [
        [a, b],
        [b, c],
        [c, a],
        [c, b, a],
      ][i % 4]!,
  )
  const customers = await Promise.all(carts.map((cart) => shop.customer().wants(...cart.map((product_id) => ({ product_id, qty: 1 })))))

  const answers = await Promise.all(customers.map((customer) => customer.checkout()))

  t.deepEqual(countBy(answers), { 200: 30 })
  t.is(shop.catalog.inFlightMost(), 1)
  const units = carts.flat().length
  t.deepEqual(await shopTotals(shop, [a, b, c]), { orders: 30, sold: units, held: units, misshipped: [] })
})
