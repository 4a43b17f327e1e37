/** What every process needs before its own work: Redis, PostgreSQL, Kafka, the queues and the tables, in the order in which they start. */
import type { Check } from '../api/ops.ts'
import type { ServiceName } from '../causes.ts'
import type { ServiceHealth } from '../clients/health.ts'
import type { Config } from '../config.ts'
import { type CallIds, createCallIds } from '../db/call-ids.ts'
import { type Checkouts, createCheckouts } from '../db/checkouts.ts'
import { createDatabaseClock, type DatabaseClock } from '../db/database-clock.ts'
import { readDrain } from '../db/drain.ts'
import { migrate, requireMigrated } from '../db/migrate.ts'
import { connectPool, isFaultOfPostgres, isReadOnly, type Pool } from '../db/pool.ts'
import { DatabaseFault, requireWritable } from '../db/session.ts'
import { createKafka, type Kafka } from '../kafka/client.ts'
import { type CheckoutQueue, createCheckoutQueue } from '../queues/checkout.ts'
import { type ActionQueue, createActionQueue } from '../queues/operator-actions.ts'
import { warnOfEviction } from '../redis/eviction.ts'
import { requireRunning } from '../queues/queue-state.ts'
import { connectFailFast, connectPatient, isRefusedByRedis, ready, type RedisConnection } from '../redis/connection.ts'
import { requireRights } from '../redis/rights.ts'
import { createPaymentQueue, type PaymentQueue } from '../queues/payment.ts'
import { createStockQueue, type StockQueue } from '../queues/stock.ts'
import type { LongWait } from '../stock/wait-queues.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { createProbes, type Probes } from './probes.ts'
import { createRelays, type Relays } from './relays.ts'
import { untilUsable } from './until-usable.ts'
import type { Watched } from './watchdog.ts'

/** The processes, by their names in the Procfile and on the command line. */
export const allRoles = ['web', 'worker', 'bridge', 'relay'] as const
export type Role = (typeof allRoles)[number]

/** Clocks drift apart by a few ms in that time. */
const SYNC_CLOCK_EVERY_MS = 30_000

/** Operators' actions have connections of their own. To freeze a large set takes seconds. */
export const ACTION_STATEMENT_MS = 30_000

/** What every role uses. `closers` run at the end, the last one first. */
export interface Base {
  config: Config
  logger: Logger
  metrics: Metrics
  pool: Pool
  clock: DatabaseClock
  callIds: CallIds
  checkouts: Checkouts
  redis: RedisConnection
  subscriber: RedisConnection
  checkoutQueue: CheckoutQueue
  stockQueue: StockQueue
  paymentQueue: PaymentQueue
  actionQueue: ActionQueue
  /** Asks the reconciler to read these products now. It finds them by itself, later, if this fails. */
  wakeReconciler(productIds: readonly number[]): void
  kafka: Kafka
  relays: Relays | undefined
  probes: Probes
  /** The components that a watchdog checks while this process runs. */
  watched: Watched[]
  closers: (() => Promise<unknown>)[]
  report: ReportSources
}

/** What the roles of this process contribute; each is set by its role, if it runs here. */
export interface ReportSources {
  health?: () => Record<ServiceName, ServiceHealth>
  /** Asks the services that fail once more. Never throws. */
  probeFailing?: () => Promise<unknown>
  longWaits?: (ms: number) => LongWait[]
  /** Messages that the bridge has not consumed. */
  lag?: () => Promise<number>
  /** Why the relay cannot send. */
  relayFailure?: () => Error | undefined
  /** How often the bridge has committed. */
  committed?: () => number
}

export interface ConnectDeps {
  config: Config
  logger: Logger
  metrics: Metrics
  roles: ReadonlySet<Role>
  checks: Check[]
  closers: (() => Promise<unknown>)[]
  signal: AbortSignal
}

