/** What every process needs before it does its own work: Redis, PostgreSQL, the queues and the tables' verbs, in the order in which they come up. */
import { sql } from 'slonik'
import type { Check } from '../api/ops.ts'
import type { Config } from '../config.ts'
import { type Checkouts, createCheckouts } from '../db/checkouts.ts'
import { migrate, MigrationFault, requireMigrated } from '../db/migrate.ts'
import { connectPool, isFaultOfPostgres, type Pool } from '../db/pool.ts'
import { mayHaveCalls } from '../db/rescue.ts'
import { createKafka, type Kafka } from '../kafka/client.ts'
import { createDeadLetterRelay } from '../kafka/dead-letter-relay.ts'
import { createOutboxRelay } from '../kafka/outbox-relay.ts'
import type { Relay } from '../kafka/relay.ts'
import { type CheckoutQueue, createCheckoutQueue } from '../queues/checkout.ts'
import { warnOfEviction } from '../queues/eviction.ts'
import { connectFailFast, connectPatient, isRefusedByRedis, ready, type RedisConnection } from '../queues/redis.ts'
import { createPaymentQueue, type PaymentQueue } from '../queues/payment.ts'
import { createStockQueue, type StockQueue } from '../queues/stock.ts'
import { createLeaseMarker, type LeaseMarker } from '../stock/lease-marker.ts'
import { enoughFor } from '../stock/leases.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { untilThere } from './until-there.ts'

/** The processes, as the Procfile and the command line name them. */
export type Role = 'web' | 'worker' | 'bridge' | 'relay'

/** How long a call may wait for its place at Catalog before its lease has to be renewed. */
const PLACE_MS = 1000

/** What every role uses, and what is to be closed in the end, last made first. */
export interface Base {
  config: Config
  logger: Logger
  metrics: Metrics
  pool: Pool
  checkouts: Checkouts
  redis: RedisConnection
  subscriber: RedisConnection
  checkoutQueue: CheckoutQueue
  leaseMarker: LeaseMarker
  stockQueue: StockQueue
  paymentQueue: PaymentQueue
  /** Tells the mender of products that somebody has to come to. It looks by itself where it is not told. */
  wakeMender(productIds: readonly number[]): void
  kafka: Kafka
  relay: Relay | undefined
  deadLetterRelay: Relay | undefined
  closers: (() => Promise<unknown>)[]
}

export async function connect(parts: {
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
  let poolMissing = 'not reached yet'
  const kafka = createKafka({ brokers: config.KAFKA_BOOTSTRAP, security: config.kafkaSecurity, clientId: 'order-service', logger })
  checks.push(
    { name: 'postgres', required: true, check: async () => await present(pool, poolMissing).query(sql.unsafe`select 1`) },
    { name: 'redis', required: true, check: () => redis.ping() },
  )
  pool = await untilThere(
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
      part: 'PostgreSQL',
      isFault: (error) => error instanceof MigrationFault || isFaultOfPostgres(error),
      tell: (message) => (poolMissing = message),
      logger,
      signal,
    },
  )
  closers.push(() => pool!.end())
  await untilThere(() => ready(redis), { part: 'Redis', isFault: isRefusedByRedis, logger, signal })
  await warnOfEviction(redis, logger)

  // Before anything is under way, so that a Redis which is new to us need not be waited for.
  const leaseMs = enoughFor(config.CALL_TIMEOUT_MS) + PLACE_MS
  const leaseMarker = createLeaseMarker({ redis, prefix: config.REDIS_PREFIX, leaseMs, mayHaveCalls: () => mayHaveCalls(pool!, leaseMs) })
  await untilThere(() => leaseMarker.mark(), { part: 'Redis', isFault: isRefusedByRedis, logger, signal })

  const relayTerms = { pool, dsn: config.POSTGRES_DSN, kafka, logger }
  const relay = roles.has('relay') ? createOutboxRelay({ ...relayTerms, topic: config.TOPIC_ORDER_EVENTS, metrics }) : undefined
  const deadLetterRelay = roles.has('relay') ? createDeadLetterRelay({ ...relayTerms, topic: config.TOPIC_PAYMENT_EVENTS_DLQ }) : undefined
  if (relay && deadLetterRelay) {
    closers.push(() => Promise.all([relay.stop(), deadLetterRelay.stop()]))
    checks.push({ name: 'kafka', required: false, check: () => kafka.reach() })
  }
  const checkoutQueue = createCheckoutQueue(redis, config.REDIS_PREFIX)
  const stockQueue = createStockQueue(redis, config.REDIS_PREFIX)
  const paymentQueue = createPaymentQueue(redis, config.REDIS_PREFIX)
  closers.push(
    () => checkoutQueue.close(),
    () => stockQueue.close(),
    () => paymentQueue.close(),
  )
  const checkouts = createCheckouts(pool, relay)
  return {
    config,
    logger,
    metrics,
    pool,
    checkouts,
    redis,
    subscriber,
    leaseMarker,
    checkoutQueue,
    stockQueue,
    paymentQueue,
    wakeMender(productIds) {
      stockQueue.wake(productIds).catch((error) => logger.warn({ err: error }, 'the mender was not woken; it looks by itself'))
    },
    kafka,
    relay,
    deadLetterRelay,
    closers,
  }
}

function present<T>(part: T | undefined, missing: string): T {
  if (part === undefined) throw new Error(missing)
  return part
}
