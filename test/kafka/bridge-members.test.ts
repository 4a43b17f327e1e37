/** Bridges that come, go, and die between any two of their writes: inbox, jobs, offset. */
import test, { type ExecutionContext } from 'ava'
import { Redis } from 'ioredis'
import { connectPool } from '../../src/db/pool.ts'
import { createKafka, type Kafka } from '../../src/kafka/client.ts'
import type { Batch } from '../../src/kafka/membership.ts'
import type { Consumer } from '../../src/kafka/consumer.ts'
import { createPaymentBridge } from '../../src/kafka/payment-bridge.ts'
import { createPaymentQueue, type PaymentQueue } from '../../src/queues/payment.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { hostClock } from '../support/clock.ts'
import { allPaid, totalsInTheEnd, bridgeTotals, patient, placeOrders } from '../support/payment-totals.ts'
import { paymentOf } from '../support/payments.ts'
import { startProcess } from '../support/service-process.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { makeTopic } from '../support/topic.ts'
import { until } from '../support/until.ts'

const logger = createLogger('silent')
let shop: Shop
test.beforeEach(async () => {
  shop = await openShop({ roles: ['web', 'worker'], env: patient })
})
test.afterEach.always(() => shop?.close())

/** Units that Catalog took: payments of one product travel together. */
const unitsCommitted = (id: number) =>
  shop.catalog
    .journal({ call: 'commit', productId: id })
    .filter(({ applied }) => applied)
    .reduce((sum, { items }) => sum + items.reduce((qty, item) => qty + item.qty, 0), 0)
const flat = (order: number) => paymentOf(order, { amount_cents: 1000, currency: 'USD' })

async function deps(t: ExecutionContext): Promise<{ queue: PaymentQueue; kafka: Kafka; open: (deps?: Partial<Deps>) => Consumer }> {
  const pool = await connectPool(shop.dsn, { size: 4, logger })
  const redis = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const queue = createPaymentQueue(redis, shop.prefix, hostClock)
  const kafka = createKafka({ brokers: [process.env.KAFKA_BOOTSTRAP!], clientId: 'bridge-test', logger })
  const bridges: Consumer[] = []
  t.teardown(async () => {
    await Promise.all(bridges.map((bridge) => bridge.stop()))
    await queue.close()
    redis.disconnect()
    await pool.end()
  })
  return {
    queue,
    kafka,
    open(others = {}) {
      const options = { pool, queue, kafka, topic: shop.paymentTopic, group: shop.group, logger, metrics: createMetrics(), chunkRows: 10 }
      const bridge = createPaymentBridge({ ...options, ...others })
      bridges.push(bridge)
      bridge.start()
      return bridge
    },
  }
}
type Deps = Pick<Parameters<typeof createPaymentBridge>[0], 'queue' | 'kafka'>

/** The same Kafka, with another ending of each chunk. */
const endingWith = (kafka: Kafka, done: (batch: Batch, offset: bigint) => Promise<void>): Kafka => ({
  ...kafka,
  consumer: (options) =>
    kafka.consumer({ ...options, onBatch: (batch) => options.onBatch({ ...batch, done: (offset) => done(batch, offset) }) }),
})

for (const [where, dying] of [
  [
    'between the inbox and the jobs',
    ({ kafka }, reached) => ({ kafka, queue: { addTogether: () => reached(), addAgain: () => reached() } }),
  ],
  ['between the jobs and the offset', ({ kafka, queue }, reached) => ({ queue, kafka: endingWith(kafka, reached) })],
  [
    'after the offset of its first chunk',
    ({ kafka, queue }, reached) => ({
      queue,
      kafka: endingWith(kafka, async (batch, offset) => {
        await batch.done(offset)
        await reached()
      }),
    }),
  ],
] as [string, (deps: { queue: PaymentQueue; kafka: Kafka }, reached: () => Promise<never>) => Deps][]) {
  test.serial(`a bridge that hangs ${where} is replaced by one that does the rest`, async (t) => {
    const { open, ...real } = await deps(t)
    const id = shop.catalog.product({ stock: 100 })
    const orders = await placeOrders(shop, 40, id)
    await shop.publish(orders.map((order) => ({ ...flat(order), partition: 1 })))
    let stands = false
    const first = open(
      dying(real, () => {
        stands = true
        return new Promise(() => {})
      }),
    )
    await until(() => stands)
    await first.stop()
    open()

    await allPaid(shop, orders)
    const totals = await bridgeTotals(shop, { consumed: 40 })
    t.like(totals, { applied: 40, dead: 0 })
    t.is(totals.duplicate, where.startsWith('after') ? 0 : 10)
    t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 60, reserved: 0 })
    t.is(shop.catalog.inFlightMost(id), 1)
    t.is(unitsCommitted(id), 40)
  })
}

