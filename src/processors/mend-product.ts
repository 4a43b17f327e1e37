/** The job of the `stock` queue: one look of the mender at one product, and the pause until the next. */
import { DelayedError, type Job } from 'bullmq'
import { stockPayload } from '../queues/stock.ts'
import { type Mender, pauseAfter } from '../stock/mender.ts'
import type { Logger } from '../telemetry/logger.ts'

/** @returns BullMQ's processor: the job ends when the product is at peace */
export function createMendProcessor(mender: Mender, logger: Logger): (job: Job, token?: string) => Promise<void> {
  return async (job, token) => {
    const { productId } = stockPayload.parse(job.data)
    const looks = job.attemptsStarted - 1
    const pauseMs = await mender(productId, looks).catch(async (error: Error) => {
      logger.warn({ err: error, productId, looks }, 'product could not be mended yet')
      await job.log(error.message).catch(() => {})
      return pauseAfter(looks)
    })
    if (pauseMs === undefined) return
    await job.updateProgress({ looks: looks + 1, nextLookInMs: pauseMs })
    await job.moveToDelayed(Date.now() + pauseMs, token)
    throw new DelayedError()
  }
}
