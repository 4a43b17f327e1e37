/**
 * Whether Redis still has the leases that it gave. After FLUSHALL, a restart or a failover it may not, while calls that they covered are
 * under way: then none is given for the length of a lease. It is told by a marker beside the leases, which names the server that gave them.
 */
import { readFileSync } from 'node:fs'
import type { RedisConnection } from '../queues/redis.ts'

export interface LeaseMarker {
  key: string
  leaseMs: number
  /**
   * The id of the server that is connected: a restarted one has another. Asked once a connection. Empty in a cluster, where a command is
   * led to the node that has its keys at that moment: there the scripts ask it themselves (9 us of Redis a call).
   */
  serverId(): Promise<string>
  /** Marks the server; where it had no marker, or another server's, leases are given from one lease's length later on, or at once where no call can be under way. */
  mark(): Promise<void>
}

export interface LeaseMarkerOptions {
  /** A connection that fails fast. */
  redis: RedisConnection
  prefix: string
  leaseMs: number
  /** By what PostgreSQL says: whether a call may be under way whose lease Redis has lost. */
  mayHaveCalls(): Promise<boolean>
}

type Scripts = RedisConnection & {
  markLeases(count: number, key: string, serverId: string, ms: number): Promise<0 | 1>
}

export function createLeaseMarker({ redis: client, prefix, leaseMs, mayHaveCalls }: LeaseMarkerOptions): LeaseMarker {
  const redis = client as Scripts
  redis.defineCommand('markLeases', { lua: readFileSync(new URL('mark.lua', import.meta.url), 'utf8') })
  const key = `${prefix}:leases-given-by`

  let known: Promise<string> | undefined
  redis.on('close', () => {
    known = undefined
  })
  function serverId(): Promise<string> {
    if (redis.isCluster) return Promise.resolve('')
    known ??= redis.info('server').then(
      (info) => {
        const [, id] = /^run_id:(\w+)/m.exec(info) ?? []
        if (!id) throw new Error('Redis does not say its run_id')
        return id
      },
      (error: unknown) => {
        known = undefined
        throw error
      },
    )
    return known
  }

  return {
    key,
    leaseMs,
    serverId,
    async mark() {
      await redis.markLeases(1, key, await serverId(), (await mayHaveCalls()) ? leaseMs : 0)
    },
  }
}
