/** The role `web`: what the customers' routes and the operators' pages need. */
import type { Service as CustomerService } from '../api/app.ts'
import { type OperatorDeps } from '../api/operators/routes.ts'
import { createSignInTries } from '../api/operators/tries.ts'
import { createRefusedCheckouts } from '../api/refused-checkouts.ts'
import { createAuth } from '../clients/auth.ts'
import { createCarts } from '../clients/cart.ts'
import { createCatalog } from '../clients/catalog.ts'
import { createDownstream } from '../clients/http.ts'
import { createIntents } from '../db/intents.ts'
import { lazyPool } from '../db/lazy-pool.ts'
import { readOrder } from '../db/orders.ts'
import { watchNumbers } from '../db/sequences.ts'
import { listItems, type NextRuns } from '../operators/items.ts'
import type { NextRun } from '../operators/order-life.ts'
import { createOverviews } from '../operators/overview.ts'
import { createActions } from '../operators/perform-actions.ts'
import { nextRun, nextRuns } from '../queues/queue-state.ts'
import type { Replies } from '../queues/replies.ts'
import { leaseFor } from '../stock/lease.ts'
import { ACTION_STATEMENT_MS, type Base } from './connect.ts'

const POLL_QUEUE_EVERY_MS = 250

export function customerService(base: Base, replies: Replies, workerIsHere: boolean): CustomerService {
  const { pool, checkouts, redis, clock, callIds, checkoutQueue, wakeReconciler, logger, metrics, config } = base
  const intents = createIntents(pool, {
    callIds,
    leaseMs: leaseFor(config.CALL_TIMEOUT_MS),
    clock,
    duplicateWindowMs: config.DUPLICATE_ORDER_WINDOW_MS,
  })
  let behindMs = 0
  let isPaused = false
  async function pollQueue(): Promise<void> {
    const [oldestMs, nowPaused] = await Promise.all([checkoutQueue.oldestWaitingMs(), checkoutQueue.queue.isPaused()])
    behindMs = oldestMs
    if (nowPaused && !isPaused) logger.warn('checkout queue paused: new checkouts get a 503 until an operator resumes it')
    if (isPaused && !nowPaused) logger.info('checkout queue resumed')
    isPaused = nowPaused
  }
  // Errors are ignored: while Redis is away no checkout gets as far as a job.
  const polling = setInterval(() => void pollQueue().catch(() => {}), POLL_QUEUE_EVERY_MS)
  const numbers = watchNumbers(pool, logger)
  base.closers.push(
    async () => clearInterval(polling),
    async () => numbers.stop(),
  )
  return {
    carts: createCarts(redis, config.MAX_CART_LINES),
    intents: {
      findClaim: intents.findClaim,
      async intend(intent) {
        numbers.require()
        const intended = await intents.intend(intent)
        if (workerIsHere && intended.claim === 'new')
          checkouts.remember(intended.orderId, { userEmail: intent.userEmail, address: intent.address })
        return intended
      },
    },
    checkouts: {
      readOutcome: checkouts.readOutcome,
      async cancel(orderId, rejection) {
        const { outcome, won, toReconcile } = await checkouts.cancel(orderId, rejection)
        if (won) metrics.checkouts.inc({ outcome: outcome.state })
        if (toReconcile.length > 0) wakeReconciler(toReconcile)
        return outcome
      },
    },
    queueBehindMs: () => behindMs,
    isPaused: () => isPaused,
    queue: checkoutQueue,
    replies,
    refused: createRefusedCheckouts(redis, config.REDIS_PREFIX, config.jwtKey, config.MAX_REFUSED_PER_CUSTOMER),
    clock,
    readOrder: (orderId) => readOrder(pool, orderId),
  }
}

/** Sign-ins are rare; if many come at once, they wait for each other. */
const AUTH_CONCURRENCY = 4

/** The pages read one product at a time, and do not wait longer for Catalog. */
const CATALOG_READ = { concurrency: 2, timeoutMs: 2000 }

/** Few, and with a limit, so that pages that read much do not disturb customers. */
const PAGES_READ = { size: 2, statementTimeoutMs: 2000 }

export function operatorDeps(base: Base): OperatorDeps {
  const { config, redis, checkoutQueue, paymentQueue, stockQueue, actionQueue, clock, logger, metrics, closers } = base
  const pages = lazyPool(config.POSTGRES_DSN, { ...PAGES_READ, logger })
  const actionPool = lazyPool(config.POSTGRES_DSN, { size: 2, statementTimeoutMs: ACTION_STATEMENT_MS, logger })
  closers.push(pages.end, actionPool.end)
  const queues = [checkoutQueue.queue, paymentQueue.queue, stockQueue.queue, actionQueue.queue]
  const auth = createDownstream({
    name: 'auth',
    base: config.AUTH_BASE,
    headers: {},
    concurrency: AUTH_CONCURRENCY,
    timeoutMs: config.CALL_TIMEOUT_MS,
    metrics,
  })
  const catalog = createDownstream({
    name: 'catalog',
    base: config.CATALOG_BASE,
    headers: {},
    concurrency: CATALOG_READ.concurrency,
    timeoutMs: Math.min(CATALOG_READ.timeoutMs, config.CALL_TIMEOUT_MS),
    metrics,
  })
  closers.push(
    () => auth.close(),
    () => catalog.close(),
  )
  const queueOf = (name: 'checkout' | 'payment') => (name === 'checkout' ? checkoutQueue : paymentQueue).queue
  const whenRuns: NextRun = (queue, jobId) => nextRun(queueOf(queue), jobId)
  const whenAllRun: NextRuns = (queue, jobIds) => nextRuns(queueOf(queue), jobIds)
  return {
    auth: createAuth(auth),
    authTimeoutMs: config.CALL_TIMEOUT_MS,
    read: pages.connected,
    overview: createOverviews({
      read: pages.connected,
      queues,
      now: clock.databaseTime,
      startedAt: clock.databaseTime(),
    }),
    catalog: createCatalog(catalog),
    nextRun: whenRuns,
    eventTopic: config.TOPIC_ORDER_EVENTS,
    tries: createSignInTries(redis, config.REDIS_PREFIX, config.jwtKey),
    items: async (query) => listItems(await pages.connected(), { ...query, nextRuns: whenAllRun }),
    actions: createActions({
      read: pages.connected,
      write: actionPool.connected,
      queues: async () => base,
      cancelled: (checkouts) => metrics.checkouts.inc({ outcome: 'CANCELLED' }, checkouts),
      logger,
    }),
    queues,
  }
}
