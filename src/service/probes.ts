/** Whether PostgreSQL and Redis can be used, judged by fresh connections: an existing connection may be dead while its server is well. */
import { Client } from 'pg'
import type { Config } from '../config.ts'
import { requireUsable, sessionOptions } from '../db/session.ts'
import { connectFailFast, ready } from '../redis/connection.ts'
import type { Logger } from '../telemetry/logger.ts'

/** In ms. Less than the watchdog's limit for a component's own connections: a server too slow for both is an outage. */
const ANSWER_MS = 1500

/** Each throws if the server does not answer in time. */
export interface Probes {
  postgres(): Promise<void>
  redis(): Promise<void>
}

export function createProbes(
  { POSTGRES_DSN, REDIS_URL, REDIS_PREFIX }: Pick<Config, 'POSTGRES_DSN' | 'REDIS_URL' | 'REDIS_PREFIX'>,
  logger: Logger,
): Probes {
  return {
    async postgres() {
      const client = new Client({ ...sessionOptions(POSTGRES_DSN), connectionTimeoutMillis: ANSWER_MS, query_timeout: ANSWER_MS })
      client.on('error', () => {}) // the query rejects with it
      try {
        await client.connect()
        // Needs no row but the right to read: a table that is locked counts as away.
        await client.query(`select from order_service.checkouts, order_service.payment_events, order_service.outbox,
          order_service.dead_letters limit 0`)
        await requireUsable(client)
      } finally {
        await client.end()
      }
    },
    async redis() {
      const redis = connectFailFast(REDIS_URL, logger)
      try {
        await ready(redis)
        // A full Redis, or a replica, refuses writes alone.
        await redis.set(`${REDIS_PREFIX}:probe`, '', 'PX', ANSWER_MS)
      } finally {
        redis.disconnect()
      }
    },
  }
}
