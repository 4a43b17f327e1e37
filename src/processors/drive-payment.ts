/** One attempt at a payment: Catalog commits the stock, then the order becomes PAID, in this order and no other. */
import type { Job } from 'bullmq'
import type { LimitFunction } from 'p-limit'
import { exponentialBackoffMs } from '../backoff.ts'
import { type Fault, faultOf } from '../causes.ts'
import { faultOfAnswer } from '../clients/http.ts'
import type { Clock } from '../clock.ts'
import type { PaymentAttempt, PaymentEvents } from '../db/payment-events.ts'
import type { Payable, Payments } from '../db/payments.ts'
import type { DeadLetterFault, ProductQty } from '../model.ts'
import { paymentBackoffMs, type PaymentQueue, type PaymentTask } from '../queues/payment.ts'
import { StockFault } from '../stock/group.ts'
import type { Stock } from '../stock/stock.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { judge, type VerdictOptions } from './payment-verdict.ts'

export interface PaymentDeps extends VerdictOptions {
  events: PaymentEvents
  payments: Pick<Payments, 'read'>
  stock: Pick<Stock, 'commit' | 'waiting'>
  clock: Clock
  /** `addAgain`: a job of its own for a payment that has to be repeated. */
  queue: Pick<PaymentQueue, 'addAgain' | 'isInAnotherJob'>
  logger: Logger
  metrics: Metrics
  /** From 0 on, below 1: pauses differ by it. */
  chance: () => number
  /** How many payments of shared jobs are read and judged at a time. Payments that wait for stock do not count. */
  atOnce: number
  /** Where more payments wait for the same products, a payment is postponed, so that its job takes no slot from others. */
  mostWaiting: number
}

export interface PaymentDriver extends PaymentDeps {
  /** Bounds how many payments are read and judged at a time. */
  limit: LimitFunction
}

/** How long a payment waits for its products before it is tried again: longer than any call and the check after it. In ms. */
const LEASE_PATIENCE_MS = 20_000
const POSTPONED_MS = 250
/** How long a payment is left to the other job that has it. */
const OTHER_JOB_MS = 1000
/** A `Retry-After` counts up to this: some services answer with a day. */
const MOST_RETRY_AFTER_MS = 60_000
/** A missing order is read again after 0.25 s, 0.5 s, ... 5 s. */
const earlyPauseMs = (reads: number) => exponentialBackoffMs(reads + 1, 250, 5000)
/** A payment whose products too many wait for is postponed for 0.5 s, 1 s, ... 10 s. */
const crowdedPauseMs = (starts: number) => exponentialBackoffMs(starts, 500, 10_000)
/** Statuses with which Catalog refuses a commit for good. Any other refusal (a wrong key, too many calls) can be fixed, and is retried. */
const FINAL_REFUSALS = new Set([404, 409, 422])

/** The event was not applied, and has to be driven again after a pause. */
interface Again {
  pauseMs: number
  /** undefined: nothing was begun, and there is nothing to record. */
  why: string | undefined
  fault?: Fault
}

/** What follows an attempt: a pause of its own, or, after a fault, BullMQ's. `attempt`: its number, where it was not begun. */
export type Next = { pauseMs: number; attempt: number | null } | { fault: Error }

/** An attempt whose order is to be paid. */
interface Begun {
  driven: PaymentAttempt
  payable: Payable
  products: readonly ProductQty[]
}

/**
 * Makes one attempt at a payment.
 * @returns undefined where the payment is over
 * @throws what PostgreSQL throws where the result cannot be recorded
 */
export async function drivePayment(driver: PaymentDriver, job: Job, task: PaymentTask): Promise<Next | undefined> {
  const { events, queue, limit } = driver
  const { eventId, orderId } = task
  if (task.mayBeDriven && (await queue.isInAnotherJob(eventId, job.id!))) return { pauseMs: OTHER_JOB_MS, attempt: null }
  const isFirst = task.attempt !== null && job.attemptsStarted <= 1
  const attempt = isFirst ? task.attempt! : await events.resume(eventId)
  if (attempt === undefined) return undefined
  const driven = { eventId, attempt }
  let again: Again | undefined
  try {
    const begun = await limit(() => begin(driver, { driven, orderId, starts: job.attemptsStarted }))
    again = begun && 'payable' in begun ? await commitAndMarkPaid(driver, begun) : begun
  } catch (error) {
    await recordFault(driver, job, { driven, orderId, error: error as Error })
    return afterFault(error as Error, job.attemptsMade + 1)
  }
  if (!again) return undefined
  const { pauseMs, why, fault } = again
  if (why === undefined) return { pauseMs, attempt: isFirst ? attempt : null }
  if (fault) count(driver, fault)
  await events.recordFailure(driven, why, fault)
  await show(job, orderId, why)
  return { pauseMs, attempt: null }
}

