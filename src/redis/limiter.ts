/** Limits that all processes count together. */
import { RateLimiterMemory, RateLimiterRedis } from 'rate-limiter-flexible'
import type { RedisConnection } from './connection.ts'

/** @returns a limiter that counts in Redis, and in each process alone while Redis is unavailable. `duration` in seconds */
export const sharedLimiter = (redis: RedisConnection, limits: { points: number; duration: number; keyPrefix: string }): RateLimiterRedis =>
  new RateLimiterRedis({ ...limits, storeClient: redis, insuranceLimiter: new RateLimiterMemory(limits) })
