/** How often somebody may try to sign in: counted in Redis over all processes, and in each process where Redis is away. */
import { createHmac, type KeyObject } from 'node:crypto'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible'
import type { RedisConnection } from '../../redis/connection.ts'

/** A person mistypes a few times. Ten in ten minutes make 1,440 guesses a day at one account; behind one address sit several people. */
const limits = { account: 10, address: 30 }
const WINDOW_S = 600

export interface SignInTries {
  /** Counts a try. @returns seconds to wait, where there were too many from this address or for this account; 0 where it may go on */
  take(address: string, account: string): Promise<number>
  /** That try was right: all of both are forgotten. */
  forget(address: string, account: string): Promise<void>
  /** Nobody could say whether that try was right: it does not count. */
  giveBack(address: string, account: string): Promise<void>
}

/** @param key so that Redis has neither addresses nor emails, only what cannot be turned back into one */
export function createSignInTries(redis: RedisConnection, prefix: string, key: KeyObject): SignInTries {
  const limiter = (what: keyof typeof limits) => {
    const common = { points: limits[what], duration: WINDOW_S, keyPrefix: `${prefix}:sign-in:${what}` }
    return new RateLimiterRedis({ ...common, storeClient: redis, insuranceLimiter: new RateLimiterMemory(common) })
  }
  const byAddress = limiter('address')
  const byAccount = limiter('account')
  const named = (text: string) => createHmac('sha256', key).update(text.trim().toLowerCase()).digest('base64url')
  return {
    async take(address, account) {
      try {
        await byAddress.consume(named(address))
        await byAccount.consume(named(account))
        return 0
      } catch (error) {
        if (error instanceof RateLimiterRes) return Math.ceil(error.msBeforeNext / 1000)
        throw error
      }
    },
    async forget(address, account) {
      await Promise.all([byAddress.delete(named(address)), byAccount.delete(named(account))])
    },
    async giveBack(address, account) {
      await Promise.all([byAddress.reward(named(address)), byAccount.reward(named(account))])
    },
  }
}