test.serial('the offset is never ahead of the inbox and the jobs', async (t) => {
  const { open, kafka, queue } = await deps(t)
  const orders = await placeOrders(shop, 30, shop.catalog.product({ stock: 100 }))
  const seen = { faults: 0 }
  const lag = () => kafka.lag({ topic: shop.paymentTopic, group: shop.group }).catch(() => undefined) // a broker that is busy may have no leader yet
  const committed = async () => (await until(lag, (found) => found !== undefined))!.find(({ partition }) => partition === 2)
  open({
    queue: {
      async addTogether(events) {
        if (seen.faults++ < 3) throw new Error('Redis is away')
        await queue.addTogether(events)
      },
      addAgain: queue.addAgain,
    },
  })
  await shop.publish(orders.map((order) => ({ ...flat(order), partition: 2 })))
  while (seen.faults < 3) t.is((await committed())?.messages, 30)

  await allPaid(shop, orders)
  await until(committed, (left) => left?.messages === 0)
  t.like(await bridgeTotals(shop, { consumed: 30 }), { applied: 30, dead: 0 })
})

test.serial('two bridges under load, one replaced again and again: nothing is lost, nothing is applied twice', async (t) => {
  const id = shop.catalog.product({ stock: 1000 })
  const orders = await placeOrders(shop, 200, id)
  const { open, kafka } = await deps(t)
  const bridges = [open(), open()]
  const state = { replacing: true }
  const replaced = (async () => {
    for (let round = 0; round < 3; round++) {
      for (const bridge of bridges) await until(bridge.joined)
      await bridges.shift()!.stop()
      bridges.push(open())
    }
    state.replacing = false
  })()
  for (let i = 0; state.replacing || i < orders.length; i++) await shop.publish([flat(orders[i % orders.length]!)])
  await replaced

  await allPaid(shop, orders)
  await until(
    () => kafka.lag({ topic: shop.paymentTopic, group: shop.group }),
    (lags) => lags.every(({ messages }) => messages === 0),
  )
  const totals = await bridgeTotals(shop, { consumed: 200 })
  t.like(totals, { applied: 200, dead: 0 })
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 800, reserved: 0 })
  t.is(shop.catalog.inFlightMost(id), 1)
  t.is(unitsCommitted(id), 200)
})

test.serial('a bridge that is killed under load is followed by another one, one that is asked to end does so with 0', async (t) => {
  const id = shop.catalog.product({ stock: 1000 })
  const orders = await placeOrders(shop, 100, id)
  const killed = await startProcess(t, ['bridge'], shop.env)
  await killed.logged('started')
  const streaming = (async () => {
    for (const order of orders) await shop.publish([flat(order)])
  })()
  await until(
    () => shop.query('select from order_service.payment_events'),
    (rows) => rows.length > 5,
  )
  process.kill(killed.pid, 'SIGKILL')
  await killed.exited
  await streaming
  const next = await startProcess(t, ['bridge'], shop.env)

  await allPaid(shop, orders)
  t.like(await bridgeTotals(shop, { consumed: 100 }), { applied: 100, dead: 0 })
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 900, reserved: 0 })
  const began = performance.now()
  t.is(await next.stop(), 0)
  t.true(performance.now() - began < 15_000)
  t.false(JSON.stringify(next.log).includes('@example.com'))
})

test.serial('a group whose topic is not there yet waits for it, and a stop does not wait for a broker that is away', async (t) => {
  const nowhere = createKafka({ brokers: ['127.0.0.1:9'], clientId: 'bridge-test', logger })
  const { open } = await deps(t)
  const lost = open({ kafka: nowhere })
  t.false(lost.joined())
  await lost.stop()
  const bridge = open()
  t.false(bridge.joined())
  await makeTopic(process.env.KAFKA_BOOTSTRAP!, shop.paymentTopic)
  await until(bridge.joined)
  await bridge.stop()
  t.false(bridge.joined())
})
