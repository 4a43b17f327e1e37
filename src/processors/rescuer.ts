/**
 * The rescuer queues checkouts and payments that lost their job, and cancels checkouts past their deadline. It runs in every worker, at
 * start and by a timer. Two rescuers do no harm, since each write holds only where no other process was faster.
 */
import type { Clock } from '../clock.ts'
import type { Attempt } from '../db/checkout-rows.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { Rescue } from '../db/rescue.ts'
import type { CheckoutQueue } from '../queues/checkout.ts'
import type { PaymentQueue } from '../queues/payment.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { OUT_OF_TIME } from './checkout-run.ts'

export interface RescuerDeps {
  rescue: Rescue
  clock: Pick<Clock, 'now' | 'databaseTime'>
  checkouts: Pick<Checkouts, 'cancel'>
  checkoutQueue: Pick<CheckoutQueue, 'rescue' | 'oldestWaitingMs'>
  paymentQueue: Pick<PaymentQueue, 'rescue' | 'oldestWaitingMs'>
  /** Attempts at work in this process, and since when their customers have waited, in epoch ms. */
  underWay: ReadonlyMap<Attempt, number>
  /** Makes the reconciler read these products. */
  wakeReconciler(productIds: readonly number[]): void
  logger: Logger
  metrics: Metrics
}

/** An attempt that takes longer is marked as alive with every run. */
const SLOW_MS = 1000
/** Two marks missed. */
const CHECKOUT_UNTOUCHED_MS = 2000
/** A job that waited for long may have started a moment ago: its attempt is marked within a second. A customer waits for 8 s. */
const CHECKOUT_SEEN_MS = 1500
/** A queue that is this far behind has lost nothing. More jobs would not help. */
const BEHIND_MS = 1000
/** The process that waits for a checkout cancels it at its deadline. A second later no process waits. */
const LATE_MS = 1000
/** The longest pause and the longest try of a payment together take 35 s. */
const PAYMENT_UNTOUCHED_MS = 40_000
const AT_ONCE = 200

export interface Rescuer {
  /** Marks slow attempts as alive. To be called once a second, however long a run takes. */
  keepSlowAlive(): Promise<void>
  /** One run, to begin a second after the previous one. @returns how many rows it rescued or cancelled. @throws where the run failed */
  run(): Promise<number>
}

export function createRescuer(deps: RescuerDeps): Rescuer {
  const { rescue, clock, checkouts, checkoutQueue, paymentQueue, underWay, wakeReconciler, logger, metrics } = deps

  async function keepSlowAlive(): Promise<void> {
    const slow = [...underWay].filter(([, since]) => clock.databaseTime() - since > SLOW_MS).map(([attempt]) => attempt)
    await rescue.keepAlive(slow)
  }

  /** Since when, by the monotonic clock, each run has found a checkout untouched. */
  let seen = new Map<number, number>()

  async function rescueCheckouts(): Promise<number> {
    const found = await rescue.strandedCheckouts(CHECKOUT_UNTOUCHED_MS, AT_ONCE)
    const now = clock.now()
    seen = new Map(found.map(({ orderId }) => [orderId, seen.get(orderId) ?? now]))
    const stranded = found.filter(({ orderId }) => now - seen.get(orderId)! >= CHECKOUT_SEEN_MS)
    if (stranded.length === 0 || (await checkoutQueue.oldestWaitingMs()) > BEHIND_MS) return 0
    return report('checkout', await rescued(stranded, checkoutQueue.rescue))
  }

  async function cancelOverdue(): Promise<number> {
    const overdue = await rescue.overdueCheckouts(LATE_MS, AT_ONCE)
    const ended = await Promise.all(overdue.map((orderId) => checkouts.cancel(orderId, OUT_OF_TIME)))
    const won = ended.filter((one) => one.won)
    for (const { outcome } of won) metrics.checkouts.inc({ outcome: outcome.state })
    const toReconcile = won.flatMap((one) => one.toReconcile)
    if (toReconcile.length > 0) wakeReconciler(toReconcile)
    if (won.length > 0) metrics.rescued.inc({ what: 'overdue' }, won.length)
    return won.length
  }

  async function rescuePayments(): Promise<number> {
    const stranded = await rescue.strandedPayments(PAYMENT_UNTOUCHED_MS, AT_ONCE)
    if (stranded.length === 0 || (await paymentQueue.oldestWaitingMs()) > BEHIND_MS) return 0
    return report('payment', await rescued(stranded, paymentQueue.rescue))
  }

  function report(what: 'checkout' | 'payment', orderIds: readonly number[]): number {
    if (orderIds.length === 0) return 0
    logger.warn({ orderIds }, `${what}s had no job; queued again`)
    metrics.rescued.inc({ what }, orderIds.length)
    return orderIds.length
  }

  return {
    keepSlowAlive,
    async run() {
      let found = 0
      for (const rescueKind of [cancelOverdue, rescueCheckouts, rescuePayments]) found += await rescueKind()
      return found
    },
  }
}

/** @returns the order ids of those that had no job. Others may have a job in a pause that is longer than we wait. */
async function rescued<Stranded extends { orderId: number }>(
  stranded: readonly Stranded[],
  rescue: (one: Stranded) => Promise<boolean>,
): Promise<number[]> {
  const orderIds: number[] = []
  for (const one of stranded) if (await rescue(one)) orderIds.push(one.orderId)
  return orderIds
}
