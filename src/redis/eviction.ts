/** Whether Redis may evict our jobs when its memory is full. */
import type { Logger } from '../telemetry/logger.ts'
import { mastersOf, type RedisConnection } from './connection.ts'

/** The only `maxmemory-policy` that keeps every key. With any other, Redis silently drops jobs. */
export const KEEPS_ALL = 'noeviction'

/**
 * How many servers have which `maxmemory-policy`; `unknown` if a server does not report it. From INFO, since managed Redis refuses CONFIG.
 * @throws where Redis is away
 */
export async function evictionPolicies(redis: RedisConnection): Promise<Map<string, number>> {
  const policies = new Map<string, number>()
  for (const info of await Promise.all(mastersOf(redis).map((server) => server.info('memory')))) {
    const policy = /^maxmemory_policy:([\w-]+)/m.exec(info)?.[1] ?? 'unknown'
    policies.set(policy, (policies.get(policy) ?? 0) + 1)
  }
  return policies
}

/** Logs a warning for each policy other than {@link KEEPS_ALL}. Never throws: the queues work with any policy while there is memory. */
export async function warnOfEviction(redis: RedisConnection, logger: Logger): Promise<void> {
  try {
    for (const policy of (await evictionPolicies(redis)).keys()) {
      if (policy === 'unknown') logger.warn('Redis does not report its maxmemory-policy; make sure that it is noeviction')
      else if (policy !== KEEPS_ALL) logger.warn({ policy }, 'Redis may evict jobs; set maxmemory-policy noeviction')
    }
  } catch (error) {
    logger.warn({ err: error }, 'Redis does not report its maxmemory-policy; make sure that it is noeviction')
  }
}
