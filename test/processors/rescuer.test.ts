/** Checkouts whose job is gone, whose time is over, or whose driver died: what the rescuer makes of them. */

import test, { type ExecutionContext } from 'ava'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { connectPool } from '../../src/db/pool.ts'
import { CHECKOUT_QUEUE, checkoutJobId } from '../../src/queues/checkout.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { shopTotals, settled } from '../support/shop-totals.ts'
import { hostClock } from '../support/clock.ts'
import { callShipment, callStock } from '../support/downstreams/caller.ts'
import { type Customer, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const worker = ['worker'] as const

async function openWith(
  t: ExecutionContext,
  { roles, callMs = 1000, budgetMs = 30_000 }: { roles: ('web' | 'worker')[]; callMs?: number; budgetMs?: number },
): Promise<{ shop: Shop; queue: Queue }> {
  const shop = await openShop({ roles, env: { CALL_TIMEOUT_MS: String(callMs), CHECKOUT_BUDGET_MS: String(budgetMs) } })
  t.teardown(shop.close)
  const redis = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const queue = new Queue(CHECKOUT_QUEUE, { connection: redis, prefix: shop.prefix })
  t.teardown(async () => {
    await queue.close()
    redis.disconnect()
  })
  return { shop, queue }
}

/** A checkout that waits for a worker. */
async function begun(shop: Shop, customer: Customer): Promise<{ orderId: number; answer: ReturnType<Customer['checkout']> }> {
  const answer = customer.checkout()
  const row = () => shop.query<{ order_id: number }>('select order_id from order_service.checkouts where user_email = $1', [customer.email])
  const [{ order_id: orderId }] = (await until(row, (rows) => rows.length === 1)) as [{ order_id: number }]
  return { orderId, answer }
}

/** A checkout for two of five units whose job Redis has lost before a worker came. */
async function jobLost(t: ExecutionContext, { budgetMs = 30_000 } = {}) {
  const { shop, queue } = await openWith(t, { roles: ['web'], budgetMs })
  const product = shop.catalog.product({ stock: 5 })
  const { orderId, answer } = await begun(shop, await shop.customer().wants({ product_id: product, qty: 2 }))
  await until(
    () => queue.getJobCounts('waiting'),
    ({ waiting }) => waiting === 1,
  )
  await queue.obliterate({ force: true })
  return { shop, queue, product, orderId, answer }
}

const stateOf = async (shop: Shop, orderId: number) => {
  const [row] = await shop.query<{ state: string; attempt: number }>(
    'select state, attempt from order_service.checkouts where order_id = $1',
    [orderId],
  )
  return row!
}

/** As the driver leaves it that asked for everything, and died before it could say so. */
async function everythingAsked(shop: Shop, product: number, orderId: number): Promise<void> {
  await shop.query(
    `insert into order_service.products (product_id, expected_stock, call_id, call_verb, call_qty, call_expires_at)
     select $1, 5, call_id, 'reserve', 2, now() - interval '1 ms' from order_service.checkouts where order_id = $2`,
    [product, orderId],
  )
  await callStock(shop.catalogBase, 'reserve', [{ product_id: product, qty: 2 }])
  await callShipment(shop.shippingBase, { order_id: orderId })
}

test('a checkout whose job Redis has lost after all was asked is driven on, and its customer gets the order', async (t) => {
  const { shop, product, orderId, answer } = await jobLost(t)
  await everythingAsked(shop, product, orderId)

  await shop.start(worker, { PORT: '0' })

  t.is((await answer).status, 200)
  t.deepEqual(await stateOf(shop, orderId), { state: 'CREATED', attempt: 2 })
  t.deepEqual(await shopTotals(shop, [product]), { orders: 1, sold: 2, held: 2, misshipped: [] })
})

test('a checkout whose job Redis has lost, and of which Shipping knows nothing, ends with a 503 and leaves nothing', async (t) => {
  const { shop, product, orderId, answer } = await jobLost(t, { budgetMs: 6000 })

  await shop.start(worker, { PORT: '0' })

  t.is((await answer).status, 503)
  t.is((await stateOf(shop, orderId)).state, 'CANCELLED')
  t.deepEqual(await shopTotals(shop, [product]), { orders: 0, sold: 0, held: 0, misshipped: [] })
})

test('a job of the same id that failed for good does not keep a checkout from being driven on', async (t) => {
  const { shop, product, orderId, answer, queue } = await jobLost(t)
  await everythingAsked(shop, product, orderId)
  // A job that no worker understands fails, and is kept under its id.
  await queue.add('checkout', { checkouts: [] }, { jobId: checkoutJobId(orderId), removeOnFail: false, attempts: 1 })

  await shop.start(worker, { PORT: '0' })

  t.is((await answer).status, 200)
  t.is((await stateOf(shop, orderId)).state, 'CREATED')
})

test('only checkouts that had lost their job count as rescued, not those that wait for the end of a pause', async (t) => {
  const { shop, queue, product, orderId, answer } = await jobLost(t)
  await everythingAsked(shop, product, orderId)
  const paused = await begun(shop, await shop.customer().wants({ product_id: product, qty: 1 }))
  const id = checkoutJobId(paused.orderId)
  const job = await until(
    () => queue.getJob(id),
    (found) => found !== undefined,
  )
  await job!.remove()
  const later = await queue.add('checkout', job!.data, { jobId: id, delay: 60_000, removeOnComplete: true })
  await shop.query(`update order_service.checkouts set updated_at = now() - interval '1 minute'`)

  const { port } = await shop.start(worker, { METRICS_PORT: '0' })

  t.is((await answer).status, 200)
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  t.deepEqual(
    metrics.split('\n').filter((line) => line.startsWith('order_rescued_total{')),
    ['order_rescued_total{what="checkout"} 1'],
  )
  await later.promote()
  t.is((await paused.answer).status, 200)
})

test('a checkout that is past its deadline, and that nobody waits for, is cancelled, and its hold given back', async (t) => {
  const { shop, product, orderId, answer } = await jobLost(t)
  // As the process leaves it that reserved, recorded, and died together with the one that waited.
  await callStock(shop.catalogBase, 'reserve', [{ product_id: product, qty: 2 }])
  await shop.query(`insert into order_service.products (product_id, expected_stock, held) values ($1, 5, 2)`, [product])
  await shop.query(
    `update order_service.checkouts set recovery_point = 'reserve-stock', deadline_at = now() - interval '1 minute'
     where order_id = $1`,
    [orderId],
  )

  await shop.start(worker, { PORT: '0' })

  const { status, body } = await answer
  t.deepEqual({ status, body }, { status: 503, body: { detail: 'The checkout took too long' } })
  t.is((await stateOf(shop, orderId)).state, 'CANCELLED')
  t.deepEqual(await shopTotals(shop, [product]), { orders: 0, sold: 0, held: 0, misshipped: [] })
})

test('the reserve of a driver that died before it said anything is found and given back, though its checkout was cancelled meanwhile', async (t) => {
  const { shop, product, orderId, answer } = await jobLost(t)
  await everythingAsked(shop, product, orderId)
  const pool = await connectPool(shop.dsn, { size: 1, logger: createLogger('silent') })
  t.teardown(() => pool.end())
  t.true((await createCheckouts(pool, hostClock).cancel(orderId, { status: 503, detail: 'took too long' })).won)
  t.is((await answer).status, 503)
  t.is(shop.catalog.inventory(product)?.reserved, 2)

  await shop.start(worker, { PORT: '0' })

  await settled(shop)
  t.deepEqual(shop.catalog.inventory(product), { in_stock: 5, reserved: 0 })
})

test('checkouts of one job that take longer than the rescuer’s patience, but are at work, are left to whoever drives them', async (t) => {
  const { shop, queue } = await openWith(t, { roles: ['web'], callMs: 5000 })
  const products = Array.from({ length: 12 }, () => shop.catalog.product({ stock: 5 }))
  shop.catalog.fault({ call: 'reserve', fault: 'slow', ms: 4200 })
  const customers = await Promise.all(products.map((product_id) => shop.customer().wants({ product_id, qty: 1 })))
  const answers = Promise.all(customers.map((customer) => customer.checkout()))
  const shared = await until(
    () => queue.getJobs(['waiting']),
    (jobs) => jobs.flatMap(({ data }) => data.checkouts).length === products.length,
  )
  t.true(shared.some(({ data }) => data.checkouts.length > 1))

  const untouched = `select from order_service.checkouts where updated_at < clock_timestamp() - interval '4 s'`
  await until(
    () => shop.query(untouched),
    (rows) => rows.length === products.length,
  )

  // Two of them search for what is stranded.
  await Promise.all([1, 2].map(() => shop.start(worker, { PORT: '0' })))

  for (const { status, body } of await answers) {
    t.is(status, 200)
    t.is((await stateOf(shop, body.order_id)).attempt, 1)
  }
  t.deepEqual(await shopTotals(shop, products), { orders: 12, sold: 12, held: 12, misshipped: [] })
})

test('a payment whose job Redis has lost is driven on 40 s after somebody last touched it', async (t) => {
  const { shop } = await openWith(t, { roles: ['web'] })
  await shop.query(`insert into public.orders (id, user_email, status, total_cents) values (1, 'ada@example.com', 'PAID', 1000)`)
  await shop.query(
    `insert into order_service.payment_events (identity, type, order_id, amount_cents, currency, topic, partition, kafka_offset, value, headers, sent_at, touched_at)
     values ('lost', 'payment.succeeded', 1, 1000, 'USD', $1, 0, 0, '', '[]', now(), now() - interval '41 s')`,
    [shop.paymentTopic],
  )

  await shop.start(worker, { PORT: '0' })

  await until(
    () => shop.query<{ state: string }>('select state from order_service.payment_events'),
    ([event]) => event!.state === 'APPLIED',
    10_000,
  )
  t.pass()
})
