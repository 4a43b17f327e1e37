/** The role `worker`: the jobs of all queues, and the timers of reconciler, rescuer and reaper. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Check } from '../api/ops.ts'
import { within } from '../within.ts'
import type { BreakerState } from '../clients/breaker.ts'
import type { Catalog } from '../clients/catalog.ts'
import type { Attempt } from '../db/checkout-rows.ts'
import { lazyPool } from '../db/lazy-pool.ts'
import { createPayments, type Payments } from '../db/payments.ts'
import { createPaymentEvents } from '../db/payment-events.ts'
import { createProducts, type Products } from '../db/products.ts'
import { createRescue } from '../db/rescue.ts'
import { type BulkActions, createBulkActions } from '../operators/bulk-actions.ts'
import { createActionProcessor } from '../processors/operator-action.ts'
import { createCheckoutProcessor } from '../processors/checkout.ts'
import { createReconcileProcessor } from '../processors/reconcile-product.ts'
import { createPaymentProcessor } from '../processors/payment.ts'
import { paymentBackoffMs } from '../queues/payment.ts'
import { createReplier, type Replies } from '../queues/replies.ts'
import { createReaper } from '../processors/reaper.ts'
import { createRescuer } from '../processors/rescuer.ts'
import { leaseFor } from '../stock/lease.ts'
import { createStock, type Stock } from '../stock/stock.ts'
import type { Logger } from '../telemetry/logger.ts'
import { ACTION_STATEMENT_MS, type Base } from './connect.ts'
import { type Downstream, openDownstream } from './downstream.ts'
import { JOBS_END_MS, type Jobs, startJobs } from './jobs.ts'

const RECONCILE_EVERY_MS = 30_000
/** Often enough for rows that are kept for days; after a run that failed the next one has twice as much to do. */
const REAP_EVERY_MS = 10 * 60_000
const DAY_MS = 86_400_000
/** A bulk action whose job is lost goes on within so long. */
const ENSURE_ACTIONS_EVERY_MS = 5000
/** More at a time are hardly faster (docs/decisions/0019), and slow down customers: they share the processor with the payments. */
const PAYMENTS_AT_ONCE = 16
/** A customer whose job is lost has 8 s. */
const RESCUE_EVERY_MS = 1000
/** While Catalog fails, payments and reconciliations wait instead of trying one by one. In `half-open` one of them tests whether it works again. */
const PATIENT_JOBS: Record<BreakerState, number> = { closed: Number.POSITIVE_INFINITY, 'half-open': 1, open: 0 }

export async function startWorker(base: Base, replies: Replies | undefined, checks: Check[]): Promise<void> {
  const patient: Jobs[] = []
  const downstream = openDownstream(base, checks, (state) => {
    for (const jobs of patient) jobs.limit(PATIENT_JOBS[state])
  })
  const stores = createStores(base, downstream.catalog)
  base.report.health = downstream.health
  base.report.probeFailing = downstream.probeFailing
  base.report.longWaits = stores.stock.longWaits
  const underWay = new Map<Attempt, number>()
  const checkouts = startCheckouts(base, { replies, downstream, stores, underWay })
  patient.push(startPayments(base, stores), startReconciler(base, stores))
  const bulk = openBulkActions(base)
  const jobs = [checkouts, ...patient, startBulkActions(base, bulk)]
  base.watched.push(...jobs.map(({ watched }) => watched))
  const ending = new AbortController()
  const timers = Promise.all([
    startTimers(base, stores, underWay, ending.signal),
    every(
      ENSURE_ACTIONS_EVERY_MS,
      async () => base.actionQueue.ensureJobs(await bulk.running()),
      ending.signal,
      'bulk actions',
      base.logger,
    ),
  ])
  base.closers.push(async () => {
    ending.abort()
    // A second longer than the limit of each: what is closed next is still used by the jobs that are cut off.
    await within(JOBS_END_MS + 1000, Promise.allSettled([timers, ...jobs.map(({ stop }) => stop())]))
  })
}

interface Stores {
  products: Products
  payments: Payments
  stock: Stock
}

function createStores(base: Base, catalog: Catalog): Stores {
  const { config, pool, clock, callIds, checkouts, metrics, wakeReconciler } = base
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
    recordHolds: checkouts.recordHolds,
    recordPaid: payments.recordPaid,
    wakeReconciler,
  })
  return { products, payments, stock }
}

