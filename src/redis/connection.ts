/** Connections to Redis, whichever form REDIS_URL has: those that fail at once, and those that wait. */
import { once } from 'node:events'
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis'
import { type Login, readRedisUrl } from '../config/redis-url.ts'
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Logger } from '../telemetry/logger.ts'
import { SteadySentinelConnector } from '../patches/ioredis.ts'

/** Commands on keys of one hash tag are the same on both. Whatever has no key is asked of any node of a cluster. */
export type RedisConnection = Redis | Cluster

/** Seen again and again while Redis is away: each distinct message is worth one line in this time. */
const QUIET_MS = 10_000

function watch<Connection extends RedisConnection>(redis: Connection, logger: Logger): Connection {
  let last = { message: '', at: 0 }
  redis.on('error', (told: Error) => {
    const message = reasonOf(nodeErrorOf(told))
      .replace(/\S+:\d+$/, '')
      .trim()
    if (message === last.message && Date.now() - last.at < QUIET_MS) return
    last = { message, at: Date.now() }
    logger.warn({ reason: message }, 'Redis connection lost, reconnecting')
  })
  return redis
}

/** A cluster says that none of its nodes could be asked, and beside it why not. */
const nodeErrorOf = (error: Error): Error => (error as { lastNodeError?: Error }).lastNodeError ?? error

/** How often a cluster is asked which node has which keys. */
const LOOK_MS = 1000

const retryStrategy = (times: number) => Math.min(50 * times, 500)

/** A master that became a replica refuses to write, and keeps its connections: the next one is to its successor. */
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
      // Where the check fails, or the node that it asks stands still, ioredis' promise of this connection never settles, and BullMQ, which
      // awaits it for the one that it waits for jobs on, takes none again. A cluster that is down says so to each command anyway.
      enableReadyCheck: false,
      redisOptions: { ...options, ...loginOptions(servers.login), ...(servers.tls ? { tls: {} } : {}) },
      // A certificate is for a name, and ioredis would connect to what it resolves to.
      ...(servers.tls ? { dnsLookup: (name, found) => found(null, name) } : {}),
    })
    // A node that stands still tells nobody of its successor. ioredis' own timer begins anew where the connection ends while it asks.
    const looking = setInterval(() => {
      // One without any node never gets from there to its end.
      if (cluster.status === 'disconnecting' || cluster.status === 'end') clearInterval(looking)
      else cluster.refreshSlotsCache()
    }, LOOK_MS).unref()
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
    // Tells of a new master where the old one lives on, and keeps its connections.
    failoverDetector: true,
    Connector: SteadySentinelConnector,
  })
}

/**
 * For whoever has to answer: a command fails within a second where Redis is away or stands still. A command that timed out may
 * still be carried out.
 */
export function connectFailFast(url: string, logger: Logger): RedisConnection {
  return watch(
    open(
      url,
      {
        maxRetriesPerRequest: 1,
        // A command that Redis carried out before the connection broke would be carried out twice: a job that has ended would begin anew.
        autoResendUnfulfilledCommands: false,
        commandTimeout: 1000,
        connectTimeout: 1000,
      },
      // In a cluster it is this delay that sends again.
      { enableOfflineQueue: false, retryDelayOnFailover: 0 },
    ),
    logger,
  )
}

/** For BullMQ's workers and for subscriptions: waits for as long as Redis is away, and goes on. */
export function connectPatient(url: string, logger: Logger): RedisConnection {
  return watch(open(url, { maxRetriesPerRequest: null, connectTimeout: 2000 }, {}), logger)
}

/**
 * Resolves when the connection can be used; a connection with no offline queue refuses commands before.
 * @throws what Redis or the network said, or after 2 s
 */
export async function ready(redis: RedisConnection): Promise<void> {
  if (redis.status !== 'ready') {
    await once(redis, 'ready', { signal: AbortSignal.timeout(2000) }).catch((error: Error) => {
      throw nodeErrorOf(error)
    })
  }
  // A cluster connects to each node when it is first needed, and refuses what comes meanwhile.
  if (redis instanceof Cluster) await Promise.all(redis.nodes('master').map((node) => node.ping()))
}

/** Every server that holds keys of ours or of Cart's. */
export const mastersOf = (redis: RedisConnection): Redis[] => (redis instanceof Cluster ? redis.nodes('master') : [redis])

/** What Redis says, or a script in it (the second of them before Redis 7). */
const REFUSED = /\b(WRONGPASS|NOAUTH|NOPERM)\b|ACL failure in script|The user executing the script can't/

/** Whether Redis was reached and does not let us in, or not do what we need, which no waiting mends. */
export const isRefusedByRedis = (error: unknown): boolean =>
  error instanceof Error && (REFUSED.test(error.message) || isRefusedByRedis(error.cause))
