/**
 * Components that are connected and make no progress, each on real servers: what the watchdog sees, and that a restart helps.
 * Its clock is the test's: checks follow each other at once, and are a sixth of the limit apart. Serial are those that patch a prototype,
 * which all tests share.
 */
import { createRequire } from 'node:module'
import test, { type ExecutionContext } from 'ava'
import { Worker } from 'bullmq'
import { type Config, readConfig } from '../../src/config.ts'
import { type Base, connect, type Role } from '../../src/service/connect.ts'
import { startBridge } from '../../src/service/bridge.ts'
import { createWatchdog, type Watchdog } from '../../src/service/watchdog.ts'
import { startWorker } from '../../src/service/worker.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { allPaid, patient, placeOrders } from '../support/payment-totals.ts'
import { openPayments, paymentOf } from '../support/payments.ts'
import { openProxy } from '../support/proxy.ts'
import { startKafka } from '../support/services/index.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const LIMIT_MS = 6000
const logger = createLogger('silent')

/** A shop with `web` alone. */
async function shopOf(t: ExecutionContext): Promise<Shop> {
  const shop = await openShop({ roles: ['web'], env: patient })
  t.teardown(shop.close)
  return shop
}

interface Watched {
  base: Base
  dog(name: string): Watchdog
  /** So many checks, or until the component of this name was restarted or given up. */
  checks(name: string, count: number): Promise<void>
  readiness(name: string): Promise<string>
  rebuilds(name: string): Promise<number>
  givenUp: string[]
}

/** What would be another process of the shop. */
async function open(t: ExecutionContext, shop: Shop, role: Role, env: Record<string, string> = {}): Promise<Watched> {
  const config: Config = readConfig({ ...shop.env, ...env })
  const metrics = createMetrics()
  const closers: (() => Promise<unknown>)[] = []
  t.teardown(async () => {
    for (const closer of closers.toReversed()) await closer().catch(() => {})
  })
  const signal = new AbortController().signal
  const base = await connect({ config, logger, metrics, roles: new Set([role]), checks: [], closers, signal })
  base.relays?.start()
  if (role === 'worker') await startWorker(base, undefined, [])
  if (role === 'bridge') startBridge(base, [])

  let now = 1000
  const givenUp: string[] = []
  const options = { limitMs: LIMIT_MS, now: () => now, logger, metrics, stopProcess: (reason: string) => void givenUp.push(reason) }
  const dogs = new Map(base.watched.map((component) => [component.name, createWatchdog(component, options)]))
  return {
    base,
    dog: (name) => dogs.get(name)!,
    async checks(name, count) {
      for (let check = 0; check < count; check++) {
        now += LIMIT_MS / 6
        await dogs.get(name)!.poll()
      }
    },
    readiness: (name) =>
      dogs
        .get(name)!
        .check.check()
        .then(
          () => 'ok',
          (error: Error) => error.message,
        ),
    async rebuilds(name) {
      const { values } = await metrics.componentRestarts.get()
      return values.find(({ labels }) => labels.component === name)?.value ?? 0
    },
    givenUp,
  }
}

const nothingElse = { rebuilds: 0, ready: 'ok' }
const stateOf = async ({ rebuilds, readiness }: Watched, name: string) => ({ rebuilds: await rebuilds(name), ready: await readiness(name) })

/** Until a check finds the component at work again. */
async function works(watched: Watched, name: string): Promise<void> {
  await until(
    async () => {
      await watched.checks(name, 1)
      return watched.readiness(name)
    },
    (state) => state === 'ok',
  )
}

test('a worker whose connection to Redis came back without it is restarted, and takes the waiting jobs', async (t) => {
  const shop = await shopOf(t)
  const proxy = await openProxy(t, process.env.REDIS_URL!)
  const watched = await open(t, shop, 'worker', { REDIS_URL: proxy.url })
  const [first] = await placeOrders(shop, 1, shop.catalog.product({ stock: 10 }))
  t.truthy(first)

  proxy.silence({ saying: ':checkout:stalled' })
  const customer = await shop.customer().wants({ product_id: shop.catalog.product({ stock: 10 }), qty: 1 })
  const answer = customer.checkout()
  await watched.checks('checkout-worker', 7)

  t.deepEqual(await stateOf(watched, 'checkout-worker'), {
    rebuilds: 1,
    ready: 'stalled for 6 s: its own connections do not answer',
  })
  t.is((await answer).status, 200)
  await works(watched, 'checkout-worker')
  for (const other of ['payment-worker', 'stock-worker']) {
    await watched.checks(other, 7)
    t.deepEqual(await stateOf(watched, other), nothingElse)
  }
})

