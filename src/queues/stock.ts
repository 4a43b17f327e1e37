/** The queue `stock`: one job reconciles one product, and stays while there is something to do. What is to be done is in PostgreSQL. */
import type { JobsOptions, Queue } from 'bullmq'
import { z } from 'zod'
import type { RedisConnection } from '../redis/connection.ts'
import { openQueue } from './queue-state.ts'

export const STOCK_QUEUE = 'stock'

export const stockPayload = z.object({ productId: z.int() })

export const stockJobId = (productId: number) => `product-${productId}`

/** It ends only with success. The pauses are the reconciler's own, except this one after an error. */
const options: JobsOptions = {
  attempts: 1_000_000,
  backoff: { type: 'fixed', delay: 10_000 },
  removeOnComplete: true,
  removeOnFail: { count: 1000 },
  keepLogs: 50, // an oversold product is checked until a person has put it right
}

export interface StockQueue {
  /** Adds a job for each product that has none; a job that waits for its next check keeps waiting. */
  ensureJobs(productIds: readonly number[]): Promise<void>
  /** Reconciles the products now, even if their jobs wait for the next check. */
  wake(productIds: readonly number[]): Promise<void>
  queue: Queue
  close(): Promise<void>
}

export function createStockQueue(redis: RedisConnection, prefix: string): StockQueue {
  const queue = openQueue(STOCK_QUEUE, redis, prefix)
  const add = (productIds: readonly number[]) =>
    queue.addBulk(
      productIds.map((productId) => ({ name: 'reconcile', data: { productId }, opts: { ...options, jobId: stockJobId(productId) } })),
    )
  return {
    async ensureJobs(productIds) {
      await add(productIds)
    },
    async wake(productIds) {
      const jobs = await add(productIds)
      // A job that existed before may be delayed; promote refuses any other.
      await Promise.all(jobs.map((job) => job.promote().catch(() => {})))
    },
    queue,
    close: () => queue.close(),
  }
}
