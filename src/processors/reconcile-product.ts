/** The processor of the `stock` queue: reconciles one product, and repeats that until no unanswered call can act any more. */
import type { Job } from 'bullmq'
import { exponentialBackoffMs } from '../backoff.ts'
import { stockPayload } from '../queues/stock.ts'
import type { Stock } from '../stock/stock.ts'
import type { Logger } from '../telemetry/logger.ts'
import { postpone } from './shared-job.ts'

/** How long to wait after so many checks, in ms: 1 s, 2 s, 4 s, at most a minute. */
export const pauseAfter = (checks: number) => exponentialBackoffMs(checks + 1, 1000, 60_000)

/** @returns BullMQ's processor: the job ends when the product needs no further reconciliation */
export function createReconcileProcessor(stock: Pick<Stock, 'reconcile'>, logger: Logger): (job: Job, token?: string) => Promise<void> {
  return async (job, token) => {
    const { productId } = stockPayload.parse(job.data)
    const checks = job.attemptsStarted - 1
    try {
      if (!(await stock.reconcile(productId))) return
    } catch (error) {
      logger.warn({ err: error, productId, checks }, 'product not reconciled yet; retrying')
      await job.log((error as Error).message).catch(() => {})
    }
    const pauseMs = pauseAfter(checks)
    await job.updateProgress({ checks: checks + 1, nextCheckInMs: pauseMs })
    await postpone(job, token, pauseMs)
  }
}
