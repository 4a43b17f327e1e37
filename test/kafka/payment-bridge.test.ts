import test from 'ava'
import { everything, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let shop: Shop
test.before(async () => {
  shop = await openShop({ roles: everything })
})
test.after.always(async () => {
  await shop?.close()
})

test('a payment makes its order PAID and commits its stock once', async (t) => {
  const id = shop.catalog.product({ stock: 10 })
  const customer = await shop.customer().wants({ product_id: id, qty: 2 })
  const { body } = await customer.checkout()

  await shop.pay(body.order_id)

  await until(
    () => shop.get(`/order/v1/orders/${body.order_id}`),
    (answer) => answer.body.status === 'PAID',
  )
  t.deepEqual(shop.catalog.books(id), { in_stock: 8, reserved: 0 })
  t.is(shop.catalog.journal({ call: 'commit', productId: id }).length, 1)
})