interface CheckoutsDeps {
  replies: Replies | undefined
  downstream: Downstream
  stores: Stores
  underWay: Map<Attempt, number>
}

function startCheckouts(base: Base, { replies, downstream, stores, underWay }: CheckoutsDeps): Jobs {
  const { config, checkouts, clock, redis, logger, metrics, wakeReconciler } = base
  const processor = createCheckoutProcessor({
    checkouts,
    stock: stores.stock,
    clock,
    wakeReconciler,
    shipping: downstream.shipping,
    unavailable: downstream.unavailable,
    reply: createReplier(redis, replies),
    addAgain: base.checkoutQueue.addAgain,
    logger,
    metrics,
    underWay,
    mostWaiting: config.WORKER_CONCURRENCY / 2,
    budgetMs: config.CHECKOUT_BUDGET_MS,
  })
  return startJobs(base, { queue: base.checkoutQueue.queue, concurrency: config.WORKER_CONCURRENCY, processor, required: true })
}

function startPayments(base: Base, { payments, stock }: Stores): Jobs {
  const { config, pool, clock, paymentQueue, logger, metrics } = base
  const processor = createPaymentProcessor({
    events: createPaymentEvents(pool, clock),
    payments,
    stock,
    clock,
    queue: paymentQueue,
    logger,
    metrics,
    chance: Math.random,
    atOnce: PAYMENTS_AT_ONCE,
    graceMs: config.PAYMENT_GRACE_MS,
    amountCheck: config.PAYMENT_AMOUNT_CHECK,
    mostWaiting: config.WORKER_CONCURRENCY * 8,
  })
  return startJobs(base, {
    queue: paymentQueue.queue,
    concurrency: config.WORKER_CONCURRENCY,
    processor,
    settings: { backoffStrategy: (tries) => paymentBackoffMs(tries) },
    required: false,
  })
}

function startReconciler(base: Base, { stock }: Stores): Jobs {
  return startJobs(base, {
    queue: base.stockQueue.queue,
    // Few at a time: Catalog has customers to serve.
    concurrency: 4,
    processor: createReconcileProcessor(stock, base.logger),
    required: false,
  })
}

/** Operators' bulk actions have a connection of their own: no customer waits for theirs. */
function openBulkActions(base: Base): BulkActions {
  const { config, logger, metrics, closers } = base
  const pool = lazyPool(config.POSTGRES_DSN, { size: 1, statementTimeoutMs: ACTION_STATEMENT_MS, logger })
  closers.push(pool.end)
  return createBulkActions({
    write: pool.connected,
    queues: async () => base,
    cancelled: (checkouts) => metrics.checkouts.inc({ outcome: 'CANCELLED' }, checkouts),
    logger,
  })
}

function startBulkActions(base: Base, bulk: BulkActions): Jobs {
  return startJobs(base, { queue: base.actionQueue.queue, concurrency: 2, processor: createActionProcessor(bulk), required: false })
}

/** @returns a promise that resolves when all timers have ended, after `signal` was aborted */
function startTimers(base: Base, { products }: Stores, underWay: Map<Attempt, number>, signal: AbortSignal): Promise<unknown> {
  const { config, pool, clock, checkouts, checkoutQueue, paymentQueue, stockQueue, wakeReconciler, logger, metrics } = base
  const rescue = createRescue(pool, clock)
  const rescuer = createRescuer({ rescue, clock, checkouts, checkoutQueue, paymentQueue, underWay, wakeReconciler, logger, metrics })
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
  const findProducts = async () => stockQueue.ensureJobs(await products.productsToReconcile())
  return Promise.all([
    every(RECONCILE_EVERY_MS, findProducts, signal, 'reconciler', logger),
    ...[rescuer.keepSlowAlive, rescuer.run].map((run) => every(RESCUE_EVERY_MS, run, signal, 'rescuer', logger)),
    every(REAP_EVERY_MS, () => reaper(signal), signal, 'reaper', logger),
  ])
}

/** Runs never overlap. Of a series of failures the first one is logged. */
async function every(ms: number, run: () => Promise<unknown>, signal: AbortSignal, name: string, logger: Logger): Promise<void> {
  let failures = 0
  while (!signal.aborted) {
    try {
      await run()
      failures = 0
    } catch (error) {
      failures += 1
      if (failures === 1) logger.warn({ err: error }, `${name} failed; trying again`)
    }
    await sleep(ms, undefined, { signal }).catch(() => {})
  }
}
