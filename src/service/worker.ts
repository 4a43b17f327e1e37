/** BullMQ's workers with all that their jobs need, and the timers of reconciler, rescuer and reaper. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Check } from '../api/ops.ts'
import { within } from '../within.ts'
import type { BreakerState } from '../clients/breaker.ts'
import type { Attempt } from '../db/checkout-statements.ts'
import { createPayments } from '../db/payments.ts'
import { createPaymentEvents } from '../db/payment-events.ts'
import { createProducts } from '../db/products.ts'
import { createRescue } from '../db/rescue.ts'
import { createCheckoutProcessor } from '../processors/checkout.ts'
import { createReconcileProcessor } from '../processors/reconcile-product.ts'
import { createPaymentProcessor } from '../processors/payment.ts'
import { paymentBackoffMs } from '../queues/payment.ts'
import { createReplier, type Replies } from '../queues/replies.ts'
import { createReaper } from '../processors/reaper.ts'
import { createRescuer } from '../processors/rescuer.ts'
import { leaseFor } from '../stock/lease.ts'
import { createStock } from '../stock/stock.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Base } from './connect.ts'
import { openDownstream } from './downstream.ts'
import { JOBS_END_MS, type Jobs, startJobs } from './jobs.ts'

const RECONCILE_EVERY_MS = 30_000
/** Enough for what is kept for days; of a run that fails the next one has to do twice as much. */
const REAP_EVERY_MS = 10 * 60_000
const DAY_MS = 86_400_000
/** More at a time are not much quicker (docs/decisions/0019), and keep customers waiting: they share the processor with the payments. */
const PAYMENTS_AT_ONCE = 16
/** A customer whose job is lost has 8 s. */
const RESCUE_EVERY_MS = 1000
/** Payments and corrections wait for a Catalog that fails again and again, instead of trying one by one. One of them may show that it is over. */
const PATIENT_JOBS: Record<BreakerState, number> = { closed: Number.POSITIVE_INFINITY, 'half-open': 1, open: 0 }

export async function startWorker(base: Base, replies: Replies | undefined, checks: Check[]): Promise<void> {
  const { config, pool, clock, callIds, checkouts, redis, logger, metrics, wakeReconciler, closers } = base
  const patient: Jobs[] = []
  const { catalog, shipping, unavailable } = openDownstream(base, checks, (state) => {
    for (const one of patient) one.limit(PATIENT_JOBS[state])
  })
  const products = createProducts(pool, {
    by: `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`,
    leaseMs: leaseFor(config.CALL_TIMEOUT_MS),
    emitPaid: config.EMIT_ORDER_PAID,
  })
  const payments = createPayments(pool, { clock, emitPaid: config.EMIT_ORDER_PAID, relay: base.relays?.here })
  const stock = createStock({
    products,
    catalog,
    clock,
    callIds,
    callTimeoutMs: config.CALL_TIMEOUT_MS,
    metrics,
    recordReserved: checkouts.recordReserved,
    recordPaid: payments.recordPaid,
    wakeReconciler,
  })

  const underWay = new Map<Attempt, number>()
  const checkout = createCheckoutProcessor({
    checkouts,
    stock,
    clock,
    wakeReconciler,
    shipping,
    unavailable,
    reply: createReplier(redis, replies),
    addAgain: base.checkoutQueue.addAgain,
    logger,
    metrics,
    underWay,
    mostWaiting: config.WORKER_CONCURRENCY / 2,
    budgetMs: config.CHECKOUT_BUDGET_MS,
  })
  const payment = createPaymentProcessor({
    events: createPaymentEvents(pool, clock),
    payments,
    stock,
    clock,
    queue: base.paymentQueue,
    logger,
    metrics,
    chance: Math.random,
    atOnce: PAYMENTS_AT_ONCE,
    graceMs: config.PAYMENT_GRACE_MS,
    amountCheck: config.PAYMENT_AMOUNT_CHECK,
    mostWaiting: config.WORKER_CONCURRENCY * 8,
  })
  const checkoutJobs = startJobs(base, {
    queue: base.checkoutQueue.queue,
    concurrency: config.WORKER_CONCURRENCY,
    processor: checkout,
    required: true,
  })
  patient.push(
    startJobs(base, {
      queue: base.paymentQueue.queue,
      concurrency: config.WORKER_CONCURRENCY,
      processor: payment,
      settings: { backoffStrategy: (tries) => paymentBackoffMs(tries) },
      required: false,
    }),
    startJobs(base, {
      queue: base.stockQueue.queue,
      // Few at a time: Catalog has customers to serve.
      concurrency: 4,
      processor: createReconcileProcessor(stock, logger),
      required: false,
    }),
  )
  const jobs = [checkoutJobs, ...patient]
  base.watched.push(...jobs.map(({ watched }) => watched))
  const seeProducts = async () => base.stockQueue.see(await products.productsToReconcile())
  const ending = new AbortController()
  const rescuer = createRescuer({
    rescue: createRescue(pool, clock),
    clock,
    checkouts,
    checkoutQueue: base.checkoutQueue,
    paymentQueue: base.paymentQueue,
    underWay,
    wakeReconciler,
    logger,
    metrics,
  })
  const reaper = createReaper({
    pool,
    retention: {
      outboxMs: config.RETENTION_OUTBOX_DAYS * DAY_MS,
      checkoutMs: config.RETENTION_CHECKOUT_DAYS * DAY_MS,
      inboxMs: config.RETENTION_INBOX_DAYS * DAY_MS,
      reconciliationsMs: config.RETENTION_RECONCILIATIONS_DAYS * DAY_MS,
    },
    logger,
    metrics,
  })
  const timers = Promise.all([
    every(RECONCILE_EVERY_MS, seeProducts, ending.signal, 'reconciler', logger),
    ...[rescuer.tellOfSlow, rescuer.run].map((run) => every(RESCUE_EVERY_MS, run, ending.signal, 'rescuer', logger)),
    every(REAP_EVERY_MS, () => reaper(ending.signal), ending.signal, 'reaper', logger),
  ])
  closers.push(async () => {
    ending.abort()
    // A second more than each of them grants its jobs: what is closed next is still used by those that are cut off.
    await within(JOBS_END_MS + 1000, Promise.allSettled([timers, ...jobs.map(({ stop }) => stop())]))
  })
}

/** Runs one after the other, never two at once. A run that fails is a run in vain; of a series of them the first is worth a line. */
async function every(ms: number, run: () => Promise<unknown>, signal: AbortSignal, name: string, logger: Logger): Promise<void> {
  let inVain = 0
  while (!signal.aborted) {
    try {
      await run()
      inVain = 0
    } catch (error) {
      inVain += 1
      if (inVain === 1) logger.warn({ err: error }, `a run of the ${name} was in vain; it goes on trying`)
    }
    await sleep(ms, undefined, { signal }).catch(() => {})
  }
}
