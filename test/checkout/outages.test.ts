/** PostgreSQL, Redis and Kafka of this file's own are killed under customers, and downstreams go away: nothing is left behind. */
import test from 'ava'
import { shopTotals, settled } from '../support/shop-totals.ts'
import { type Kafka, type OwnServers, type Postgres, type Redis, startServers } from '../support/services/index.ts'
import { untilReady } from '../support/served.ts'
import { type Answer, type Customer, openShop, type Shop } from '../support/shop.ts'
import { readTopic } from '../support/topic.ts'
import { until } from '../support/until.ts'

let servers: OwnServers
let postgres: Postgres
let redis: Redis
let kafka: Kafka
let shop: Shop
test.before(async () => {
  servers = await startServers('test-outages')
  ;({ postgres, redis, kafka } = servers)
  Object.assign(process.env, { POSTGRES_DSN: postgres.dsn, REDIS_URL: redis.url, KAFKA_BOOTSTRAP: kafka.bootstrap })
  shop = await openShop({ env: { CALL_TIMEOUT_MS: '1000', CHECKOUT_BUDGET_MS: '5000' } })
})
test.after.always(async () => {
  await shop?.close()
  await servers?.stop()
})

const product = () => shop.catalog.product({ stock: 1000 })

async function customers(count: number, productId: number): Promise<Customer[]> {
  return Promise.all(Array.from({ length: count }, () => shop.customer().wants({ product_id: productId, qty: 1 })))
}

/** Until customers are served again. */
async function servedAgain(): Promise<void> {
  const id = product()
  await until(
    async () => (await shop.customer().wants({ product_id: id, qty: 1 })).checkout(),
    ({ status }) => status === 200,
  )
}

const checkoutOf = async ({ email }: Customer) => {
  const [row] = await shop.query<{ order_id: number; state: string; attempt: number; spare_ms: number }>(
    `select order_id, state, attempt, extract(epoch from deadline_at - updated_at)::float8 * 1000 as spare_ms
     from order_service.checkouts where user_email = $1`,
    [email],
  )
  return row
}
const statuses = (answers: readonly Answer[]) => [...new Set(answers.map(({ status }) => status))].sort()

test.serial('a Catalog that refuses connections is given up after four tries, and nothing is left', async (t) => {
  const id = product()
  const [customer] = await customers(1, id)
  await shop.catalog.down()

  const answer = await customer!.checkout()

  t.is(answer.status, 503)
  t.deepEqual(answer.body, { detail: 'Catalog is unreachable' })
  t.like(await checkoutOf(customer!), { state: 'CANCELLED', attempt: 4 })
  t.true((await checkoutOf(customer!))!.spare_ms > 2000, 'well before its deadline')
  await shop.catalog.up()
  t.deepEqual(await shopTotals(shop, [id]), { orders: 0, sold: 0, held: 0, misshipped: [] })
  t.is((await customer!.checkout()).status, 200)
  t.deepEqual(await shopTotals(shop, [id]), { orders: 1, sold: 1, held: 1, misshipped: [] })
})

test.serial('a Shipping that refuses connections is given up after four tries, and the hold is given back', async (t) => {
  const id = product()
  const [customer] = await customers(1, id)
  await shop.shipping.down()

  const answer = await customer!.checkout()

  t.is(answer.status, 503)
  t.deepEqual(answer.body, { detail: 'Shipping is unreachable' })
  t.like(await checkoutOf(customer!), { state: 'CANCELLED', attempt: 4 })
  t.true((await checkoutOf(customer!))!.spare_ms > 2000, 'well before its deadline')
  t.is(shop.catalog.journal({ call: 'reserve', productId: id }).length, 1)
  t.deepEqual(await shopTotals(shop, [id]), { orders: 0, sold: 0, held: 0, misshipped: [] })
  await shop.shipping.up()
  t.is((await customer!.checkout()).status, 200)
  t.deepEqual(await shopTotals(shop, [id]), { orders: 1, sold: 1, held: 1, misshipped: [] })
})

for (const name of ['catalog', 'shipping'] as const) {
  test.serial(`a ${name} that comes and goes under a crowd: what was answered with 200 is what is held`, async (t) => {
    // Those of one product travel in one call.
    const ids = Array.from({ length: 20 }, () => product())
    const crowd = (await Promise.all(ids.map((id) => customers(2, id)))).flat()
    const slow = shop[name].fault({ fault: 'slow', ms: 40 })

    const asked = Promise.all(crowd.map((customer) => customer.checkout()))
    await until(slow.fired, (times) => times > 8)
    await shop[name].down()
    await until(
      () => shop.query(`select from order_service.checkouts where attempt > 1`),
      (rows) => rows.length > 3,
    )
    await shop[name].up()
    const answers = await asked
    slow.remove()

    t.deepEqual(
      answers.filter(({ status }) => status !== 200 && status !== 503),
      [],
    )
    const sold = answers.filter(({ status }) => status === 200).length
    t.deepEqual(await shopTotals(shop, ids), { orders: sold, sold, held: sold, misshipped: [] })
  })
}