/** @returns the pause that Catalog asked for, where it is longer than BullMQ's. @param tries failed ones, this one included */
function afterFault(error: Error, tries: number): Next {
  const retryAfterMs = error instanceof StockFault ? (error.retryAfterMs ?? 0) : 0
  const isLonger = Number.isFinite(retryAfterMs) && retryAfterMs > paymentBackoffMs(tries, () => 0)
  return isLonger ? { pauseMs: Math.min(retryAfterMs, MOST_RETRY_AFTER_MS), attempt: null } : { fault: error }
}

/** @returns what is to be committed; undefined where the payment is over; a pause where it has to wait */
async function begin(
  driver: PaymentDriver,
  { driven, orderId, starts }: { driven: PaymentAttempt; orderId: number; starts: number },
): Promise<Begun | Again | undefined> {
  const { events, payments, stock, metrics, mostWaiting } = driver
  const payable = await payments.read(driven)
  if (!payable) return undefined
  const verdict = judge(payable, driver)
  if (verdict.verdict === 'wait') return { pauseMs: earlyPauseMs(starts - 1), why: verdict.reason, fault: { cause: 'payment-early' } }
  if (verdict.verdict === 'dead') return void (await deadLetter(driver, driven, { orderId, ...verdict }))
  if (verdict.verdict === 'already-paid') {
    await events.recordApplied(driven, 'already-paid')
    metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'already-paid' })
    return undefined
  }
  const { products } = verdict.order
  if (stock.waiting('commit', products) >= mostWaiting) return { pauseMs: crowdedPauseMs(starts), why: undefined }
  return { driven, payable, products }
}

async function commitAndMarkPaid(driver: PaymentDriver, { driven, payable, products }: Begun): Promise<Again | undefined> {
  const { stock, clock, metrics } = driver
  const { orderId, sentAt } = payable
  const deadline = clock.databaseTime() + LEASE_PATIENCE_MS
  const answer = await stock.commit({ id: driven.eventId, attempt: driven.attempt, products, deadline })
  // Two messages may carry one payment. Only the attempt that has the products may say that the order waits for it.
  if (answer.result === 'ended') return { pauseMs: POSTPONED_MS, why: `order ${orderId} has been paid, or another attempt runs` }
  if (answer.result === 'refused') {
    const reason = `catalog commit: ${answer.detail} (${answer.status})`
    if (!FINAL_REFUSALS.has(answer.status)) {
      const fault = faultOfAnswer('catalog', answer.status) ?? { cause: 'downstream-error', service: 'catalog' }
      throw new StockFault(reason, { sent: true, retryAfterMs: answer.retryAfterMs, fault })
    }
    return void (await deadLetter(driver, driven, { orderId, fault: 'catalog-refused', reason }))
  }
  metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'paid' })
  metrics.paymentSeconds.observe(Math.max(0, clock.databaseTime() - sentAt.getTime()) / 1000)
  return undefined
}

async function deadLetter(
  { events, metrics, logger }: PaymentDriver,
  driven: PaymentAttempt,
  { orderId, fault, reason }: { orderId: number; fault: DeadLetterFault; reason: string },
): Promise<void> {
  if (!(await events.deadLetter(driven, fault, reason))) return
  metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'dead' })
  logger.error({ orderId, eventId: driven.eventId, fault }, 'payment became a dead letter')
}

async function recordFault(
  driver: PaymentDriver,
  job: Job,
  { driven, orderId, error }: { driven: PaymentAttempt; orderId: number; error: Error },
): Promise<void> {
  const { events, logger } = driver
  const fault = faultOf(error)
  count(driver, fault)
  logger.warn({ err: error, orderId, eventId: driven.eventId, tries: job.attemptsMade + 1 }, 'payment not applied yet; retrying')
  await show(job, orderId, error.message)
  await events.recordFailure(driven, error.message, fault).catch(() => {})
}

function count({ metrics }: PaymentDriver, { cause, service }: Fault): void {
  metrics.failures.inc({ cause, service: service ?? '' })
}

/** Shows a message in the job, for the operators' dashboard. A failure to show it has no effect on the payment. */
async function show(job: Job, orderId: number, message: string): Promise<void> {
  const tries = job.attemptsStarted
  await Promise.all([
    job.updateProgress({ orderId, step: 'commit-and-mark-paid', tries, message, at: new Date().toISOString() }),
    job.log(`order ${orderId}, try ${tries}: ${message}`),
  ]).catch(() => {})
}
