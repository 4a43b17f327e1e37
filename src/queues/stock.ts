/** One job reconciles one product, and stays for as long as there is something to do. It is a wake-up: what is to be done stands in PostgreSQL. */
import { type JobsOptions, Queue } from 'bullmq'
import { z } from 'zod'
import type { RedisConnection } from '../redis/connection.ts'

export const STOCK_QUEUE = 'stock'

export const stockPayload = z.object({ productId: z.int() })

export const stockJobId = (productId: number) => `product-${productId}`

/** It has no end but success; the pauses are the reconciler's own, up to this one. */
const options: JobsOptions = {
  attempts: 1_000_000,
  backoff: { type: 'fixed', delay: 10_000 },
  removeOnComplete: true,
  removeOnFail: { count: 1000 },
  keepLogs: 50, // an oversold product is checked until a person has put it right
}

export interface StockQueue {
  /** Sees to it that each has its job; one that waits for its next check goes on waiting. */
  see(productIds: readonly number[]): Promise<void>
  /** Has the products reconciled now, also those whose job waits for its next check. */
  wake(productIds: readonly number[]): Promise<void>
  queue: Queue
  close(): Promise<void>
}

export function createStockQueue(redis: RedisConnection, prefix: string): StockQueue {
  const queue = new Queue(STOCK_QUEUE, { connection: redis, prefix, skipWaitingForReady: true, streams: { events: { maxLen: 100 } } })
  queue.on('error', () => {}) // its connection is watched where it is made
  const add = (productIds: readonly number[]) =>
    queue.addBulk(
      productIds.map((productId) => ({ name: 'reconcile', data: { productId }, opts: { ...options, jobId: stockJobId(productId) } })),
    )
  return {
    async see(productIds) {
      await add(productIds)
    },
    async wake(productIds) {
      const jobs = await add(productIds)
      // A job that was there already may be waiting for its time; promote refuses any other.
      await Promise.all(jobs.map((job) => job.promote().catch(() => {})))
    },
    queue,
    close: () => queue.close(),
  }
}
