/**
 * One worker process of the played shop: the product's own steps, stock calls and mender on parts that are played, driven as the jobs of
 * src/processors/checkout.ts, payment.ts, mend-product.ts and rescuer.ts drive them.
 */
import { NoAnswer } from '../../../src/clients/http.ts'
import type { Shipping } from '../../../src/clients/shipping.ts'
import type { Attempt, Ended } from '../../../src/db/checkout-statements.ts'
import type { Checkouts } from '../../../src/db/checkouts.ts'
import type { ProductAtIntent } from '../../../src/db/intents.ts'
import type { PaymentAttempt } from '../../../src/db/payment-events.ts'
import type { StepName } from '../../../src/model.ts'
import { type CheckoutRun, Overtaken, StepFault } from '../../../src/processors/checkout-run.ts'
import { complete } from '../../../src/processors/complete.ts'
import { createShipment } from '../../../src/processors/create-shipment.ts'
import { judge } from '../../../src/processors/payment-verdict.ts'
import { reserveStock } from '../../../src/processors/reserve-stock.ts'
import { runSaga } from '../../../src/processors/saga.ts'
import { createStillOpen } from '../../../src/processors/still-open.ts'
import { backoffMs } from '../../../src/queues/checkout.ts'
import { paymentBackoffMs } from '../../../src/queues/payment.ts'
import { createMender, type Mender, pauseAfter } from '../../../src/stock/mender.ts'
import { callStock, StockFault, type StockParts } from '../../../src/stock/stock-call.ts'
import type { Asked } from './ask.ts'
import type { Jobs } from './jobs.ts'
import { LEASE_MS } from './leases.ts'
import type { Rows } from './rows.ts'
import type { Life, World } from './world.ts'

export const BUDGET_MS = 8000
const LATE_MS = 1000
const LEASE_PATIENCE_MS = 20_000
const UNREACHABLE_TRIES = 4
const outOfTime = { status: 503, detail: 'The checkout took too long' }

export interface CheckoutTask {
  orderId: number
  products: readonly ProductAtIntent[]
  deadline: number
  /** How often it has been tried in another job. */
  tries: number
}

export interface Worker {
  life: Life
  /** Whoever took the checkout waits for it, and cancels it at its deadline. */
  waitFor(task: CheckoutTask): void
  wakeMender(productIds: readonly number[]): void
  checkout(task: CheckoutTask, started: number): Promise<number | undefined>
  payment(event: { eventId: number; orderId: number; attempt: number | null }, started: number): Promise<number | undefined>
  mend: Mender
}

export interface WorkerParts {
  world: World
  life: Life
  rows: Asked<Omit<Rows, 'ledger' | 'checkouts' | 'orders' | 'events'>>
  /** Looked at beside the wire: whether a run of the rescuer can find anything. */
  hasWork(): boolean
  stock: Omit<StockParts, 'wakeMender'>
  shipping: Shipping
  jobs: Jobs<Worker>
  /** Switched off: nobody mends beside the calls themselves. */
  hasMender: boolean
}

/** A fault of the shop is met by another try; one in its code ends the history. */
const again = (pauseMs: number) => (error: Error) => {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) throw error
  return pauseMs
}

const address = { address_line1: '1 Demo Street', address_line2: '', city: 'Dublin', country: 'IE', postcode: 'D01XYZ' }

