/**
 * One process of the service in the played world: its own stock calls, processors and rescuer, wired as src/service/worker.ts wires them,
 * on a played PostgreSQL, Redis, Catalog and Shipping. What is played of src/db/checkouts.ts, payments.ts and payment-events.ts here is
 * how their statements are repeated; the batches in which they travel are left out.
 */
import type { Catalog } from '../../../src/clients/catalog.ts'
import type { Shipping } from '../../../src/clients/shipping.ts'
import type { Clock } from '../../../src/clock.ts'
import type { CallIds } from '../../../src/db/call-ids.ts'
import type { Attempt } from '../../../src/db/checkout-rows.ts'
import type { EndRequest } from '../../../src/db/end-checkouts.ts'
import type { Checkouts } from '../../../src/db/checkouts.ts'
import { LOCKED, untilUnlocked } from '../../../src/db/locked.ts'
import type { PaymentEvents } from '../../../src/db/payment-events.ts'
import type { Products } from '../../../src/db/products.ts'
import { createCheckoutProcessor } from '../../../src/processors/checkout.ts'
import { OUT_OF_TIME } from '../../../src/processors/checkout-run.ts'
import { createPaymentProcessor } from '../../../src/processors/payment.ts'
import { createReconcileProcessor } from '../../../src/processors/reconcile-product.ts'
import { createRescuer } from '../../../src/processors/rescuer.ts'
import { CHECKOUT_QUEUE, type CheckoutTask, checkoutJobId } from '../../../src/queues/checkout.ts'
import { PAYMENT_QUEUE, type PaymentTask, paymentJobId, paymentPayload } from '../../../src/queues/payment.ts'
import { STOCK_QUEUE, stockJobId } from '../../../src/queues/stock.ts'
import { leaseFor } from '../../../src/stock/lease.ts'
import { createStock } from '../../../src/stock/stock.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { createMetrics } from '../../../src/telemetry/metrics.ts'
import type { ProductQty } from '../../../src/model.ts'
import { type Asked, ask } from './ask.ts'
import { CALL_TIMEOUT_MS } from './catalog.ts'
import type { UnansweredStatements } from './faults.ts'
import type { Jobs, Taker } from './jobs.ts'
import type { OrderStatements } from './order-statements.ts'
import type { Purchase } from './shipping.ts'
import type { StockStatements } from './stock-statements.ts'
import type { Life, World } from './world.ts'

export const BUDGET_MS = 8000
export const LEASE_MS = leaseFor(CALL_TIMEOUT_MS)
const RECONCILE_EVERY_MS = 30_000
const RESCUE_EVERY_MS = 1000
/** As many as a job may wait for the same products, and as many jobs as a process has by default. */
const CONCURRENCY = 128
/** How patient a record is with rows that are locked: src/db/batch-around-locks.ts. */
const RECORD_PAUSES_MS = [0, 2, 5, 10, 20, 40]
/** How patient a statement on a product's row is with it: src/db/products.ts. */
const BRIEF_PAUSES_MS = [2, 5, 10, 20]

export interface ServiceDeps {
  world: World
  life: Life
  orders: OrderStatements
  stock: StockStatements
  /** Statements that get no answer. */
  unanswered: UnansweredStatements
  catalog: Catalog
  shipping: Shipping
  callIds: CallIds
  jobs: Jobs
  /** Checked beside the wire: whether a run of the rescuer can find anything. */
  hasWork(): boolean
  /** Off: nobody reconciles beside the calls themselves. */
  hasReconciler: boolean
  /** Off: a lease counts as long enough for every call. */
  checksLease: boolean
}

/** A process of the service: worker and web in one. */
export interface Service extends Taker {
  /** A customer's checkout, as src/api/checkout.ts begins it. */
  checkout(purchase: Purchase): Promise<void>
}

const metrics = createMetrics()
const address = { address_line1: '1 Demo Street', address_line2: '', city: 'Dublin', country: 'IE', postcode: 'D01XYZ' }
const NOT_QUEUED = { status: 503, detail: 'The checkout could not be started; nothing was ordered' }

/** A fault of the shop is a line in the log; one in the code ends the history. */
const logger = Object.assign(createLogger('silent'), {
  warn({ err }: { err?: unknown }) {
    for (let error = err; error instanceof Error; error = error.cause)
      if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) {
        const bug = error
        setImmediate(() => {
          throw bug
        })
      }
  },
})

