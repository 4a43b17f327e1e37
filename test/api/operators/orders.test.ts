/** The pages of orders and products, on a real shop: what admins and support see, and what is refused. */
import test from 'ava'
import { paid, patient } from '../../support/payment-totals.ts'
import { everything, openShop, type Shop } from '../../support/shop.ts'
import { until } from '../../support/until.ts'
import { ask, type Seen } from './harness.ts'

let shop: Shop
test.before(async () => {
  shop = await openShop({ roles: everything, env: patient })
})
test.after.always(() => shop?.close())

const headers = (role: string, accept: string) => ({ authorization: `Bearer ${shop.auth.token({ sub: 'op@example.com', role })}`, accept })
const page = (path: string, role = 'admin'): Promise<Seen> => ask(`${shop.url}/order/admin${path}`, { headers: headers(role, 'text/html') })
const json = async (path: string, role = 'admin') => {
  const { status, text } = await ask(`${shop.url}/order/admin${path}`, { headers: headers(role, 'application/json') })
  return { status, body: JSON.parse(text) }
}

async function buy(key?: string) {
  const productId = shop.catalog.product({ stock: 10 })
  const customer = await shop.customer('ada').wants({ product_id: productId, qty: 2, title: '<b>Air</b> Zoom' })
  const { body } = await customer.checkout(key === undefined ? {} : { key })
  return { productId, email: customer.email, orderId: body.order_id as number }
}

test.serial('the life of a paid order goes from its request to PAID', async (t) => {
  const { orderId, productId } = await buy('a-key')
  await shop.pay(orderId)
  await until(
    () => paid(shop, [orderId]),
    (ids) => ids.length === 1,
  )
  await until(
    () => shop.query('select from order_service.outbox where order_id = $1 and sent_at is not null', [orderId]),
    ({ length }) => length > 0,
  )
  await shop.query('update order_service.outbox set partition = 2, kafka_offset = 7 where order_id = $1', [orderId])

  const { status, body } = await json(`/orders/${orderId}`)
  t.is(status, 200)
  t.like(body, { orderId, state: 'PAID', idempotencyKey: 'a-key', cause: null, actions: [], address: { city: 'Dublin' } })
  t.like(body.lines, [{ product_id: productId, qty: 2 }])
  t.regex(body.summary, /^Paid at .* UTC: nothing more is to be done\.$/)
  const titles = body.timeline.map(({ title }: { title: string }) => title)
  for (const title of [
    'Checkout requested',
    'Stock reserved at Catalog',
    'Order created',
    'Event order.created written to the outbox',
    'Event order.created sent to Kafka',
    'Message payment.succeeded sent by Payment',
    'Message payment.succeeded received',
    'Payment applied',
    'Order PAID',
  ])
    t.true(titles.includes(title), `${title}: ${titles.join(', ')}`)
  const detail = (title: string) => body.timeline.find((entry: { title: string }) => entry.title === title).detail
  t.is(detail('Event order.created sent to Kafka'), `topic ${shop.topic}, partition 2, offset 7`)
  t.regex(detail('Message payment.succeeded received'), new RegExp(`^topic ${shop.paymentTopic}, partition \\d, offset \\d+$`))
  const times = body.timeline.map(({ at }: { at: string }) => at)
  t.deepEqual(times, times.toSorted())

  const { text } = await page(`/orders/${orderId}`)
  t.regex(text, /<strong>Paid at/)
  t.regex(text, /<ol class="timeline">/)
  t.regex(text, new RegExp(`href="/order/admin/inventory/${productId}"`))
  t.false(text.includes('<b>Air</b>'))
})

test.serial('support sees an order without address, email and stack, and without actions', async (t) => {
  const { orderId, email } = await buy()
  const history = [
    {
      attempt: 1,
      step: 'reserve-stock',
      at: new Date(),
      ms: 12,
      error: `no cart of ${email}`,
      cause: 'internal-error',
      stack: 'at secret.ts:1',
    },
  ]
  await shop.query('update order_service.checkouts set history = $2 where order_id = $1', [orderId, JSON.stringify(history)])
  await shop.query(
    `insert into order_service.payment_events (identity, type, order_id, cause, last_error, topic, partition, kafka_offset, value, headers, sent_at, touched_at)
     values ('support', 'payment.succeeded', $1, 'internal-error', 'a fault', 'payments', 0, 1, '', '[]', now(), now() + interval '1 day')`,
    [orderId],
  )
  const [admin, support] = [await json(`/orders/${orderId}`), await json(`/orders/${orderId}`, 'support')]
  t.is(admin.body.email, email)
  t.is(admin.body.timeline.find(({ stack }: { stack: string }) => stack).stack, 'at secret.ts:1')
  t.is(support.body.email, 'a***@example.com')
  t.is(support.body.address, null)
  for (const { text } of [await page(`/orders/${orderId}`, 'support'), { text: JSON.stringify(support.body) }]) {
    t.false(text.includes(email))
    t.notRegex(text, /Demo Street|secret\.ts|actions\/new/)
  }
  const { text } = await page(`/orders/${orderId}`)
  t.regex(text, /href="\/order\/admin\/actions\/new\?verb=retry-payments&(amp;)?item=\d+"/)
  t.regex(text, /secret\.ts/)
  t.false((await page(`/orders?q=${encodeURIComponent(email)}&state=CREATED`, 'support')).text.includes(`<td>${email}`))
  await shop.query(`delete from order_service.payment_events where identity = 'support'`)
})

