/** From the predecessor to this service and back, as docs/operations.md says, while customers buy and pay: nothing is lost. */
import { randomUUID } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import { admin } from '../admin/command.ts'
import { query } from '../support/database.ts'
import { type Downstreams, startDownstreams } from '../support/downstreams/index.ts'
import { openPayments, paymentOf } from '../support/payments.ts'
import { predecessorTables, startPredecessor } from '../support/predecessor.ts'
import { type ServiceProcess, startProcess } from '../support/service-process.ts'
import { demoAddress } from '../support/shop.ts'
import { makeTopic, readTopic } from '../support/topic.ts'
import { until } from '../support/until.ts'

const CUSTOMERS = 8
/** Of each customer, where nobody refuses them. */
const MOST_CHECKOUTS = 200
/** Orders that are made before the drain. */
const ENOUGH = 40
const bootstrap = process.env.KAFKA_BOOTSTRAP!

let downstreams: Downstreams
test.before(async () => {
  downstreams = await startDownstreams()
})
test.after.always(() => downstreams?.stop())

interface Told {
  status: number
  headers: Headers
  body: { order_id: number; detail?: string }
}

async function buy(url: string, productId: number): Promise<Told> {
  const email = `c-${randomUUID()}@example.com`
  await downstreams.cart.fill(email, [{ product_id: productId, qty: 1 }])
  const headers = { authorization: `Bearer ${downstreams.auth.token({ sub: email })}`, 'content-type': 'application/json' }
  const response = await fetch(`${url}/order/v1/orders/checkout`, { method: 'POST', headers, body: JSON.stringify(demoAddress) })
  return { status: response.status, headers: response.headers, body: (await response.json()) as Told['body'] }
}

function environment(dsn: string) {
  const id = randomUUID().slice(0, 8)
  return {
    POSTGRES_DSN: dsn,
    REDIS_URL: process.env.REDIS_URL!,
    REDIS_PREFIX: `{back-${id}}`,
    KAFKA_BOOTSTRAP: bootstrap,
    TOPIC_ORDER_EVENTS: `order.events.${id}`,
    TOPIC_PAYMENT_EVENTS: `payment.events.${id}`,
    TOPIC_PAYMENT_EVENTS_DLQ: `payment.events.dlq.${id}`,
    KAFKA_GROUP: `order-${id}`,
    CATALOG_BASE: downstreams.catalogBase,
    SHIPPING_BASE: downstreams.shippingBase,
  }
}

/** Customers buy at all processes until they are told that no orders are taken, and pay every second order. */
function openListeners(urls: readonly string[], productIds: readonly number[], pay: (orderId: number) => Promise<void>) {
  const told: Told[] = []
  const orders = () => told.filter(({ status }) => status === 200).map(({ body }) => body.order_id)
  const customer = async (n: number) => {
    for (let i = 0; i < MOST_CHECKOUTS; i++) {
      const productId = productIds[(n + i) % productIds.length]!
      const answer = await buy(urls[(n + i) % urls.length]!, productId)
      told.push(answer)
      if (answer.status !== 200) return
      if (i % 2 === 0) await pay(answer.body.order_id)
    }
  }
  const over = Promise.all(Array.from({ length: CUSTOMERS }, (_, n) => customer(n)))
  return { told, orders, over }
}

const countOf = async (dsn: string, text: string) => Number((await query<{ n: string }>(dsn, `select count(*) as n from ${text}`))[0]!.n)

async function takeOver(t: ExecutionContext, env: Record<string, string>): Promise<[ServiceProcess, ServiceProcess]> {
  const [all, more] = await Promise.all([startProcess(t, [], env), startProcess(t, ['web', 'worker'], env)])
  await Promise.all([all.logged('started'), more.logged('started')])
  return [all, more]
}

