/** Shows a customer's journey from the login to the paid order on real servers, step by step. Exits with 1 if a step fails. */
import { execFile } from 'node:child_process'
import { isDeepStrictEqual, promisify } from 'node:util'
import { Kafka, logLevel } from 'kafkajs'
import { quietIdleConnections } from '../src/patches/kafkajs.ts'
import fetch from 'node-fetch'
import { password } from '../test/support/downstreams/auth.ts'
import { paymentOf } from '../test/support/payments.ts'
import { checkout } from '../test/support/services/state.ts'
import { demoAddress, everything, openShop, type Shop } from '../test/support/shop.ts'
import { makeTopic } from '../test/support/topic.ts'
import { until } from '../test/support/until.ts'

/** How long an event may take. */
const EVENT_MS = 20_000

/** A step had an unexpected result. */
class Unexpected extends Error {}

let steps = 0
const step = (title: string) => console.log(`\n${++steps}. ${title}`)
const show = (text: string) => console.log(text.replace(/^/gm, '   '))
const pretty = (value: unknown) => JSON.stringify(value, null, 2)

function expect(what: string, is: unknown, should: unknown): void {
  if (!isDeepStrictEqual(is, should)) throw new Unexpected(`${what}: expected ${JSON.stringify(should)}, got ${JSON.stringify(is)}`)
}

/** Shortens tokens. */
const cut = (text: string) => text.replace(/eyJ[\w-]{10}[\w.-]+/g, (token) => `${token.slice(0, 12)}...`)

/** Sends an HTTP request, and shows the request and the answer. */
async function send(method: string, url: string, body?: unknown, headers: Record<string, string> = {}) {
  show(`> ${method} ${url}`)
  for (const [name, value] of Object.entries(headers)) show(`> ${name}: ${cut(value)}`)
  if (body !== undefined) show(`> ${JSON.stringify(body)}`)
  const response = await fetch(url, {
    method,
    headers: { 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  show(`< ${response.status} ${cut(text)}`)
  // oxlint-disable-next-line typescript/no-explicit-any -- any JSON; the steps compare it
  return { status: response.status, body: JSON.parse(text) as any }
}

interface Seen {
  partition: number
  offset: string
  key: string
  event: Record<string, unknown>
}

/** Consumes the topic as other services do. `next` waits for the first message. */
async function consume(topic: string): Promise<{ next(): Promise<Seen>; stop(): Promise<void> }> {
  quietIdleConnections()
  const bootstrap = process.env.KAFKA_BOOTSTRAP!
  await makeTopic(bootstrap, topic)
  const kafka = new Kafka({ brokers: bootstrap.split(','), clientId: 'demo', logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: `demo-${topic}`, maxWaitTimeInMs: 100 })
  const { promise: seen, resolve } = Promise.withResolvers<Seen>()
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ partition, message }) =>
      resolve({ partition, offset: message.offset, key: String(message.key), event: JSON.parse(String(message.value)) }),
  })
  return {
    async next() {
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => late.reject(new Unexpected(`no event arrived within ${EVENT_MS / 1000} s`)), EVENT_MS)
      return Promise.race([seen, late.promise]).finally(() => clearTimeout(timer))
    },
    stop: () => consumer.disconnect(),
  }
}

/** Runs `bin/order-admin` and shows its output. */
async function orderAdmin(shop: Shop, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ['src/order-admin.ts', ...args], {
    cwd: checkout,
    env: { ...process.env, ...shop.env },
  })
  show(`$ bin/order-admin ${args.join(' ')}\n${stdout.trimEnd()}`)
  return stdout
}

