/** Limits sign-in attempts. They are counted in Redis for all processes, or in each process while Redis is unavailable. */
import { createHmac, type KeyObject } from 'node:crypto'
import { RateLimiterRes } from 'rate-limiter-flexible'
import type { RedisConnection } from '../../redis/connection.ts'
import { sharedLimiter } from '../../redis/limiter.ts'

/** Attempts per window. Ten in ten minutes allow 1,440 guesses a day at one account; several people may share an address. */
const limits = { account: 10, address: 30 }
const WINDOW_S = 600

export interface SignInTries {
  /** Counts an attempt. @returns seconds to wait after too many from this address or for this account; 0 if it may proceed */
  count(address: string, account: string): Promise<number>
  /** Forgets the attempts of both after a successful sign-in. */
  reset(address: string, account: string): Promise<void>
  /** Takes back an attempt that Auth could not decide. */
  uncount(address: string, account: string): Promise<void>
}

/** @param key of the HMAC by which Redis stores addresses and accounts */
export function createSignInTries(redis: RedisConnection, prefix: string, key: KeyObject): SignInTries {
  const limiter = (what: keyof typeof limits) =>
    sharedLimiter(redis, { points: limits[what], duration: WINDOW_S, keyPrefix: `${prefix}:sign-in:${what}` })
  const byAddress = limiter('address')
  const byAccount = limiter('account')
  const hashed = (text: string) => createHmac('sha256', key).update(text.trim().toLowerCase()).digest('base64url')
  return {
    async count(address, account) {
      try {
        await byAddress.consume(hashed(address))
        await byAccount.consume(hashed(account))
        return 0
      } catch (error) {
        if (error instanceof RateLimiterRes) return Math.ceil(error.msBeforeNext / 1000)
        throw error
      }
    },
    async reset(address, account) {
      await Promise.all([byAddress.delete(hashed(address)), byAccount.delete(hashed(account))])
    },
    async uncount(address, account) {
      await Promise.all([byAddress.reward(hashed(address)), byAccount.reward(hashed(account))])
    },
  }
}