test.serial('with Kafka down customers are served, and their events follow once each, in order', async (t) => {
  const id = product()
  await servedAgain()
  const unsent = () => shop.query('select from order_service.outbox where sent_at is null')
  // An event that is being sent when Kafka dies may come twice.
  await until(unsent, (rows) => rows.length === 0)
  await kafka.kill()

  const answers = await Promise.all((await customers(50, id)).map((customer) => customer.checkout()))

  t.deepEqual(statuses(answers), [200])
  await t.notThrowsAsync(untilReady(shop))
  await kafka.restart()
  await until(unsent, (rows) => rows.length === 0, 60_000)
  const landed = await readTopic(kafka.bootstrap, shop.topic)
  const wanted = answers.map(({ body }) => String(body.order_id)).sort()
  const came = landed.filter(({ key }) => wanted.includes(key))
  t.deepEqual(came.map(({ key }) => key).sort(), wanted)
  t.true(came.every(({ key, event }) => event.type === 'order.created' && String(event.order_id) === key))
  const sequences = landed.map(({ event }) => event.sequence)
  t.is(new Set(sequences).size, sequences.length)
})

test.serial('with Redis down customers are told to come back, nothing is begun, and it goes on by itself', async (t) => {
  const id = product()
  const [customer] = await customers(1, id)
  await redis.kill()

  const answer = await customer!.checkout()

  t.is(answer.status, 503)
  t.true(answer.headers.has('retry-after'))
  t.is((await shop.get('/order/ready')).status, 503)
  t.is((await shop.get('/order/health')).status, 200)
  t.is(await checkoutOf(customer!), undefined)
  await redis.restart()
  await servedAgain()
  await t.notThrowsAsync(untilReady(shop))
  t.is((await (await customer!.wants({ product_id: id, qty: 1 })).checkout()).status, 200)
  t.deepEqual(await shopTotals(shop, [id]), { orders: 1, sold: 1, held: 1, misshipped: [] })
})

test.serial(
  'a Redis that dies under a crowd and comes back empty: nobody gets a 200 without an order, and no order is without its hold',
  async (t) => {
    const ids = [product(), product(), product()]
    const crowd = (await Promise.all(ids.map((id) => customers(8, id)))).flat()
    const slow = shop.shipping.fault({ call: 'create', fault: 'slow', ms: 200 })

    const asked = Promise.all(crowd.map((customer) => customer.checkout()))
    await until(slow.fired, (times) => times > 4)
    await redis.kill()
    await redis.restart()
    const answers = await asked
    slow.remove()
    await servedAgain()

    t.deepEqual(
      answers.filter(({ status }) => status !== 200 && status !== 503),
      [],
    )
    const sold = answers.filter(({ status }) => status === 200).length
    t.deepEqual(await shopTotals(shop, ids), { orders: sold, sold, held: sold, misshipped: [] })
  },
)

test.serial(
  'with PostgreSQL down a plain 503 is certain, one after a key or in the middle says that it is not; repeats settle it',
  async (t) => {
    const id = product()
    const [before, ...rest] = await customers(12, id)
    const keyed = rest.slice(0, 10)
    const newcomer = rest[10]!
    const first = await before!.checkout({ key: 'k' })
    t.is(first.status, 200)
    const slow = shop.shipping.fault({ call: 'create', fault: 'slow', ms: 300 })

    const asked = Promise.all(keyed.map((customer) => customer.checkout({ key: 'k' })))
    await until(slow.fired, (times) => times > 2)
    await postgres.kill()
    const meanwhile = await Promise.all([
      newcomer.checkout(),
      before!.checkout({ key: 'k' }),
      shop.get('/order/ready'),
      shop.get('/order/health'),
    ])
    const answers = await asked
    slow.remove()

    t.like(meanwhile[0], { status: 503 })
    t.false(meanwhile[0].headers.has('checkout-outcome'), 'nothing was begun')
    t.like(meanwhile[1], { status: 503 })
    t.is(meanwhile[1].headers.get('checkout-outcome'), 'unknown', 'an order stands under this key')
    t.is(meanwhile[2].status, 503)
    t.is(meanwhile[3].status, 200)
    const unknown = answers.filter(({ status }) => status !== 200)
    t.true(unknown.length > 0)
    for (const answer of unknown) t.is(answer.headers.get('checkout-outcome'), 'unknown', JSON.stringify(answer.body))

    await postgres.restart()
    await servedAgain()
    await settled(shop)
    const again = await Promise.all(keyed.map((customer) => customer.checkout({ key: 'k' })))
    t.deepEqual(statuses(again), [200], JSON.stringify(again.find(({ status }) => status !== 200)))
    for (const [i, answer] of answers.entries()) if (answer.status === 200) t.deepEqual(again[i]!.body, answer.body)
    t.deepEqual((await before!.checkout({ key: 'k' })).body, first.body)
    t.deepEqual(await shopTotals(shop, [id]), { orders: 11, sold: 11, held: 11, misshipped: [] })
    await t.notThrowsAsync(untilReady(shop))
  },
)