async function journey(shop: Shop, consumer: Awaited<ReturnType<typeof consume>>): Promise<void> {
  const email = 'ada@example.com'
  const shoes = shop.catalog.product({ stock: 10, price: 12_999, title: 'Air Zoom' })
  const socks = shop.catalog.product({ stock: 50, price: 990, title: 'Wool Socks' })

  step('A customer logs in')
  const login = await send('POST', `${shop.authBase}/auth/login`, { email, password })
  expect('the status of the login', login.status, 200)
  const authorization = `Bearer ${login.body.access_token}`

  step('The customer fills a cart')
  await shop.cart.fill(email, [
    { product_id: shoes, qty: 2 },
    { product_id: socks, qty: 3 },
  ])
  show('2 x Air Zoom at 129.99, 3 x Wool Socks at 9.90')

  step('The customer checks out')
  const answer = await send('POST', `${shop.url}/order/v1/orders/checkout`, demoAddress, { authorization, 'idempotency-key': 'demo-1' })
  expect('the status of the checkout', answer.status, 200)
  const orderId: number = answer.body.order_id
  expect('the answer', answer.body, { order_id: orderId, status: 'CREATED', total_cents: 28_968, currency: 'USD' })

  step('Catalog holds the stock')
  for (const [product, qty, stock] of [
    [shoes, 2, 10],
    [socks, 3, 50],
  ] as const) {
    const inventory = await send('GET', `${shop.catalogBase}/catalog/v1/products/${product}`)
    expect(`what Catalog says of product ${product}`, inventory.body.inventory, { in_stock: stock, reserved: qty })
  }

  step('Shipping has one shipment draft')
  const drafts = await send('GET', `${shop.shippingBase}/shipping/v1/shipments?order_id=${orderId}`)
  expect('the number of shipments', drafts.body.length, 1)
  const { order_id, user_email, city, status } = drafts.body[0]
  expect(
    'the shipment',
    { order_id, user_email, city, status },
    { order_id: orderId, user_email: email, city: 'Dublin', status: 'PENDING_PAYMENT' },
  )

  step('A Kafka consumer receives the event')
  const { partition, offset, key, event } = await consumer.next()
  show(`topic ${shop.topic}, partition ${partition}, offset ${offset}, key ${key}\n${pretty(event)}`)
  expect('the key', key, String(orderId))
  expect('the event', [event.type, event.order_id, event.user_email, event.amount_cents], ['order.created', orderId, email, 28_968])
  expect('its items', event.items, [
    { product_id: shoes, qty: 2, unit_price_cents: 12_999 },
    { product_id: socks, qty: 3, unit_price_cents: 990 },
  ])

  step('The customer reads the order')
  const order = await send('GET', `${shop.url}/order/v1/orders/${orderId}`)
  expect('the order', order.body, {
    id: orderId,
    status: 'CREATED',
    total_cents: 28_968,
    currency: 'USD',
    items: [
      { product_id: shoes, qty: 2, unit_price_cents: 12_999, title_snapshot: 'Air Zoom' },
      { product_id: socks, qty: 3, unit_price_cents: 990, title_snapshot: 'Wool Socks' },
    ],
  })

  step('The same request with the same key creates no second order')
  const again = await send('POST', `${shop.url}/order/v1/orders/checkout`, demoAddress, { authorization, 'idempotency-key': 'demo-1' })
  expect('the second answer', again, answer)
  expect('what Catalog holds', shop.catalog.inventory(shoes), { in_stock: 10, reserved: 2 })

  step('Payment publishes to Kafka that the order was paid')
  const payment = paymentOf(orderId, { amount_cents: 28_968, currency: 'USD' })
  show(`topic ${shop.paymentTopic}, key ${payment.key}\n${payment.value}`)
  await shop.publish([payment])
  const statusNow = async () => (await shop.get(`/order/v1/orders/${orderId}`)).body.status
  await until(statusNow, (now) => now === 'PAID', EVENT_MS).catch(() => {}) // the next step shows the status

  step('The order is PAID')
  const paid = await send('GET', `${shop.url}/order/v1/orders/${orderId}`)
  expect('the order', paid.body, { ...order.body, status: 'PAID' })

  step('Catalog has taken the units out of stock and holds none for the order')
  for (const [product, left] of [
    [shoes, 8],
    [socks, 47],
  ] as const) {
    const inventory = await send('GET', `${shop.catalogBase}/catalog/v1/products/${product}`)
    expect(`what Catalog says of product ${product}`, inventory.body.inventory, { in_stock: left, reserved: 0 })
  }

  step('An unreadable message blocks nothing: it becomes a dead letter for an operator')
  const poison = '{"type": "payment.succeeded", "order_id": '
  show(`topic ${shop.paymentTopic}\n${poison}`)
  await shop.publish([{ value: poison }])
  const letters = () => shop.query('select from order_service.dead_letters')
  await until(letters, (rows) => rows.length > 0, EVENT_MS).catch(() => {})
  const list = await orderAdmin(shop, 'dead-letters', 'list')
  expect('whether the list has the dead letter with its reason', /unreadable .*the value is not JSON/.test(list), true)
}

async function demo(): Promise<void> {
  console.log('Starting the order service and its downstream services (Auth, Cart, Catalog, Shipping)')
  const shop = await openShop({ roles: everything, env: { LOG_LEVEL: process.env.LOG_LEVEL ?? 'warn' } })
  try {
    const consumer = await consume(shop.topic)
    await journey(shop, consumer).finally(() => consumer.stop())
  } finally {
    await shop.close()
  }
}

try {
  await demo()
  console.log('\nAll steps succeeded.')
} catch (error) {
  console.error(`\nFAILED: ${error instanceof Unexpected ? error.message : (error as Error).stack}`)
  process.exitCode = 1
}
