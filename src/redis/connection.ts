/** Connections to Redis, for each form of REDIS_URL: those that fail fast, and those that wait. */
import { once } from 'node:events'
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis'
import { type Login, readRedisUrl } from '../config/redis-url.ts'
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Logger } from '../telemetry/logger.ts'
import { SteadySentinelConnector } from '../patches/ioredis.ts'

/** Commands on keys with one hash tag work the same on both. Commands without a key go to any node of a cluster. */
export type RedisConnection = Redis | Cluster

/** Errors repeat while Redis is away: each message is logged once in this time. */
const QUIET_MS = 10_000

function logErrors<Connection extends RedisConnection>(redis: Connection, logger: Logger): Connection {
  let last = { message: '', at: 0 }
  redis.on('error', (error: Error) => {
    const message = reasonOf(nodeErrorOf(error))
      .replace(/\S+:\d+$/, '')
      .trim()
    if (message === last.message && Date.now() - last.at < QUIET_MS) return
    last = { message, at: Date.now() }
    logger.warn({ reason: message }, 'Redis connection lost; reconnecting')
  })
  return redis
}

/** A cluster's error says that no node could be asked; `lastNodeError` says why. */
const nodeErrorOf = (error: Error): Error => (error as { lastNodeError?: Error }).lastNodeError ?? error

/** How often a cluster's slot table is read. */
const REFRESH_SLOTS_MS = 1000

const retryStrategy = (times: number) => Math.min(50 * times, 500)

/** A master that became a replica refuses writes but keeps its connections: reconnecting finds its successor. */
const reconnectOnError = (error: Error) => error.message.startsWith('READONLY')

const loginOptions = ({ username, password }: Login) => ({
  ...(username === undefined ? {} : { username }),
  ...(password === undefined ? {} : { password }),
})

type Common = Pick<RedisOptions, 'maxRetriesPerRequest' | 'connectTimeout' | 'commandTimeout' | 'autoResendUnfulfilledCommands'>

function open(url: string, options: Common, whole: Pick<ClusterOptions, 'enableOfflineQueue' | 'retryDelayOnFailover'>): RedisConnection {
  const servers = readRedisUrl(url)
  if (servers.form === 'cluster') {
    const cluster = new Cluster(servers.nodes, {
      ...whole,
      clusterRetryStrategy: retryStrategy,
      slotsRefreshInterval: 0, // ours, below
      // If this check fails or its node hangs, ioredis' promise of the connection never settles. BullMQ awaits it for the connection on which
      // it waits for jobs, and would never take one again. A cluster that is down refuses each command anyway.
      enableReadyCheck: false,
      redisOptions: { ...options, ...loginOptions(servers.login), ...(servers.tls ? { tls: {} } : {}) },
      // A certificate is for a name, but ioredis would connect to the resolved address.
      ...(servers.tls ? { dnsLookup: (name, found) => found(null, name) } : {}),
    })
    // A node that hangs does not announce its successor. ioredis' own timer restarts if the connection ends during a refresh.
    const refreshing = setInterval(() => {
      // A cluster without any node stays at `disconnecting`.
      if (cluster.status === 'disconnecting' || cluster.status === 'end') clearInterval(refreshing)
      else cluster.refreshSlotsCache()
    }, REFRESH_SLOTS_MS).unref()
    return cluster
  }
  const { enableOfflineQueue = true } = whole
  const one: RedisOptions = { ...options, enableOfflineQueue, retryStrategy, reconnectOnError }
  if (servers.form === 'server') return new Redis(servers.url, one)
  const { sentinels, master, db, login, sentinelLogin, tls } = servers
  return new Redis({
    ...one,
    ...loginOptions(login),
    ...(sentinelLogin.username === undefined ? {} : { sentinelUsername: sentinelLogin.username }),
    ...(sentinelLogin.password === undefined ? {} : { sentinelPassword: sentinelLogin.password }),
    ...(tls ? { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true } : {}),
    sentinels,
    name: master,
    db,
    sentinelRetryStrategy: retryStrategy,
    sentinelCommandTimeout: 1000,
    // Notices a new master while the old one is alive and keeps its connections.
    failoverDetector: true,
    Connector: SteadySentinelConnector,
  })
}

/**
 * For code that has to answer soon: a command fails within a second if Redis is away or hangs. A command that timed out may still be
 * executed.
 */
export function connectFailFast(url: string, logger: Logger): RedisConnection {
  return logErrors(
    open(
      url,
      {
        maxRetriesPerRequest: 1,
        // A command that Redis executed before the connection broke would be executed twice: a job that has ended would begin again.
        autoResendUnfulfilledCommands: false,
        commandTimeout: 1000,
        connectTimeout: 1000,
      },
      // In a cluster, this delay would send the command again.
      { enableOfflineQueue: false, retryDelayOnFailover: 0 },
    ),
    logger,
  )
}

/** For BullMQ's workers and for subscriptions: waits while Redis is away, then continues. */
export function connectPatient(url: string, logger: Logger): RedisConnection {
  return logErrors(open(url, { maxRetriesPerRequest: null, connectTimeout: 2000 }, {}), logger)
}

/**
 * Resolves when the connection can be used; without an offline queue it refuses commands before.
 * @throws the error of Redis or the network, or after 2 s
 */
export async function ready(redis: RedisConnection): Promise<void> {
  if (redis.status !== 'ready') {
    await once(redis, 'ready', { signal: AbortSignal.timeout(2000) }).catch((error: Error) => {
      throw nodeErrorOf(error)
    })
  }
  // A cluster connects to a node at its first command, and refuses other commands meanwhile.
  if (redis instanceof Cluster) await Promise.all(redis.nodes('master').map((node) => node.ping()))
}

/** Every server that has keys of ours or of Cart's. */
export const mastersOf = (redis: RedisConnection): Redis[] => (redis instanceof Cluster ? redis.nodes('master') : [redis])

/** Errors of Redis, or of a script in it (the last one before Redis 7). */
const REFUSED = /\b(WRONGPASS|NOAUTH|NOPERM)\b|ACL failure in script|The user executing the script can't/

/** Whether Redis refuses our login or a right that we need, which waiting cannot fix. */
export const isRefusedByRedis = (error: unknown): boolean =>
  error instanceof Error && (REFUSED.test(error.message) || isRefusedByRedis(error.cause))
