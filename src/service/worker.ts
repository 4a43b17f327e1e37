/** BullMQ's workers with all that their jobs need, and the timer that finds products in need. */
import { Worker, type WorkerOptions } from 'bullmq'
import { createCatalog } from '../clients/catalog.ts'
import { createNeighbour, type Neighbour } from '../clients/http.ts'
import { createShipping } from '../clients/shipping.ts'
import { strandedPayments } from '../db/payment-events.ts'
import { createPayments } from '../db/payments.ts'
import { createStockLedger } from '../db/stock-ledger.ts'
import { createCheckoutProcessor } from '../processors/checkout.ts'
import { createMendProcessor } from '../processors/mend-product.ts'
import { createPaymentProcessor } from '../processors/payment.ts'
import { CHECKOUT_QUEUE } from '../queues/checkout.ts'
import { PAYMENT_QUEUE, paymentBackoffMs } from '../queues/payment.ts'
import { connectPatient } from '../queues/redis.ts'
import { createReplier, type Replies } from '../queues/replies.ts'
import { STOCK_QUEUE } from '../queues/stock.ts'
import { createLeases, enoughFor } from '../stock/leases.ts'
import { createMender } from '../stock/mender.ts'
import type { StockParts } from '../stock/stock-call.ts'
import { type Base, rejectedAfter } from './connect.ts'

/** Of the 15 s that a process has to end in: then the jobs are left to others. */
const JOBS_END_MS = 3000
/** How long a call may wait for its place at Catalog before its lease has to be renewed. */
const PLACE_MS = 1000
/** How often PostgreSQL is asked what should have a job and may have none. */
const LOOK_EVERY_MS = 30_000
/** A payment that no job has touched for so long has lost it: the longest pause and the longest try together take 35 s. */
const STRANDED_AFTER_MS = 60_000
const STRANDED_AT_ONCE = 1000

export async function startWorker(base: Base, replies: Replies | undefined): Promise<void> {
  const { config, pool, checkouts, redis, subscriber, logger, metrics, stockQueue, closers } = base
  const neighbour = (name: string, baseUrl: string, concurrency: number): Neighbour => {
    const made = createNeighbour({
      name,
      base: baseUrl,
      headers: { 'x-internal-key': config.SVC_INTERNAL_KEY },
      concurrency,
      timeoutMs: config.CALL_TIMEOUT_MS,
      metrics,
    })
    closers.push(() => made.close())
    return made
  }
  const catalog = createCatalog(neighbour('catalog', config.CATALOG_BASE, config.CATALOG_CONCURRENCY))
  const shipping = createShipping(neighbour('shipping', config.SHIPPING_BASE, config.SHIPPING_CONCURRENCY))

  const leaseMs = enoughFor(config.CALL_TIMEOUT_MS) + PLACE_MS
  const leases = await createLeases({ redis, subscriber, prefix: config.REDIS_PREFIX, leaseMs, metrics })
  closers.push(() => leases.close())
  const ledger = createStockLedger(pool)
  const wakeMender = (productIds: readonly number[]) => {
    stockQueue.wake(productIds).catch((error) => logger.warn({ err: error }, 'the mender was not woken; it looks by itself'))
  }
  const clock = { now: () => performance.now(), sleep: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)) }
  const stock: StockParts = { leases, ledger, catalog, clock, callTimeoutMs: config.CALL_TIMEOUT_MS, metrics, wakeMender }

  const checkout = createCheckoutProcessor({
    checkouts,
    stock,
    shipping,
    reply: createReplier(redis, replies),
    addAgain: base.checkoutQueue.addAgain,
    logger,
    metrics,
    mostWaiting: config.WORKER_CONCURRENCY / 2,
  })
  const payment = createPaymentProcessor({
    pool,
    payments: createPayments(pool, { emitPaid: config.EMIT_ORDER_PAID, relay: base.relay }),
    stock,
    addAgain: base.paymentQueue.addAgain,
    logger,
    metrics,
    atOnce: config.WORKER_CONCURRENCY,
    graceMs: config.PAYMENT_GRACE_MS,
    amountCheck: config.PAYMENT_AMOUNT_CHECK,
    mostWaiting: config.WORKER_CONCURRENCY / 2,
  })
  const workers = [
    startJobs(base, CHECKOUT_QUEUE, config.WORKER_CONCURRENCY, checkout),
    startJobs(base, PAYMENT_QUEUE, config.WORKER_CONCURRENCY, payment, { backoffStrategy: (tries) => paymentBackoffMs(tries) }),
    // Few of them mend at a time: Catalog has customers to serve.
    startJobs(base, STOCK_QUEUE, 4, createMendProcessor(createMender(stock), logger)),
  ]
  const lookForNeed = () => {
    ledger.inNeed().then(wakeMender, (error: Error) => logger.warn({ err: error }, 'could not look for products in need'))
    strandedPayments(pool, STRANDED_AFTER_MS, STRANDED_AT_ONCE)
      .then((stranded) => base.paymentQueue.add(stranded))
      .catch((error: Error) => logger.warn({ err: error }, 'could not look for payments without a job'))
  }
  lookForNeed()
  const timer = setInterval(lookForNeed, LOOK_EVERY_MS)
  closers.push(async () => {
    clearInterval(timer)
    await Promise.race([Promise.all(workers.map((worker) => worker.close())), rejectedAfter(JOBS_END_MS)])
  })
}

function startJobs(
  { config, logger, closers }: Base,
  name: string,
  concurrency: number,
  processor: ConstructorParameters<typeof Worker>[1],
  settings: NonNullable<WorkerOptions['settings']> = {},
): Worker {
  const connection = connectPatient(config.REDIS_URL, logger)
  closers.push(async () => connection.disconnect())
  const worker = new Worker(name, processor, {
    connection,
    prefix: config.REDIS_PREFIX,
    concurrency,
    settings,
    // A killed worker's jobs are taken up by another one within 2 x 1.5 s + 3 s, inside a customer's budget.
    lockDuration: 3000,
    stalledInterval: 1500,
    // PostgreSQL's deadline ends a checkout, not BullMQ's count of how often its worker died.
    maxStalledCount: 1000,
    // A frozen process may hold the wake-up of a job: the others look themselves after so many seconds.
    drainDelay: 1,
  })
  worker.on('error', (error) => logger.debug({ err: error, queue: name }, 'worker'))
  worker.on('failed', (job, error) => {
    if (!job || job.finishedOn) logger.error({ err: error, queue: name, job: job?.id }, 'a job failed for good')
  })
  return worker
}
