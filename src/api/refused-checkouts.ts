/**
 * How many checkouts of one customer may be refused: each has drawn an order id, and ids are an `integer`. At 250 a second one account
 * with an empty shelf would use them up in 99 days. Only refusals are counted, so a checkout that becomes an order asks Redis nothing.
 */
import { createHmac, type KeyObject } from 'node:crypto'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible'
import type { RedisConnection } from '../redis/connection.ts'

const WINDOW_S = 60

export interface RefusedCheckouts {
  /** Counts one more. Never throws: where Redis is away, each process counts for itself. */
  count(customer: string): Promise<void>
  /** @returns seconds to wait for a customer who had too many of them, as far as this process knows; else 0 */
  waitS(customer: string): Promise<number>
}

/**
 * @param key so that Redis has no emails, only what cannot be turned back into one
 * @param most of one customer in a minute, over all processes; each process learns of it with its own next refusal
 */
export function createRefusedCheckouts(redis: RedisConnection, prefix: string, key: KeyObject, most: number): RefusedCheckouts {
  const common = { points: most, duration: WINDOW_S, keyPrefix: `${prefix}:refused` }
  const refused = new RateLimiterRedis({ ...common, storeClient: redis, insuranceLimiter: new RateLimiterMemory(common) })
  const stopped = new RateLimiterMemory({ points: 1, duration: WINDOW_S })
  return {
    async count(customer) {
      const counted = await refused.consume(createHmac('sha256', key).update(customer).digest('base64url')).catch((said: unknown) => said)
      if (counted instanceof RateLimiterRes && counted.remainingPoints === 0) await stopped.block(customer, counted.msBeforeNext / 1000)
    },
    async waitS(customer) {
      const stop = await stopped.get(customer)
      return stop ? Math.ceil(stop.msBeforeNext / 1000) : 0
    },
  }
}
