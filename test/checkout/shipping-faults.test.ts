import test from 'ava'
import type { ShippingFault } from '../support/downstreams/index.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

// One after the other: ten faults at one moment would open the breaker for all.
let shop: Shop
test.before(async () => {
  shop = await openShop({ env: { CALL_TIMEOUT_MS: '400', CHECKOUT_BUDGET_MS: '3000' } })
})
test.after.always(() => shop?.close())

/** A customer of a product that nobody else buys. */
async function buyer() {
  const product = shop.catalog.product({ stock: 10 })
  const customer = await shop.customer().wants({ product_id: product, qty: 2 })
  const fault = (options: Omit<ShippingFault, 'email'>) => shop.shipping.fault({ email: customer.email, ...options })
  const held = (reserved: number) =>
    until(
      () => shop.catalog.inventory(product),
      (inventory) => inventory?.reserved === reserved && inventory.in_stock === 10,
    )
  return { product, customer, fault, held }
}

for (const [what, options] of [
  ['answers 500 before it acts', { fault: 'error' }],
  ['answers 500 after it acted', { fault: 'error', actFirst: true }],
  ['answers 503', { fault: 'error', status: 503 }],
  ['acts and drops its answer', { fault: 'drop' }],
  ['acts after we gave the call up', { fault: 'late', ms: 700 }],
  ['answers only after we gave the call up', { fault: 'slow', ms: 700 }],
  ['answers what is no JSON after it acted', { fault: 'garbage', actFirst: true }],
] as const satisfies [string, Omit<ShippingFault, 'email'>][]) {
  test.serial(`a Shipping that once ${what} costs time, and makes one shipment`, async (t) => {
    const { customer, fault, held } = await buyer()
    const injected = fault({ call: 'create', times: 1, ...options })

    const answer = await customer.checkout()

    t.is(answer.status, 200, JSON.stringify(answer.body))
    t.is(injected.fired(), 1)
    t.is(shop.shipping.count(answer.body.order_id), 1)
    await t.notThrowsAsync(held(2))
  })
}

for (const [what, status, options] of [
  ['refuses with a 422', 502, { fault: 'refuse', status: 422, detail: 'value is not a valid email address' }],
  ['answers 500 for as long as we may wait', 502, { fault: 'error' }],
  ['hangs', 503, { fault: 'hang' }],
  ['resets connections', 503, { fault: 'reset' }],
] as const) {
  test.serial(`a Shipping that ${what} is a ${status}, and the hold is given back`, async (t) => {
    const { customer, fault, held } = await buyer()
    const injected = fault({ call: 'create', ...options })

    const answer = await customer.checkout()
    injected.remove()

    t.is(answer.status, status, JSON.stringify(answer.body))
    t.is(typeof answer.body.detail, 'string')
    await t.notThrowsAsync(held(0))
    const [row] = await shop.query<{ order_id: number }>('select order_id from order_service.checkouts where user_email = $1', [
      customer.email,
    ])
    const order = await shop.get(`/order/v1/orders/${row!.order_id}`)
    t.is(order.body.status, 'CANCELLED')
    t.is(order.body.reason, answer.body.detail)
    t.deepEqual(await shop.query('select from order_service.outbox where order_id = $1', [row!.order_id]), [])
  })
}

for (const status of [429, 503]) {
  test.serial(
    `a Shipping that puts a draft off with a ${status} and a Retry-After is asked again when it says, and not before`,
    async (t) => {
      const { customer, fault, held } = await buyer()
      fault({ call: 'create', times: 1, fault: status === 429 ? 'refuse' : 'error', status, retryAfter: '1' })

      const answer = await customer.checkout()

      t.is(answer.status, 200, JSON.stringify(answer.body))
      const [first, second] = shop.shipping.journal({ call: 'create', email: customer.email })
      t.true(second!.at - first!.at >= 1000)
      t.is(shop.shipping.count(answer.body.order_id), 1)
      await t.notThrowsAsync(held(2))
    },
  )
}

test.serial('a Shipping that puts a draft off beyond the budget ends the checkout at once, and the hold is given back', async (t) => {
  const { customer, fault, held } = await buyer()
  const injected = fault({ call: 'create', fault: 'refuse', status: 429, detail: 'Too many requests', retryAfter: '60' })

  const answer = await customer.checkout()
  injected.remove()

  t.is(answer.status, 502)
  t.deepEqual(answer.body, { detail: 'Shipping failed' })
  t.is(injected.fired(), 1)
  await t.notThrowsAsync(held(0))
})

test.serial('a 404 of a gateway before Shipping refuses no shipment', async (t) => {
  const { customer, fault, held } = await buyer()
  const injected = fault({ call: 'create', fault: 'error', status: 404 })

  const answer = await customer.checkout()
  injected.remove()

  t.is(answer.status, 503)
  t.deepEqual(answer.body, { detail: 'Shipping did not answer' })
  await t.notThrowsAsync(held(0))
})

test.serial('a Shipping that acts after we gave the checkout up leaves a draft of a cancelled order, and no order', async (t) => {
  const { customer, fault, held } = await buyer()
  fault({ call: 'create', fault: 'late', ms: 3500, times: 1 })

  const answer = await customer.checkout()

  t.is(answer.status, 503)
  await t.notThrowsAsync(held(0))
  const drafts = await until(
    () => shop.shipping.shipments().filter(({ user_email }) => user_email === customer.email),
    (found) => found.length === 1,
  )
  const again = await until(
    () => customer.checkout(),
    ({ status }) => status === 200,
  )
  t.not(again.body.order_id, drafts[0]!.order_id)
  t.is((await shop.get(`/order/v1/orders/${drafts[0]!.order_id}`)).body.status, 'CANCELLED')
  await t.notThrowsAsync(held(2))
})

test.serial('an address that Shipping refuses is a 502 with its words', async (t) => {
  const product = shop.catalog.product({ stock: 10 })
  const customer = shop.customer()
  const email = `someone-${product}@shop.test`
  await shop.cart.fill(email, [{ product_id: product, qty: 1 }])

  const answer = await customer.checkout({ token: shop.auth.token({ sub: email }) })

  t.is(answer.status, 502)
  t.regex(answer.body.detail, /^Shipping refused: /)
})