/** @throws what waiting cannot fix, such as a refused login; AbortError once `signal` is aborted */
export async function connect(deps: ConnectDeps): Promise<Base> {
  const { config, logger, metrics, roles, checks, closers, signal } = deps
  const redis = connectFailFast(config.REDIS_URL, logger)
  const subscriber = connectPatient(config.REDIS_URL, logger)
  closers.push(
    async () => redis.disconnect(),
    async () => subscriber.disconnect(),
  )
  const kafka = createKafka({ brokers: config.KAFKA_BOOTSTRAP, security: config.kafkaSecurity, clientId: 'order-service', logger })
  const { pool, clock } = await connectPostgres(deps, redis)
  await untilUsable(
    async () => {
      await ready(redis)
      await requireRights(redis, config.REDIS_PREFIX)
    },
    { component: 'Redis', isFault: isRefusedByRedis, logger, signal },
  )
  await warnOfEviction(redis, logger)

  const probes = createProbes(config, logger)
  const relays = roles.has('relay') ? createRelays({ config, pool, kafka, logger, metrics, probes }) : undefined
  if (relays) {
    closers.push(relays.stop)
    checks.push({ name: 'kafka', required: false, check: () => kafka.reach() })
  }
  const queues = openQueues(deps, redis, clock)
  return {
    config,
    logger,
    metrics,
    pool,
    clock,
    callIds: createCallIds(pool),
    checkouts: createCheckouts(pool, clock, relays?.here, config.DUPLICATE_ORDER_WINDOW_MS > 0),
    redis,
    subscriber,
    ...queues,
    wakeReconciler(productIds) {
      queues.stockQueue
        .wake(productIds)
        .catch((error) => logger.warn({ err: error }, 'reconciler not woken; it finds its products by itself'))
    },
    kafka,
    relays,
    probes,
    watched: relays ? [...relays.watched] : [],
    closers,
    report: relays ? { relayFailure: relays.failure } : {},
  }
}

/** Adds the checks of both servers first, so that readiness names what is missing while this waits. */
async function connectPostgres(
  { config, logger, checks, closers, signal }: ConnectDeps,
  redis: RedisConnection,
): Promise<{ pool: Pool; clock: DatabaseClock }> {
  let connected: Pool | undefined
  let missing = 'not reached yet'
  const pool = () => {
    if (!connected) throw new Error(missing)
    return connected
  }
  checks.push(
    { name: 'postgres', required: true, check: async () => requireWritable(await isReadOnly(pool())) },
    { name: 'redis', required: true, check: () => redis.ping() },
    {
      name: 'intake',
      required: false, // orders can be read, and what is under way continues
      check: async () => {
        const since = await readDrain(pool())
        if (since) throw new Error(`drained since ${since.toISOString()}: no new orders, no new payments (order-admin drain --undo)`)
      },
    },
  )
  connected = await untilUsable(
    async () => {
      if (config.MIGRATE) await migrate(config.POSTGRES_DSN, logger)
      else await requireMigrated(config.POSTGRES_DSN)
      return connectPool(config.POSTGRES_DSN, {
        size: config.POSTGRES_POOL,
        connectionTimeoutMs: config.POSTGRES_CONNECTION_TIMEOUT_MS,
        statementTimeoutMs: config.POSTGRES_STATEMENT_TIMEOUT_MS,
        logger,
      })
    },
    {
      component: 'PostgreSQL',
      isFault: (error) => error instanceof DatabaseFault || isFaultOfPostgres(error),
      onFailure: (reason) => (missing = reason),
      logger,
      signal,
    },
  )
  closers.push(() => pool().end())
  const clock = await untilUsable(() => createDatabaseClock(pool()), {
    component: 'PostgreSQL',
    isFault: isFaultOfPostgres,
    logger,
    signal,
  })
  const syncing = setInterval(() => void clock.sync().catch(() => {}), SYNC_CLOCK_EVERY_MS) // while PostgreSQL is away the last answer counts
  closers.push(async () => clearInterval(syncing))
  return { pool: connected, clock }
}

function openQueues(
  { config, checks, closers }: ConnectDeps,
  redis: RedisConnection,
  clock: DatabaseClock,
): Pick<Base, 'checkoutQueue' | 'stockQueue' | 'paymentQueue' | 'actionQueue'> {
  const checkoutQueue = createCheckoutQueue(redis, config.REDIS_PREFIX, clock)
  const stockQueue = createStockQueue(redis, config.REDIS_PREFIX)
  const paymentQueue = createPaymentQueue(redis, config.REDIS_PREFIX, clock)
  const actionQueue = createActionQueue(redis, config.REDIS_PREFIX)
  closers.push(
    () => checkoutQueue.close(),
    () => stockQueue.close(),
    () => paymentQueue.close(),
    () => actionQueue.close(),
  )
  checks.push(
    ...[checkoutQueue, paymentQueue, stockQueue, actionQueue].map(({ queue }) => ({
      name: `${queue.name}-queue`,
      required: false, // everything else continues
      check: () => requireRunning(queue),
    })),
  )
  return { checkoutQueue, stockQueue, paymentQueue, actionQueue }
}
