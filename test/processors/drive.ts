/** A job with one checkout, driven by hand: on the counter's PostgreSQL and Catalog, with leases at once. */
import type { Job } from 'bullmq'
import type { Shipping } from '../../src/clients/shipping.ts'
import type { Checkouts } from '../../src/db/checkouts.ts'
import { createCheckoutProcessor } from '../../src/processors/checkout.ts'
import type { NewCheckout } from '../../src/queues/checkout.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { type Counter, leasesAtOnce } from '../stock/counter.ts'

interface Driven {
  checkouts: Checkouts
  shipping: Shipping
  checkout: Pick<NewCheckout, 'orderId' | 'products' | 'deadline'>
  /** More than 1: it was begun before. */
  attemptsStarted?: number
}

export async function drive(counter: Counter, { checkouts, shipping, checkout, attemptsStarted = 1 }: Driven): Promise<void> {
  const processJob = createCheckoutProcessor({
    checkouts,
    stock: { ...counter, leases: leasesAtOnce().leases, wakeMender: () => {} },
    shipping,
    reply: async () => {},
    addAgain: async () => {},
    logger: createLogger('silent'),
    metrics: createMetrics(),
    underWay: new Map(),
    mostWaiting: 100,
    budgetMs: 8000,
  })
  const job = {
    data: { checkouts: [{ ...checkout, replyTo: null, tries: 0 }] },
    attemptsStarted,
    attemptsMade: attemptsStarted - 1,
    timestamp: counter.clock.wallTime(),
    updateProgress: async () => {},
    log: async () => 0,
  }
  await processJob(job as unknown as Job)
}