export function startService(deps: ServiceDeps): Service {
  const { world, life, jobs, catalog, shipping, callIds, unanswered } = deps
  const by = `process ${life.process} ${world.now()}`
  const orders = ask(world, life, deps.orders, unanswered)
  const clock: Clock = {
    now: world.now,
    databaseTime: world.now,
    sleep: (ms) => world.sleep(life, ms),
    turn: () => world.sleep(life, 0),
  }
  const wakeReconciler = (productIds: readonly number[]) => {
    if (!deps.hasReconciler) return
    world.tellInOrder(life, () => {
      for (const productId of productIds) {
        jobs.add(STOCK_QUEUE, stockJobId(productId), { productId })
        jobs.promote(stockJobId(productId))
      }
    })
  }
  const products = playProducts(ask(world, life, deps.stock, unanswered), clock, by)
  const checkouts = playCheckouts(orders, clock)
  const recordPaid = batchAroundLocks(clock, orders.recordPaid)
  const stock = createStock({
    products,
    catalog,
    clock: deps.checksLease ? clock : { ...clock, databaseTime: () => world.now() - 3_600_000 },
    callIds,
    callTimeoutMs: CALL_TIMEOUT_MS,
    metrics,
    recordHolds: checkouts.recordHolds,
    recordPaid,
    wakeReconciler,
  })
  const underWay = new Map<Attempt, number>()
  const queues = playQueues(world, life, jobs)

  const checkout = createCheckoutProcessor({
    checkouts,
    stock,
    clock,
    wakeReconciler,
    shipping,
    unavailable: () => undefined,
    reply: async () => {},
    addAgain: queues.checkouts.addAgain,
    logger,
    metrics,
    underWay,
    mostWaiting: CONCURRENCY / 2,
    budgetMs: BUDGET_MS,
  })
  const events: PaymentEvents = {
    resume: (eventId) => untilUnlocked(clock, `payment event ${eventId}`, () => orders.resumePayment(eventId)),
    recordFailure: orders.recordPaymentFailure,
    recordApplied: orders.recordApplied,
    deadLetter: orders.deadLetter,
  }
  const payment = createPaymentProcessor({
    events,
    payments: { read: orders.read },
    stock,
    clock,
    queue: queues.payments,
    logger,
    metrics,
    chance: () => world.chance.between(0, 1),
    atOnce: CONCURRENCY,
    graceMs: 600_000,
    amountCheck: 'strict',
    mostWaiting: CONCURRENCY * 8,
  })
  const rescuer = createRescuer({
    rescue: orders,
    clock,
    checkouts,
    checkoutQueue: queues.checkouts,
    paymentQueue: queues.payments,
    underWay,
    wakeReconciler,
    logger,
    metrics,
  })

  async function every(ms: number, run: () => Promise<unknown>): Promise<void> {
    for (;;) {
      await run().catch((err: unknown) => logger.warn({ err }))
      await world.sleep(life, ms)
    }
  }
  void every(RESCUE_EVERY_MS, async () => (deps.hasWork() ? rescuer.keepSlowAlive() : undefined))
  void every(RESCUE_EVERY_MS, async () => (deps.hasWork() ? rescuer.run() : undefined))
  void every(RECONCILE_EVERY_MS, async () => {
    const found = await products.productsToReconcile()
    if (deps.hasReconciler)
      world.tellInOrder(life, () => {
        for (const productId of found) jobs.add(STOCK_QUEUE, stockJobId(productId), { productId })
      })
  })

  async function cancel(orderId: number, rejection: typeof OUT_OF_TIME): Promise<void> {
    const { toReconcile } = await checkouts.cancel(orderId, rejection)
    if (toReconcile.length > 0) wakeReconciler(toReconcile)
  }

  return {
    life,
    processors: { checkout, payment, stock: createReconcileProcessor(stock, logger) } as Taker['processors'],
    async checkout({ lines, isQueued }) {
      const callId = await callIds()
      const intended = await orders.intend(lines, { budgetMs: BUDGET_MS, callId, leaseMs: LEASE_MS }).catch(() => undefined)
      if (!intended) {
        await products.releaseCalls([{ callId, productIds: lines.map(({ productId }) => productId) }]).catch(() => {})
        return
      }
      const { orderId, deadline, products: wanted, lease } = intended
      world.deliver(life, deadline - world.now(), () => void cancel(orderId, OUT_OF_TIME).catch(() => {}))
      if (!isQueued) return await cancel(orderId, NOT_QUEUED).catch(() => {})
      queues.checkouts.addTogether({ orderId, deadline, products: wanted, lease: lease ?? null, replyTo: null, tries: 0 })
    },
  }
}

/** @see createProducts in src/db/products.ts */
function playProducts(stock: Asked<StockStatements>, clock: Clock, by: string): Products {
  async function briefly<T>(run: () => Promise<T | undefined>): Promise<T | undefined> {
    for (const pauseMs of BRIEF_PAUSES_MS) {
      const result = await run()
      if (result !== undefined) return result
      await clock.sleep(pauseMs)
    }
    return run()
  }
  return {
    ...stock,
    acquireCalls: (calls) => stock.acquireCalls(calls, { by, leaseMs: LEASE_MS }),
    continueCall: (call, options = {}) => briefly(() => stock.continueCall(call, { ...options, leaseMs: LEASE_MS })),
    readProduct: (lease) => briefly(() => stock.readProduct(lease)),
  }
}