test.serial('an open checkout shows why it is retried, and when its next attempt comes', async (t) => {
  const productId = shop.catalog.product({ stock: 10 })
  const down = shop.shipping.fault({ call: 'create', fault: 'error' })
  t.teardown(() => down.remove())
  const answer = (await shop.customer().wants({ product_id: productId, qty: 1 })).checkout()
  const { body } = await until(
    async () => {
      const [open] = await shop.query<{ order_id: number }>(`select order_id from order_service.checkouts where state = 'OPEN'`)
      return open ? json(`/orders/${open.order_id}`) : { body: { timeline: [] } }
    },
    ({ body: life }) =>
      ['Attempt 1 failed at create-shipment', 'Next attempt'].every((wanted) =>
        life.timeline.some(({ title }: { title: string }) => title === wanted),
      ),
  )
  t.like(body, { state: 'OPEN' })
  t.is(body.actions.at(-1).verb, 'cancel-checkouts')
  t.true(body.timeline.some(({ title, ms }: { title: string; ms: number }) => title === 'Attempt 1 failed at create-shipment' && ms >= 0))
  t.is(body.timeline.at(-1).title, 'Deadline')
  t.true(body.timeline.at(-1).isPlanned)
  down.remove()
  t.is((await answer).status, 200)
})

test.serial('a search for one order leads to it, and others list what they find', async (t) => {
  const { orderId, email } = await buy('find-me')
  for (const q of [String(orderId), email, 'find-me']) {
    const seen = await page(`/orders?q=${encodeURIComponent(q)}`)
    t.deepEqual([seen.status, seen.headers.get('location')], [303, `/order/admin/orders/${orderId}`], q)
    t.like((await json(`/orders?q=${encodeURIComponent(q)}`)).body, { rows: [{ orderId }], next: null })
  }
  const { text } = await page('/orders?state=CREATED')
  t.regex(text, new RegExp(`href="/order/admin/orders/${orderId}"`))
  const first = (await json('/orders?limit=1')).body
  const second = (await json(`/orders?limit=1&after=${first.next}`)).body
  t.true(second.rows[0].orderId < first.rows[0].orderId)
  t.regex((await page('/orders?limit=1')).text, /rel="next"/)
  t.regex((await page('/orders?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E')).text, /No order matches/)
  t.notRegex((await page('/orders?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E')).text, /<script>alert/)
})

test.serial('unknown ids get a page with 404, and queries that cannot be made one with 400', async (t) => {
  for (const [path, status, says] of [
    ['/orders/2147483647', 404, /There is no order 2147483647/],
    ['/orders/abc', 404, /There is no order/],
    ['/orders/2147483648', 400, /is not a whole number from 0 to 2147483647/],
    ['/orders?product=99999999999', 400, /Product: .*99999999999/],
    ['/orders?state=LOST', 400, /State: /],
    ['/orders?q=%00', 400, /NUL/],
    ['/inventory/2147483647', 404, /Product 2147483647 is unknown/],
    ['/inventory/99999999999', 400, /whole number/],
  ] as const) {
    const seen = await page(path)
    t.is(seen.status, status, path)
    t.regex(seen.text, says)
    t.is((await json(path)).status, status, path)
  }
})

test.serial('the inventory lists products that need attention, and shows one beside what Catalog says now', async (t) => {
  t.deepEqual(
    (await json('/inventory')).body.products.filter(({ notes }: { notes: string[] }) => notes.includes('oversold by 2')),
    [],
  )
  const { productId, orderId } = await buy()
  await shop.query(
    `insert into order_service.ambiguities (product_id, too_many, too_few, explanation, accepted_at)
     values ($1, 3, 0, 'others took 3', null), ($1, 5, 0, 'an older one', now())`,
    [productId],
  )
  const { products } = (await json('/inventory')).body
  t.like(
    products.find(({ entry }: { entry: { productId: number } }) => entry.productId === productId),
    {
      notes: ['up to 3 units ambiguous'],
      entry: { ambiguous: { tooMany: 3 } },
    },
  )
  t.regex((await page('/inventory')).text, /up to 3 units ambiguous/)
  const seen = await page(`/inventory?product=${productId}`)
  t.deepEqual([seen.status, seen.headers.get('location')], [303, `/order/admin/inventory/${productId}`])

  const { body } = await json(`/inventory/${productId}`)
  t.like(body, { expected: { reserved: 2, inStock: 10 }, inCatalog: { reserved: 2, inStock: 10 }, difference: { reserved: 0, inStock: 0 } })
  t.like(body.holders.orders, [{ orderId }])
  const { text } = await page(`/inventory/${productId}`)
  t.regex(text, /others took 3/)
  t.regex(text, /an older one; accepted/)
  t.regex(text, /verb=accept-inventory/)
  t.notRegex((await page(`/inventory/${productId}`, 'support')).text, /actions\/new/)
})

test.serial('a product is shown without what Catalog has while Catalog does not answer', async (t) => {
  const { productId } = await buy()
  const hanging = shop.catalog.fault({ call: 'read', fault: 'hang' })
  t.teardown(() => hanging.remove())
  const { status, body } = await json(`/inventory/${productId}`)
  t.is(status, 200)
  t.truthy(body.inCatalog.noAnswer)
  t.is(body.difference, null)
  t.regex((await page(`/inventory/${productId}`)).text, /Catalog does not answer/)
})
