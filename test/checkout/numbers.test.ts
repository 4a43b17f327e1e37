/** Order ids and the ids of their lines are an `integer`: who may use them up, and what happens at their end. */
import test from 'ava'
import { customersOnly, openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

test('one customer’s refused checkouts draw order ids so many times a minute, whichever process they come to', async (t) => {
  const shop = await openShop({ env: { MAX_REFUSED_PER_CUSTOMER: '3' } })
  t.teardown(shop.close)
  const { port } = await shop.start(['web'])
  const other = `http://127.0.0.1:${port}`
  const none = shop.catalog.product({ stock: 0 })
  const some = shop.catalog.product({ stock: 10 })
  const customer = await shop.customer().wants({ product_id: none, qty: 1 })

  for (let i = 0; i < 3; i += 1) t.is((await customer.checkout()).status, 409)
  const refused = await customer.checkout()
  t.is(refused.status, 429)
  t.deepEqual(refused.body, { detail: 'Too many checkouts of this customer were refused' })
  const waitS = Number(refused.headers.get('retry-after'))
  t.true(waitS > 0 && waitS <= 60, `${waitS} s`)
  // Another process hears of it with the first that it refuses.
  t.is((await customer.checkout({ url: other })).status, 409)
  t.is((await customer.checkout({ url: other })).status, 429)
  t.is((await shop.query('select from order_service.checkouts')).length, 4)

  const innocent = await shop.customer().wants({ product_id: some, qty: 1 })
  for (let i = 0; i < 5; i += 1) t.is((await innocent.checkout()).status, 200)
})

test('where the ids of lines run out a checkout is a 503 before Catalog or Shipping is asked, until there are more', async (t) => {
  const shop = await openShop({ roles: ['worker', 'relay'] })
  t.teardown(shop.close)
  await shop.query(`select setval('public.order_items_id_seq', 2147483647)`)
  const { port } = await shop.start(customersOnly)
  const url = `http://127.0.0.1:${port}`
  const customer = await shop.customer().wants({ product_id: shop.catalog.product({ stock: 10 }), qty: 1 })

  // It reads at its start how many are left, and may not have its answer yet.
  await until(
    () => customer.checkout({ url }),
    ({ ms }) => ms < 2000,
  )
  const asked = () => [shop.shipping.shipments().length, shop.catalog.journal({ call: 'reserve' }).length]
  const before = asked()
  const refused = await customer.checkout({ url })
  t.is(refused.status, 503)
  t.is(refused.headers.get('retry-after'), '1')
  t.deepEqual(refused.body, { detail: 'Orders cannot be taken at the moment' })
  t.deepEqual(asked(), before)

  await shop.query(`select setval('public.order_items_id_seq', 1)`)
  await until(
    () => customer.checkout({ url }),
    ({ status }) => status === 200,
  )
  t.pass()
})
