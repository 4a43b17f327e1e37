/** A job with one checkout, driven by hand: on the harness's PostgreSQL and its Catalog in memory. */
import type { Job } from 'bullmq'
import type { Shipping } from '../../src/clients/shipping.ts'
import type { Checkouts } from '../../src/db/checkouts.ts'
import { createCheckoutProcessor } from '../../src/processors/checkout.ts'
import type { NewCheckoutTask } from '../../src/queues/checkout.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import type { TestWorker } from '../stock/harness.ts'
import { hostClock } from '../support/clock.ts'

interface Driven {
  worker: TestWorker
  /** In place of the worker's. */
  checkouts?: Checkouts
  shipping: Shipping
  checkout: Pick<NewCheckoutTask, 'orderId' | 'products' | 'deadline'> & Partial<Pick<NewCheckoutTask, 'lease'>>
  /** More than 1: it was begun before. */
  attemptsStarted?: number
}

export async function drive({ worker, checkouts = worker.checkouts, shipping, checkout, attemptsStarted = 1 }: Driven): Promise<void> {
  const processJob = createCheckoutProcessor({
    checkouts,
    stock: worker.stock,
    clock: hostClock,
    wakeReconciler: (ids) => void worker.woken.push(...ids),
    shipping,
    unavailable: () => undefined,
    reply: async () => {},
    addAgain: async () => {},
    logger: createLogger('silent'),
    metrics: createMetrics(),
    underWay: new Map(),
    mostWaiting: 100,
    budgetMs: 8000,
  })
  const job = {
    data: { checkouts: [{ lease: null, ...checkout, replyTo: null, tries: 0 }] },
    attemptsStarted,
    attemptsMade: attemptsStarted - 1,
    timestamp: Date.now(),
    updateProgress: async () => {},
    log: async () => 0,
  }
  await processJob(job as unknown as Job)
}
