/** Puts the parts together: the one place that makes things. Any of the processes may live in one Node process, or each in its own. */
import type { Server } from 'node:http'
import { Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import { sql } from 'slonik'
import { createApp, createOpsApp, type Service as CustomerService } from './api/app.ts'
import type { Check } from './api/ops.ts'
import { close, listen, portOf } from './api/server.ts'
import { createCarts } from './clients/cart.ts'
import { createCatalog } from './clients/catalog.ts'
import { createNeighbour, type Neighbour } from './clients/http.ts'
import { createShipping } from './clients/shipping.ts'
import type { Config } from './config.ts'
import { type Checkouts, createCheckouts } from './db/checkouts.ts'
import { createIntents } from './db/intents.ts'
import { migrate } from './db/migrate.ts'
import { readOrder } from './db/orders.ts'
import { readLag } from './db/outbox.ts'
import { connectPool, type Pool } from './db/pool.ts'
import { createStockLedger } from './db/stock-ledger.ts'
import { createKafka } from './kafka/client.ts'
import { createOutboxRelay, type OutboxRelay } from './kafka/outbox-relay.ts'
import { createCheckoutProcessor } from './processors/checkout.ts'
import { createMendProcessor } from './processors/mend-product.ts'
import { CHECKOUT_QUEUE, type CheckoutQueue, createCheckoutQueue } from './queues/checkout.ts'
import { connectFailFast, connectPatient, ready } from './queues/redis.ts'
import { createReplier, createReplies, type Replies } from './queues/replies.ts'
import { createStockQueue, STOCK_QUEUE, type StockQueue } from './queues/stock.ts'
import { untilThere } from './retry.ts'
import { createLeases, enoughFor } from './stock/leases.ts'
import { createMender } from './stock/mender.ts'
import type { StockParts } from './stock/stock-call.ts'
import type { Logger } from './telemetry/logger.ts'
import { createMetrics, type Metrics } from './telemetry/metrics.ts'

export type Role = 'web' | 'worker' | 'relay'

export interface RunningService {
  /** Where it listens: customers' routes with `web`, health and metrics with the others. undefined where nothing listens. */
  port: number | undefined
  /** Resolves when all parts are there, rejects where the service was stopped before. */
  started: Promise<void>
  /** Takes no more work, finishes what runs, closes everything; within 15 s. */
  stop(): Promise<void>
}

/** After so long of the 15 s the parts are closed under whoever still runs: the truth is in PostgreSQL, others go on from it. */
const REQUESTS_END_MS = 9000
const JOBS_END_MS = 3000
/** How long a call may wait for its place at Catalog before its lease has to be renewed. */
const PLACE_MS = 1000
const MENDER_LOOKS_EVERY_MS = 30_000

/** What every role uses, and what is to be closed in the end, last made first. */
interface Base {
  config: Config
  logger: Logger
  metrics: Metrics
  pool: Pool
  checkouts: Checkouts
  redis: Redis
  subscriber: Redis
  checkoutQueue: CheckoutQueue
  stockQueue: StockQueue
  relay: OutboxRelay | undefined
  closers: (() => Promise<unknown>)[]
}

/** Listens at once, so that liveness can be seen; everything else follows as PostgreSQL and Redis come up. */
export async function startService(config: Config, roles: ReadonlySet<Role>, logger: Logger): Promise<RunningService> {
  const metrics = createMetrics()
  const stopping = new AbortController()
  const closers: (() => Promise<unknown>)[] = []
  const checks: Check[] = []
  let customers: CustomerService | undefined
  let isStarted = false

  const ops = { logger, metrics, checks, stopping: () => stopping.signal.aborted }
  const app = roles.has('web') ? createApp({ ...ops, config, service: () => customers }) : createOpsApp(ops, () => isStarted)
  const port = roles.has('web') ? config.PORT : config.METRICS_PORT
  const server: Server | undefined = port === undefined ? undefined : await listen(app, { host: config.HOST, port })

  const starting = (async () => {
    const base = await connect({ config, logger, metrics, roles, checks, closers, signal: stopping.signal })
    if (roles.has('relay')) base.relay!.start()
    const replies = roles.has('web') ? await createReplies(base.subscriber, config.REDIS_PREFIX) : undefined
    if (replies) closers.push(() => replies.close())
    if (roles.has('worker')) await startWorker(base, replies)
    if (replies) customers = customerService(base, replies, roles.has('worker'))
    isStarted = true
    logger.info({ roles: [...roles], port: server && portOf(server) }, 'started')
  })()
  starting.catch((error) => {
    if (!stopping.signal.aborted) logger.fatal({ err: error }, 'could not start')
  })

  return {
    port: server && portOf(server),
    started: starting,
    async stop() {
      stopping.abort()
      if (server) await close(server, { withinMs: REQUESTS_END_MS })
      await starting.catch(() => {})
      for (const closer of closers.toReversed()) await closer().catch((error) => logger.warn({ err: error }, 'a part did not close'))
    },
  }
}

async function connect(parts: {
  config: Config
  logger: Logger
  metrics: Metrics
  roles: ReadonlySet<Role>
  checks: Check[]
  closers: (() => Promise<unknown>)[]
  signal: AbortSignal
}): Promise<Base> {
  const { config, logger, metrics, roles, checks, closers, signal } = parts
  const redis = connectFailFast(config.REDIS_URL, logger)
  const subscriber = connectPatient(config.REDIS_URL, logger)
  closers.push(
    async () => redis.disconnect(),
    async () => subscriber.disconnect(),
  )

  let pool: Pool | undefined
  const kafka = createKafka({ brokers: config.KAFKA_BOOTSTRAP, clientId: 'order-service', logger })
  checks.push(
    { name: 'postgres', required: true, check: async () => await present(pool, 'PostgreSQL').query(sql.unsafe`select 1`) },
    { name: 'redis', required: true, check: () => redis.ping() },
  )
  pool = await untilThere(
    'PostgreSQL',
    async () => {
      if (config.MIGRATE) await migrate(config.POSTGRES_DSN, logger)
      return connectPool(config.POSTGRES_DSN, { size: config.POSTGRES_POOL, logger })
    },
    logger,
    signal,
  )
  closers.push(() => pool!.end())
  await untilThere('Redis', () => Promise.race([ready(redis), rejectedAfter(2000)]), logger, signal)

  const relay = roles.has('relay')
    ? createOutboxRelay({ pool, dsn: config.POSTGRES_DSN, kafka, topic: config.TOPIC_ORDER_EVENTS, logger, metrics })
    : undefined
  if (relay) {
    closers.push(() => relay.stop())
    checks.push({ name: 'kafka', required: false, check: () => kafka.ensureTopic(config.TOPIC_ORDER_EVENTS) })
  }
  const checkoutQueue = createCheckoutQueue(redis, config.REDIS_PREFIX)
  const stockQueue = createStockQueue(redis, config.REDIS_PREFIX)
  closers.push(
    () => checkoutQueue.close(),
    () => stockQueue.close(),
  )
  const checkouts = createCheckouts(pool, relay)
  const base = { config, logger, metrics, pool, checkouts, redis, subscriber, checkoutQueue, stockQueue, relay, closers }
  watchGauges(base)
  return base
}

function present<T>(part: T | undefined, name: string): T {
  if (part === undefined) throw new Error(`${name} has not been reached yet`)
  return part
}

const rejectedAfter = (ms: number) =>
  new Promise<never>((_resolve, reject) => setTimeout(() => reject(new Error(`no answer in ${ms} ms`)), ms).unref())

/** The gauges whose truth lies in PostgreSQL and Redis: asked when somebody scrapes. */
function watchGauges({ metrics, pool, checkoutQueue, stockQueue }: Base): void {
  const ledger = createStockLedger(pool)
  metrics.refreshed.push(
    async () => {
      const lag = await readLag(pool)
      metrics.outboxUnsent.set(lag.unsent)
      metrics.outboxLagSeconds.set(lag.oldestSeconds)
      metrics.outboxSetAside.set(lag.setAside)
    },
    async () => {
      const { inDoubt, unsellable } = await ledger.count()
      metrics.productsInDoubt.set(inDoubt)
      metrics.productsUnsellable.set(unsellable)
    },
    ...[checkoutQueue.queue, stockQueue.queue].map((queue) => async () => {
      const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'failed')
      for (const [state, count] of Object.entries(counts)) metrics.jobs.set({ queue: queue.name, state }, count)
      const [oldest] = await queue.getJobs('waiting', 0, 0, true)
      metrics.oldestJobSeconds.set({ queue: queue.name }, oldest ? (Date.now() - oldest.timestamp) / 1000 : 0)
    }),
  )
}

