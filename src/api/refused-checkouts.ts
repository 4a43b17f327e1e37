/**
 * Limits how many checkouts of one customer may be refused. Each one uses an order id, and ids are an `integer`: at 250 refusals a
 * second, one account would use them up in 99 days. Only refusals are counted, so that an order costs no Redis command here.
 */
import { createHmac, type KeyObject } from 'node:crypto'
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'
import type { RedisConnection } from '../redis/connection.ts'
import { sharedLimiter } from '../redis/limiter.ts'

const WINDOW_S = 60

export interface RefusedCheckouts {
  /** Counts a refusal. Never throws; while Redis is unavailable, each process counts for itself. */
  count(customer: string): Promise<void>
  /** @returns seconds that a customer with too many refusals must wait, as far as this process knows; else 0 */
  waitS(customer: string): Promise<number>
}

/**
 * @param key of the HMAC by which Redis stores customers, instead of emails
 * @param most refusals of one customer per minute over all processes; a process learns of the limit at its own next refusal
 */
export function createRefusedCheckouts(redis: RedisConnection, prefix: string, key: KeyObject, most: number): RefusedCheckouts {
  const refusals = sharedLimiter(redis, { points: most, duration: WINDOW_S, keyPrefix: `${prefix}:refused` })
  const blocked = new RateLimiterMemory({ points: 1, duration: WINDOW_S })
  return {
    async count(customer) {
      const counted = await refusals
        .consume(createHmac('sha256', key).update(customer).digest('base64url'))
        .catch((limit: unknown) => limit)
      if (counted instanceof RateLimiterRes && counted.remainingPoints === 0) await blocked.block(customer, counted.msBeforeNext / 1000)
    },
    async waitS(customer) {
      const block = await blocked.get(customer)
      return block ? Math.ceil(block.msBeforeNext / 1000) : 0
    },
  }
}
