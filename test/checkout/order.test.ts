import test from 'ava'
import { openShop, type Shop } from '../support/shop.ts'

let shop: Shop
test.before(async () => {
  shop = await openShop()
})
test.after.always(() => shop?.close())

test('a cart becomes an order with its hold, its shipment and its event', async (t) => {
  const shoes = shop.catalog.product({ stock: 10, price: 12_999, title: 'Air Zoom' })
  const customer = await shop.customer().wants({ product_id: shoes, qty: 2 })

  const answer = await customer.checkout()

  t.is(answer.status, 200, JSON.stringify(answer.body))
  const orderId: number = answer.body.order_id
  t.deepEqual(answer.body, { order_id: orderId, status: 'CREATED', total_cents: 25_998, currency: 'USD' })
  t.deepEqual(shop.catalog.inventory(shoes), { in_stock: 10, reserved: 2 })
  t.is(shop.shipping.count(orderId), 1)
  const order = await shop.get(`/order/v1/orders/${orderId}`)
  t.deepEqual(order.body, {
    id: orderId,
    status: 'CREATED',
    total_cents: 25_998,
    currency: 'USD',
    items: [{ product_id: shoes, qty: 2, unit_price_cents: 12_999, title_snapshot: 'Air Zoom' }],
  })
})