function customerService(base: Base, replies: Replies, workerIsHere: boolean): CustomerService {
  const { pool, checkouts, redis, checkoutQueue, stockQueue, logger, metrics } = base
  const intents = createIntents(pool)
  return {
    carts: createCarts(redis),
    intents: {
      findClaim: intents.findClaim,
      async intend(intent) {
        const intended = await intents.intend(intent)
        if (workerIsHere && intended.claim === 'new')
          checkouts.remember(intended.orderId, { userEmail: intent.userEmail, address: intent.address })
        return intended
      },
    },
    checkouts: {
      readOutcome: checkouts.readOutcome,
      async cancel(orderId, rejection) {
        const { outcome, won, freed } = await checkouts.cancel(orderId, rejection)
        if (won) metrics.checkouts.inc({ outcome: outcome.state })
        if (freed.length > 0)
          stockQueue.wake(freed).catch((error) => logger.warn({ err: error }, 'the mender was not woken; it looks by itself'))
        return outcome
      },
    },
    queue: checkoutQueue,
    replies,
    readOrder: (orderId) => readOrder(pool, orderId),
  }
}

async function startWorker(base: Base, replies: Replies | undefined): Promise<void> {
  const { config, pool, checkouts, redis, subscriber, logger, metrics, stockQueue, closers } = base
  const neighbour = (name: string, baseUrl: string, concurrency: number): Neighbour => {
    const made = createNeighbour({
      name,
      base: baseUrl,
      headers: { 'x-internal-key': config.SVC_INTERNAL_KEY },
      concurrency,
      timeoutMs: config.CALL_TIMEOUT_MS,
      metrics,
    })
    closers.push(() => made.close())
    return made
  }
  const catalog = createCatalog(neighbour('catalog', config.CATALOG_BASE, config.CATALOG_CONCURRENCY))
  const shipping = createShipping(neighbour('shipping', config.SHIPPING_BASE, config.SHIPPING_CONCURRENCY))

  const leaseMs = enoughFor(config.CALL_TIMEOUT_MS) + PLACE_MS
  const leases = await createLeases({ redis, subscriber, prefix: config.REDIS_PREFIX, leaseMs, metrics })
  closers.push(() => leases.close())
  const ledger = createStockLedger(pool)
  const wakeMender = (productIds: readonly number[]) => {
    stockQueue.wake(productIds).catch((error) => logger.warn({ err: error }, 'the mender was not woken; it looks by itself'))
  }
  const clock = { now: () => performance.now(), sleep: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)) }
  const stock: StockParts = { leases, ledger, catalog, clock, callTimeoutMs: config.CALL_TIMEOUT_MS, metrics, wakeMender }

  const checkout = createCheckoutProcessor({
    checkouts,
    stock,
    shipping,
    reply: createReplier(redis, replies),
    addAgain: base.checkoutQueue.addAgain,
    logger,
    metrics,
    mostWaiting: config.WORKER_CONCURRENCY / 2,
  })
  // Few of them mend at a time: Catalog has customers to serve.
  const workers = [
    startJobs(base, CHECKOUT_QUEUE, config.WORKER_CONCURRENCY, checkout),
    startJobs(base, STOCK_QUEUE, 4, createMendProcessor(createMender(stock), logger)),
  ]
  const lookForNeed = () => {
    ledger.inNeed().then(wakeMender, (error: Error) => logger.warn({ err: error }, 'could not look for products in need'))
  }
  lookForNeed()
  const timer = setInterval(lookForNeed, MENDER_LOOKS_EVERY_MS)
  closers.push(async () => {
    clearInterval(timer)
    await Promise.race([Promise.all(workers.map((worker) => worker.close())), rejectedAfter(JOBS_END_MS)])
  })
}

function startJobs(
  { config, logger, closers }: Base,
  name: string,
  concurrency: number,
  processor: ConstructorParameters<typeof Worker>[1],
): Worker {
  const connection = connectPatient(config.REDIS_URL, logger)
  closers.push(async () => connection.disconnect())
  const worker = new Worker(name, processor, {
    connection,
    prefix: config.REDIS_PREFIX,
    concurrency,
    // A killed worker's jobs are taken up by another one within 2 x 1.5 s + 3 s, inside a customer's budget.
    lockDuration: 3000,
    stalledInterval: 1500,
    // PostgreSQL's deadline ends a checkout, not BullMQ's count of how often its worker died.
    maxStalledCount: 1000,
    // A frozen process may hold the wake-up of a job: the others look themselves after so many seconds.
    drainDelay: 1,
  })
  worker.on('error', (error) => logger.debug({ err: error, queue: name }, 'worker'))
  worker.on('failed', (job, error) => {
    if (!job || job.finishedOn) logger.error({ err: error, queue: name, job: job?.id }, 'a job failed for good')
  })
  return worker
}
