/** Connections to Redis: those that fail at once, and those that wait. */
import { once } from 'node:events'
import { Redis } from 'ioredis'
import type { Logger } from '../telemetry/logger.ts'

/** Seen again and again while Redis is away: each distinct message is worth one line in this time. */
const QUIET_MS = 10_000

function watch(redis: Redis, logger: Logger): Redis {
  let last = { message: '', at: 0 }
  redis.on('error', (error: Error) => {
    const message = error.message.replace(/\S+:\d+$/, '').trim() || (error as { code?: string }).code || error.name
    if (message === last.message && Date.now() - last.at < QUIET_MS) return
    last = { message, at: Date.now() }
    logger.warn({ reason: message }, 'Redis connection lost, reconnecting')
  })
  return redis
}

const retryStrategy = (times: number) => Math.min(50 * times, 500)

/**
 * For whoever has to answer: a command fails within a second where Redis is away or stands still. A command that timed out may
 * still be carried out.
 */
export function connectFailFast(url: string, logger: Logger): Redis {
  return watch(
    new Redis(url, {
      maxRetriesPerRequest: 1,
      enableOfflineQueue: false,
      // A command that Redis carried out before the connection broke would be carried out twice: a job that has ended would begin anew.
      autoResendUnfulfilledCommands: false,
      commandTimeout: 1000,
      connectTimeout: 1000,
      retryStrategy,
      enableReadyCheck: true,
    }),
    logger,
  )
}

/** For BullMQ's workers and for subscriptions: waits for as long as Redis is away, and goes on. */
export function connectPatient(url: string, logger: Logger): Redis {
  return watch(new Redis(url, { maxRetriesPerRequest: null, connectTimeout: 2000, retryStrategy }), logger)
}

/**
 * Resolves when the connection can be used; a connection with no offline queue refuses commands before.
 * @throws what Redis or the network said, or after 2 s
 */
export async function ready(redis: Redis): Promise<void> {
  if (redis.status !== 'ready') await once(redis, 'ready', { signal: AbortSignal.timeout(2000) })
}

/** Whether Redis was reached and does not let us in, which no waiting mends. */
export const isRefusedByRedis = (error: unknown): boolean => error instanceof Error && /\b(WRONGPASS|NOAUTH|NOPERM)\b/.test(error.message)
