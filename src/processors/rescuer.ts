/**
 * The rescuer: drives on what has lost its job, and ends what is past its deadline. It runs in every worker, at its start and by a timer;
 * two at once do no harm, since each of its deeds holds only where nobody was quicker.
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
  clock: Pick<Clock, 'now' | 'wallTime'>
  checkouts: Pick<Checkouts, 'cancel'>
  checkoutQueue: Pick<CheckoutQueue, 'rescue' | 'oldestWaitingMs'>
  paymentQueue: Pick<PaymentQueue, 'rescue' | 'oldestWaitingMs'>
  /** Attempts at work in this process, and since when their customers have waited, in epoch ms. */
  underWay: ReadonlyMap<Attempt, number>
  /** Tells the reconciler of products that somebody has to come to. */
  wakeReconciler(productIds: readonly number[]): void
  logger: Logger
  metrics: Metrics
}

/** Whoever is at work for longer than this says so with every run. */
const SLOW_MS = 1000
/** Two signs of life missed. */
const CHECKOUT_UNTOUCHED_MS = 2000
/** A job that waited for long may have been taken a moment ago: its driver gives a sign within a second. Time is left of a customer's 8 s. */
const CHECKOUT_SEEN_MS = 1500
/** A queue that is so far behind has lost nothing: it is late, and more jobs would not help. */
const BEHIND_MS = 1000
/** Whoever waited for a checkout cancels it at its deadline; a second later nobody waits. */
const LATE_MS = 1000
/** The longest pause and the longest try of a payment together take 35 s. */
const PAYMENT_UNTOUCHED_MS = 40_000
const AT_ONCE = 200

export interface Rescuer {
  /** The sign of life of those at work: to be given once a second, whatever a run takes. */
  keepSlowAlive(): Promise<void>
  /** One run, to be begun a second after the one before; what it throws is a run in vain. It answers how much it found. */
  run(): Promise<number>
}

export function createRescuer(deps: RescuerDeps): Rescuer {
  const { rescue, clock, checkouts, checkoutQueue, paymentQueue, underWay, wakeReconciler, logger, metrics } = deps

  async function keepSlowAlive(): Promise<void> {
    const slow = [...underWay].filter(([, since]) => clock.wallTime() - since > SLOW_MS).map(([attempt]) => attempt)
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
    const freed = won.flatMap((one) => one.freed)
    if (freed.length > 0) wakeReconciler(freed)
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

/** @returns the order ids of those that had no job; the job of another may wait for the end of a pause that is longer than our patience */
async function rescued<Stranded extends { orderId: number }>(
  stranded: readonly Stranded[],
  rescue: (one: Stranded) => Promise<boolean>,
): Promise<number[]> {
  const orderIds: number[] = []
  for (const one of stranded) if (await rescue(one)) orderIds.push(one.orderId)
  return orderIds
}