test.serial('a worker that fetches no jobs is restarted only while jobs wait', async (t) => {
  const shop = await shopOf(t)
  const fetching = Worker.prototype as unknown as { _getNextJob(...of: unknown[]): Promise<unknown> }
  const { _getNextJob: fetchJob } = fetching
  t.teardown(() => void (fetching._getNextJob = fetchJob))
  const dead = new Set<unknown>()
  fetching._getNextJob = async function (this: Worker, ...of) {
    const job = await fetchJob.apply(this, of)
    return this.name === 'checkout' && (dead.size === 0 || dead.has(this)) ? (dead.add(this), new Promise(() => {})) : job
  }
  const watched = await open(t, shop, 'worker')
  await until(
    () => dead.size,
    (size) => size === 1,
  )
  await watched.checks('checkout-worker', 20)
  t.deepEqual(await stateOf(watched, 'checkout-worker'), nothingElse)

  const customer = await shop.customer().wants({ product_id: shop.catalog.product({ stock: 10 }), qty: 1 })
  const answer = customer.checkout()
  const { queue } = watched.base.checkoutQueue
  await until(
    () => queue.getWaitingCount(),
    (count) => count === 1,
  )
  await queue.pause()
  await watched.checks('checkout-worker', 20)
  t.deepEqual(await stateOf(watched, 'checkout-worker'), nothingElse, 'what operators have paused waits for them')
  await queue.resume()

  await watched.checks('checkout-worker', 7)
  t.deepEqual(await stateOf(watched, 'checkout-worker'), { rebuilds: 1, ready: 'stalled for 6 s: jobs wait for a worker' })
  t.is((await answer).status, 200)
  await works(watched, 'checkout-worker')
})

test('delayed jobs, and jobs that wait for a busy worker, do not make the worker stalled', async (t) => {
  const shop = await shopOf(t)
  const watched = await open(t, shop, 'worker', { WORKER_CONCURRENCY: '1' })
  await shop.start(['web']) // its jobs are the shop's
  const slow = shop.catalog.fault({ call: 'reserve', fault: 'hang' })
  const product = shop.catalog.product({ stock: 10 })
  const customers = await Promise.all([1, 2, 3].map(() => shop.customer().wants({ product_id: product, qty: 1 })))
  const answers = []
  for (const customer of customers) {
    answers.push(customer.checkout())
    await until(slow.fired, (times) => times > 0)
  }
  const { queue } = watched.base.checkoutQueue
  await until(
    () => queue.getWaitingCount(),
    (count) => count > 0,
  )
  await watched.checks('checkout-worker', 20)
  t.true((await queue.getWaitingCount()) > 0)
  t.deepEqual(await stateOf(watched, 'checkout-worker'), nothingElse)
  await watched.base.paymentQueue.addAgain([{ eventId: 1, orderId: 1, attempt: null }], 600_000)
  await watched.checks('payment-worker', 20)
  t.deepEqual(await stateOf(watched, 'payment-worker'), nothingElse)

  slow.remove()
  await Promise.all(answers) // on a busy machine their tries may be used up by now
  t.is((await (await shop.customer().wants({ product_id: product, qty: 1 })).checkout()).status, 200)
})

for (const [away, variable, components] of [
  ['Redis', 'REDIS_URL', { worker: 'checkout-worker', bridge: 'bridge' }],
  ['PostgreSQL', 'POSTGRES_DSN', { bridge: 'bridge', relay: 'relay' }],
] as const) {
  test(`${away} being away is waited for by what needs it: ${Object.keys(components).join(' and ')}`, async (t) => {
    const shop = await shopOf(t)
    const proxy = await openProxy(t, shop.env[variable]!)
    const opened = await Promise.all(
      Object.entries(components).map(async ([role, component]) => ({
        component,
        watched: await open(t, shop, role as Role, { [variable]: proxy.url }),
      })),
    )
    const end = proxy.silence({ later: true })
    await Promise.all(opened.map(({ component, watched }) => watched.checks(component, 8)))
    for (const { component, watched } of opened) t.deepEqual(await stateOf(watched, component), nothingElse, component)
    end()
  })
}