export function startWorker(parts: WorkerParts): Worker {
  const { world, life, rows, jobs, shipping, hasWork, hasMender } = parts
  const wakeMender = (productIds: readonly number[]) => {
    if (!hasMender) return
    world.tellInOrder(life, () => {
      for (const productId of productIds) jobs.add(`product-${productId}`, mendJob(productId))
    })
  }
  const stock: StockParts = { ...parts.stock, wakeMender }
  const checkouts: Checkouts = { ...rows, readDelivery: async () => ({ userEmail: 'ada@example.com', address }), remember() {} }
  const stillOpen = createStillOpen(checkouts, stock.clock)
  const steps = [reserveStock(stock, checkouts, stillOpen), createShipment(shipping, stillOpen), complete(checkouts)]
  const underWay = new Map<Attempt, number>()

  const giveUp = ({ freed }: Ended) => {
    if (freed.length > 0) wakeMender(freed)
  }

  async function checkout(task: CheckoutTask, started: number): Promise<number | undefined> {
    const run = await begin(task, started)
    if (!run) return undefined
    underWay.set(run, world.now())
    let step: StepName = 'reserve-stock'
    try {
      if (world.now() >= run.deadline) throw new StepFault('the deadline has passed', outOfTime)
      const refused = await runSaga(steps, run, { began: (name) => void (step = name), ended() {} })
      if (!refused) return undefined
      await run.record?.written().catch(() => {})
      const ended = await rows.end(run, refused.step === 'reserve-stock' ? 'REJECTED' : 'CANCELLED', refused.rejection)
      if (ended) giveUp(ended)
      return undefined
    } catch (error) {
      await run.record?.written().catch(() => {})
      return await afterFault(task.tries + started, run, step, error as Error)
    } finally {
      underWay.delete(run)
    }
  }

  async function begin({ orderId, products, deadline, tries }: CheckoutTask, started: number): Promise<CheckoutRun | undefined> {
    const common = {
      orderId,
      deadline,
      delivery: checkouts.readDelivery(orderId),
      record: undefined,
    }
    if (started <= 1 && tries === 0) {
      return {
        ...common,
        attempt: 1,
        products,
        recoveryPoint: 'intent',
        reserveCall: 'unknown',
        shipmentCall: 'unsent',
        seenOpenAt: deadline - BUDGET_MS,
      }
    }
    const seenOpenAt = world.now()
    const resumed = await rows.resume(orderId)
    if (!resumed) return undefined
    const reserveCall = resumed.recoveryPoint === 'reserve-stock' ? 'settled' : 'unknown'
    return { ...common, ...resumed, products: resumed.products.map((product) => ({ ...product, epoch: null })), reserveCall, seenOpenAt }
  }

  async function afterFault(tries: number, run: CheckoutRun, step: StepName, error: Error): Promise<number | undefined> {
    const left = { step, error: error.message, ms: 0, reserveCall: run.reserveCall, shipmentCall: run.shipmentCall }
    if (error instanceof Overtaken && !(await rows.isOpen(run))) {
      await rows.leave(run, left)
      return undefined
    }
    const inVain = error instanceof Overtaken || world.now() + backoffMs(tries) >= run.deadline
    const unreachable = error instanceof StepFault && error.unreachable && tries >= UNREACHABLE_TRIES
    if (!inVain && !unreachable) {
      await rows.leave(run, left)
      return backoffMs(tries) * world.chance.between(0.5, 1)
    }
    const ended = run.reserveCall === 'settled' ? await rows.end(run, 'CANCELLED', outOfTime) : await rows.cancel(run.orderId, outOfTime)
    if (ended) giveUp(ended)
    return undefined
  }

  async function payment(
    event: { eventId: number; orderId: number; attempt: number | null },
    started: number,
  ): Promise<number | undefined> {
    const isFirst = event.attempt !== null && started <= 1
    const attempt = isFirst ? event.attempt! : await rows.resumePayment(event.eventId)
    if (attempt === undefined) return undefined
    const driven = { eventId: event.eventId, attempt }
    try {
      const pauseMs = await commitAndMarkPaid(driven, event.orderId)
      if (pauseMs !== undefined) await rows.leavePayment(driven, 'settled')
      return pauseMs
    } catch (error) {
      await rows.leavePayment(driven, error instanceof StockFault && !error.settled ? 'unknown' : 'settled')
      return paymentBackoffMs(started, () => world.chance.between(0, 1))
    }
  }

  async function commitAndMarkPaid(driven: PaymentAttempt, orderId: number): Promise<number | undefined> {
    const payable = await rows.read(driven)
    if (!payable) return undefined
    const verdict = judge(payable, { graceMs: 600_000, amountCheck: 'strict' })
    if (verdict.verdict === 'already-paid') return void (await rows.applied(driven, 'already-paid'))
    if (verdict.verdict !== 'pay') throw new Error(`the order of a payment is there: ${verdict.verdict}`)
    const { products } = verdict.order
    const result = await callStock(stock, {
      verb: 'commit',
      orderId,
      attempt: driven.attempt,
      products,
      idempotencyKey: `order:${orderId}:commit:${driven.attempt}`,
      deadline: world.now() + LEASE_PATIENCE_MS,
      wanted: () => rows.isPayable(driven),
    })
    if (result.answer === 'unwanted') return 250
    if (result.answer === 'refused') return void (await rows.bury(driven))
    const qtyOf = new Map(products.map(({ productId, qty }) => [productId, qty]))
    await result.record((epochs) =>
      rows.markPaid(
        driven,
        epochs.map(({ productId, epoch }) => ({ productId, qty: qtyOf.get(productId)!, epoch })),
      ),
    )
    return undefined
  }

  const mend = createMender(stock)
  const mendJob = (productId: number) => async (worker: Worker, started: number) =>
    worker.mend(productId, started - 1).catch(again(pauseAfter(started - 1)))

  async function rescue(): Promise<void> {
    const slow = [...underWay].filter(([, since]) => world.now() - since > 1000).map(([attempt]) => attempt)
    if (slow.length > 0) await rows.keepAlive(slow)
    if (!hasWork()) return
    for (const orderId of await rows.overdueCheckouts(LATE_MS)) giveUp(await rows.cancel(orderId, outOfTime))
    for (const { orderId, products, deadline } of await rows.strandedCheckouts(3000)) {
      world.count('rescued')
      const task = { orderId, deadline, products: products.map((product) => ({ ...product, epoch: null })), tries: 1 }
      world.tellInOrder(life, () => jobs.add(`checkout-${orderId}`, (worker, started) => worker.checkout(task, started)))
    }
    wakeMender(await rows.doubtAbandoned(LEASE_MS))
    for (const { eventId, orderId } of await rows.strandedPayments(60_000)) {
      world.count('rescued')
      const event = { eventId, orderId, attempt: null }
      world.tellInOrder(life, () => jobs.add(`payment-${eventId}`, (worker, started) => worker.payment(event, started)))
    }
  }

  async function every(ms: number, run: () => Promise<unknown>): Promise<void> {
    for (;;) {
      await run().catch(again(0))
      await world.sleep(life, ms)
    }
  }
  void every(1000, rescue)
  void every(30_000, async () => wakeMender(await stock.ledger.inDoubt()))

  return {
    life,
    waitFor({ orderId, deadline }) {
      world.deliver(life, deadline - world.now(), () => {
        void rows.cancel(orderId, outOfTime).then(giveUp, () => {})
      })
    },
    wakeMender,
    checkout: (task, started) => checkout(task, started).catch(again(100)),
    payment: (event, started) => payment(event, started).catch(again(200)),
    mend,
  }
}

/** A Shipping that sometimes refuses, and sometimes says nothing. */
export function playShipping(world: World, { refuses, silent }: { refuses: number; silent: number }): (life: Life) => Shipping {
  const shipments = new Set<number>()
  const { chance } = world
  return (life) => ({
    async create(draft) {
      await world.sleep(life, chance.between(1, 5))
      if (chance.happens(refuses)) return { answer: 'refused', detail: 'no such country' }
      const isSilent = chance.happens(silent)
      if (!isSilent || chance.happens(0.5)) shipments.add(draft.order_id)
      await world.sleep(life, isSilent ? 5000 : 2)
      if (isSilent) throw new NoAnswer('shipping create', { sent: true, settlesAt: world.now() })
      return { answer: 'created' }
    },
    has: (orderId) => world.ask(life, () => shipments.has(orderId)),
  })
}