/** @see batchAroundLocks in src/db/batch-around-locks.ts, which sends those that come together as one statement */
function batchAroundLocks<Call, Recorded>(
  clock: Clock,
  record: (calls: readonly Call[], isPatient: boolean) => Promise<Recorded | typeof LOCKED>,
): (call: Call) => Promise<Recorded> {
  return async (call) => {
    for (const pauseMs of RECORD_PAUSES_MS) {
      if (pauseMs > 0) await clock.sleep(pauseMs)
      const recorded = await record([call], true)
      if (recorded !== LOCKED) return recorded
    }
    return (await record([call], false)) as Recorded
  }
}

/** @see createCheckouts in src/db/checkouts.ts */
function playCheckouts(orders: Asked<OrderStatements>, clock: Clock): Checkouts {
  const unlocked = <T>(orderId: number, run: () => Promise<T | typeof LOCKED>) => untilUnlocked(clock, `checkout ${orderId}`, run)
  const end = (ending: EndRequest) => unlocked(ending.orderId, () => orders.end(ending))
  return {
    readOutcome: orders.readOutcome,
    isOpen: orders.isOpen,
    readDelivery: async () => ({ userEmail: 'ada@example.com', address }),
    remember() {},
    resume: (orderId) => unlocked(orderId, () => orders.resume(orderId)),
    recordHolds: batchAroundLocks(clock, orders.recordHolds),
    complete: (attempt, hold) => unlocked(attempt.orderId, () => orders.complete({ ...attempt, hold })),
    end: (attempt, state, rejection) => end({ ...attempt, state, ...rejection }),
    async cancel(orderId, rejection) {
      const cancelled = await end({ orderId, attempt: undefined, state: 'CANCELLED', ...rejection })
      return cancelled ?? { outcome: (await orders.readOutcome(orderId))!, won: false, toReconcile: [] }
    },
    recordFailure: orders.recordFailure,
  }
}

/** @see createCheckoutQueue and createPaymentQueue in src/queues */
function playQueues(world: World, life: Life, jobs: Jobs) {
  let together: CheckoutTask[] = []
  const tell = async (act: () => void) => world.askInOrder(life, act)

  function addTogether(): void {
    const checkouts = together
    together = []
    const id =
      checkouts.length === 1 ? checkoutJobId(checkouts[0]!.orderId) : `checkouts-${checkouts[0]!.orderId}-${checkouts.at(-1)!.orderId}`
    world.tellInOrder(life, () => jobs.add(CHECKOUT_QUEUE, id, { checkouts }))
  }

  return {
    checkouts: {
      /** Those that come within 2 ms share a job. */
      addTogether(task: CheckoutTask): void {
        together.push(task)
        if (together.length === 64) addTogether()
        else if (together.length === 1) world.deliver(life, 2, () => (together.length > 0 ? addTogether() : undefined))
      },
      addAgain: (task: CheckoutTask, delayMs: number) =>
        tell(() => jobs.add(CHECKOUT_QUEUE, checkoutJobId(task.orderId), { checkouts: [task] }, delayMs)),
      rescue: ({ orderId, products, deadline }: { orderId: number; products: readonly ProductQty[]; deadline: number }) =>
        world.askInOrder(life, () => {
          if (jobs.has(checkoutJobId(orderId))) return false
          world.count('rescued')
          const task = { orderId, products: [...products], lease: null, deadline, replyTo: null, tries: 1 }
          jobs.add(CHECKOUT_QUEUE, checkoutJobId(orderId), { checkouts: [task] })
          return true
        }),
      oldestWaitingMs: async () => 0,
    },
    payments: {
      addAgain: (tasks: readonly PaymentTask[], delayMs: number) =>
        tell(() => {
          for (const task of tasks) jobs.add(PAYMENT_QUEUE, paymentJobId(task.eventId), { payments: [task] }, delayMs)
        }),
      isInAnotherJob: (eventId: number, jobId: string) =>
        world.askInOrder(life, () =>
          jobs.due().some(([id, data]) => {
            const payload = id === jobId ? undefined : paymentPayload.safeParse(data)
            return payload?.data?.payments.some((payment) => payment.eventId === eventId) ?? false
          }),
        ),
      rescue: (task: PaymentTask) =>
        world.askInOrder(life, () => {
          if (jobs.has(paymentJobId(task.eventId))) return false
          world.count('rescued')
          jobs.add(PAYMENT_QUEUE, paymentJobId(task.eventId), { payments: [{ ...task, mayBeDriven: true }] })
          return true
        }),
      oldestWaitingMs: async () => 0,
    },
  }
}