test.serial('a consumer that is a member of its group and delivers nothing is restarted, and waiting payments are applied', async (t) => {
  const shop = await shopOf(t)
  const require = createRequire(import.meta.url)
  const group = (require('kafkajs/src/consumer/consumerGroup') as { prototype: { fetch(nodeId: number): Promise<unknown[]> } }).prototype
  const { fetch } = group
  t.teardown(() => void (group.fetch = fetch))
  const members = new Set<object>()
  const wedged = new WeakSet<object>()
  group.fetch = async function (this: object, nodeId) {
    members.add(this)
    const batches = await fetch.call(this, nodeId)
    return wedged.has(this) ? [] : batches
  }
  const worker = await shop.start(['worker', 'relay'])
  t.truthy(worker)
  const orders = await placeOrders(shop, 2, shop.catalog.product({ stock: 10 }))
  const watched = await open(t, shop, 'bridge')
  await shop.pay(orders[0]!)
  await allPaid(shop, [orders[0]!])
  await watched.checks('bridge', 20)
  t.deepEqual(await stateOf(watched, 'bridge'), nothingElse, 'with nothing to do')

  for (const member of members) wedged.add(member)
  await shop.pay(orders[1]!)
  await watched.checks('bridge', 7)
  const state = await stateOf(watched, 'bridge')
  t.is(state.rebuilds, 1)
  t.regex(state.ready, /^stalled for 6 s: messages wait on partition [0-2]$/)
  await allPaid(shop, orders)
  await works(watched, 'bridge')
})

test('an aborted transaction is no lag: nothing of it is ever delivered', async (t) => {
  const shop = await shopOf(t)
  const watched = await open(t, shop, 'bridge')
  const payments = openPayments(process.env.KAFKA_BOOTSTRAP!, shop.paymentTopic)
  t.teardown(payments.close)
  await payments.publishInVain([{ ...paymentOf(1, { amount_cents: 1 }), partition: 0 }])
  const lag = () => watched.base.kafka.lag({ topic: shop.paymentTopic, group: shop.group })
  await until(lag, (lags) => lags.some(({ messages }) => messages > 0))
  await until(
    async () => {
      await watched.checks('bridge', 1)
      return watched.base.watched[0]!.waiting()
    },
    (waiting) => waiting.length === 0,
  )
  t.true((await lag()).some(({ messages }) => messages > 0))
  t.deepEqual(await stateOf(watched, 'bridge'), nothingElse)
})

test('a relay that holds its lock and hangs in a send is restarted, and given up when it hangs again', async (t) => {
  const shop = await shopOf(t)
  const kafkaOf = (base: Base) => base.kafka as { connectProducer: Base['kafka']['connectProducer'] }
  const watched = await open(t, shop, 'relay')
  const kafka = kafkaOf(watched.base)
  const { connectProducer } = kafka
  let hangs = 1
  let sends = 0
  kafka.connectProducer = async (signal) => {
    const producer = await connectProducer(signal)
    return {
      ...producer,
      send(...of) {
        sends += 1
        return hangs-- > 0 ? new Promise(() => {}) : producer.send(...of)
      },
    }
  }
  const leads = () => watched.base.relays!.here.leads()
  await until(leads)
  const unsent = async () => (await shop.query('select from order_service.outbox where sent_at is null')).length
  const write = () =>
    shop.query(`insert into order_service.outbox (event_id, order_id, type, payload) values (gen_random_uuid(), 1, 'order.created', '{}')`)
  await watched.checks('relay', 20)
  t.deepEqual(await stateOf(watched, 'relay'), nothingElse, 'with nothing to do')

  await write()
  await until(
    () => sends,
    (count) => count === 1,
  )
  t.true(leads())
  await watched.checks('relay', 7)
  t.deepEqual(await stateOf(watched, 'relay'), { rebuilds: 1, ready: 'stalled for 6 s: messages wait to be sent' })
  await until(unsent, (count) => count === 0)
  await works(watched, 'relay')
  t.deepEqual(watched.givenUp, [])

  hangs = Number.POSITIVE_INFINITY
  await write()
  await until(
    () => sends,
    (count) => count === 3,
  )
  await watched.checks('relay', 7)
  await until(leads)
  await until(
    () => sends,
    (count) => count === 4,
  )
  await watched.checks('relay', 7)
  t.deepEqual(watched.givenUp, ['relay stalled for 6 s after its restart: messages wait to be sent'])
})

test('the relay and the bridge wait for a Kafka that hangs', async (t) => {
  const shop = await shopOf(t)
  const broker = await startKafka({ name: 'test-progress' })
  t.teardown(broker.stop)
  const own = { KAFKA_BOOTSTRAP: broker.bootstrap }
  const [relay, bridge] = [await open(t, shop, 'relay', own), await open(t, shop, 'bridge', own)]
  await until(() => relay.base.relays!.here.leads())
  broker.freeze()
  t.teardown(() => broker.thaw())
  await shop.query(
    `insert into order_service.outbox (event_id, order_id, type, payload) values (gen_random_uuid(), 1, 'order.created', '{}')`,
  )
  await Promise.all([relay.checks('relay', 8), bridge.checks('bridge', 8)])
  broker.thaw()
  t.deepEqual(await stateOf(relay, 'relay'), nothingElse)
  t.deepEqual(await stateOf(bridge, 'bridge'), nothingElse)
  await until(
    async () => (await shop.query('select from order_service.outbox where sent_at is null')).length,
    (count) => count === 0,
  )
})