test('taking over and going back under load, by the commands of docs/operations.md, loses no order, no event and no payment', async (t) => {
  const dsn = await predecessorTables(t)
  const env = environment(dsn)
  // Three units of the first one are held for orders that stand already.
  const products = [
    downstreams.catalog.product({ id: 7001, stock: 5000, reserved: 3 }),
    downstreams.catalog.product({ id: 8001, stock: 5000 }),
  ]
  const payments = openPayments(bootstrap, env.TOPIC_PAYMENT_EVENTS)
  t.teardown(payments.close)
  await makeTopic(bootstrap, env.TOPIC_PAYMENT_EVENTS, { partitions: 3 })
  const paid: number[] = []
  const pay = async (orderId: number) => {
    await payments.publish([paymentOf(orderId, { amount_cents: 1000, currency: 'USD' })])
    paid.push(orderId)
  }
  const old = { dsn, catalogBase: downstreams.catalogBase, bootstrap, paymentTopic: env.TOPIC_PAYMENT_EVENTS, group: env.KAFKA_GROUP }

  const before = startPredecessor(old, products[0]!)
  await until(() => before.sold.length > 5)
  t.is(await (await startProcess(t, ['release'], env)).exited, 0)
  await until(() => before.sold.length > 10)
  await before.stop()

  const ours = await takeOver(t, env)
  const urls = ours.map(({ url }) => url)
  const load = openListeners(urls, products, pay)
  await until(() => load.orders().length >= ENOUGH)
  const said = await admin(['drain', '--timeout', '60', '--json'], env)
  const refusedAtOnce = await Promise.all(urls.map((url) => buy(url, products[0]!)))

  t.is(said.code, 0, said.err)
  t.deepEqual(JSON.parse(said.out).open, { transactions: 0, checkouts: 0, payments: 0, events: 0, products: 0 })
  t.is(await countOf(dsn, `order_service.checkouts where state = 'OPEN'`), 0)
  t.is(await countOf(dsn, `order_service.outbox where sent_at is null`), 0)
  const appliedByUs = (await query<{ id: number }>(dsn, `select id from public.orders where status = 'PAID' and id > 3`)).map(
    ({ id }) => id,
  )
  await load.over
  const refused = [...load.told.filter(({ status }) => status !== 200), ...refusedAtOnce]
  t.deepEqual(
    refused.map(({ status, body, headers }) => [status, body.detail, headers.get('retry-after')]),
    Array.from({ length: CUSTOMERS + urls.length }, () => [503, 'New orders are not taken at the moment', '30']),
  )
  const orders = load.orders().toSorted((a, b) => a - b)
  const late = orders.find((id) => !paid.includes(id))!
  await pay(late)
  await ours[0].logged('batch cannot be processed yet; trying again')
  t.deepEqual(await Promise.all(ours.map((one) => one.stop())), [0, 0])

  const stand = await query<{ id: number }>(dsn, `select id from public.orders where user_email like 'c-%' order by id`)
  t.deepEqual(
    stand.map(({ id }) => id),
    orders,
    'those that customers were told of, and no other',
  )
  const events = await readTopic(bootstrap, env.TOPIC_ORDER_EVENTS)
  t.deepEqual(
    events.map(({ key, event }) => [Number(key), event.type, event.order_id]).sort((a, b) => Number(a[0]) - Number(b[0])),
    orders.map((id) => [id, 'order.created', id]),
  )
  t.deepEqual(
    orders.filter((id) => downstreams.shipping.count(id) !== 1),
    [],
  )
  t.is(await countOf(dsn, `order_service.payment_events where state <> 'APPLIED'`), 0)

  const after = startPredecessor(old, products[0]!)
  await until(() => after.sold.length > 10 && after.paid.length + appliedByUs.length >= paid.length)
  await after.stop()
  t.deepEqual(
    [...appliedByUs, ...after.paid].toSorted((a, b) => a - b),
    paid.toSorted((a, b) => a - b),
    'each payment counts once',
  )
  t.true(Math.min(...after.sold) > Math.max(...orders))
  const units = async (product: number, status: string) => {
    const [row] = await query<{ units: number }>(
      dsn,
      `select coalesce(sum(i.qty), 0)::int as units from public.orders o join public.order_items i on i.order_id = o.id
       where i.product_id = $1 and o.status = $2`,
      [product, status],
    )
    return row!.units
  }
  for (const product of products) {
    t.deepEqual(downstreams.catalog.inventory(product), {
      in_stock: 5000 - (await units(product, 'PAID')),
      reserved: await units(product, 'CREATED'),
    })
  }

  // Coming back: it is drained until somebody says otherwise.
  const again = await takeOver(t, env)
  t.is((await buy(again[0].url, products[0]!)).status, 503)
  t.is((await admin(['drain', '--undo'], env)).code, 0)
  t.is((await buy(again[0].url, products[0]!)).status, 200)
  const inventory = await admin(['inventory', '--check', '--catalog'], env)
  t.is(inventory.code, 0, inventory.out + inventory.err)
})
