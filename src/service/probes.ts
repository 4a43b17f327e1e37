/**
 * Whether PostgreSQL and Redis can be worked with, asked by connections that are made for the question: one at hand may be dead, while
 * what it leads to answers everybody else.
 */
import { Client } from 'pg'
import type { Config } from '../config.ts'
import { requireUsable, sessionOptions } from '../db/session.ts'
import { connectFailFast, ready } from '../redis/connection.ts'
import type { Logger } from '../telemetry/logger.ts'

/** Less than a look at a component has: what is slow for both is an outage. In ms. */
const ANSWER_MS = 1500

/** Each throws where there is no answer in time. */
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
      client.on('error', () => {}) // a query tells of it
      try {
        await client.connect()
        // Asks for no row, and for the right to read: a table that somebody has locked is as good as away.
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
        // One that is full, or a replica, answers everything else.
        await redis.set(`${REDIS_PREFIX}:probe`, '', 'PX', ANSWER_MS)
      } finally {
        redis.disconnect()
      }
    },
  }
}
