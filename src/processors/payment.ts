/**
 * The job that drives a payment to its order: stock is committed at Catalog, then the order is PAID, in that order and never otherwise.
 * It is repeated for as long as a fault lasts; each repeat takes a number of its own from PostgreSQL.
 */
import { DelayedError, type Job } from 'bullmq'
import pLimit from 'p-limit'
import type { Clock } from '../clock.ts'
import type { PaymentAttempt, PaymentEvents } from '../db/payment-events.ts'
import type { Payable, Payments } from '../db/payments.ts'
import type { DeadLetterFault, ProductQty } from '../model.ts'
import { paymentBackoffMs, paymentPayload, type PaymentQueue, type PaymentTask } from '../queues/payment.ts'
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
  /** `addAgain`: a job of its own for a payment that has to be driven again. */
  queue: Pick<PaymentQueue, 'addAgain' | 'isInAnotherJob'>
  logger: Logger
  metrics: Metrics
  /** From 0 on, below 1: pauses differ by it. */
  chance: () => number
  /** So many of those that share jobs are read and judged at a time. To wait for stock takes no place. */
  atOnce: number
  /** Beyond so many that wait for the same products, a payment is put back for a while: its job takes no one's place. */
  mostWaiting: number
}

/** How long a payment waits for its products before it is tried again: longer than any call and the check after it. In ms. */
const LEASE_PATIENCE_MS = 20_000
const PUT_BACK_MS = 250
/** How long to leave a payment to the other job that has it. */
const DRIVEN_PAUSE_MS = 1000
/** An order that is not there yet is looked for after 0.25 s, 0.5 s, ... 5 s. */
const earlyPauseMs = (looks: number) => Math.min(5000, 250 * 2 ** Math.min(looks, 5))

/** What Catalog says where a commit can never succeed; any other refusal (a bad key, too many calls) is ours to repair, and repeated. */
const FINAL_REFUSALS = new Set([404, 409, 422])

/** How long a payment is put back whose products too many wait for: 0.5 s, 1 s, ... 10 s. */
const crowdedPauseMs = (starts: number) => Math.min(10_000, 500 * 2 ** Math.min(starts - 1, 10))

/** How a driving ended that did not apply the event: it is to be driven again after a pause. */
interface Again {
  pauseMs: number
  /** undefined: nothing was begun, and there is nothing to note. */
  why: string | undefined
}

/** What a `Retry-After` is worth at the most: some say a day. */
const MOST_RETRY_AFTER_MS = 60_000

/** What has to follow: a pause of its own, or, after a fault, BullMQ's. `attempt` was not begun. */
type Next = { pauseMs: number; attempt: number | null } | { fault: Error }

/** An attempt that has been found worth a commit. */
interface Begun {
  driven: PaymentAttempt
  payable: Payable
  products: readonly ProductQty[]
}

/** @returns BullMQ's processor: throws to be called again with BullMQ's pause, or puts the job back with a pause of its own */
export function createPaymentProcessor(deps: PaymentDeps): (job: Job, token?: string) => Promise<void> {
  const { events, payments, stock, clock, queue, logger, metrics, atOnce, mostWaiting } = deps
  const turn = pLimit(atOnce)

  return async (job, token) => {
    const tasks = paymentPayload.parse(job.data).payments
    if (tasks.length === 1) return alone(job, token, tasks[0]!)
    // Run again, its worker died or stood still: some of them have jobs of their own by now, and keep those.
    if (job.attemptsStarted > 1)
      return queue.addAgain(
        tasks.map((task) => ({ ...task, attempt: null })),
        0,
      )
    // All of them, before the job may be run again: a second run would take over from attempts that are still at work.
    const ends = await Promise.allSettled(tasks.map((task) => apart(job, task)))
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed) throw failed.reason
  }

  async function alone(job: Job, token: string | undefined, task: PaymentTask): Promise<void> {
    const next = await tryOnce(job, task)
    if (!next) return
    if ('fault' in next) throw next.fault
    await job.moveToDelayed(Date.now() + next.pauseMs, token)
    throw new DelayedError()
  }

  /** One of several in a job: if it has to be driven again, that is another job. */
  async function apart(job: Job, task: PaymentTask): Promise<void> {
    const next = await tryOnce(job, task)
    if (!next) return
    const [attempt, pauseMs] = 'fault' in next ? [null, paymentBackoffMs(1, deps.chance)] : [next.attempt, next.pauseMs]
    await queue.addAgain([{ ...task, attempt }], pauseMs)
  }

  /** @returns undefined where it is over. @throws what PostgreSQL throws where it cannot be told */
  async function tryOnce(job: Job, task: PaymentTask): Promise<Next | undefined> {
    const { eventId, orderId } = task
    if (task.mayBeDriven && (await queue.isInAnotherJob(eventId, job.id!))) return { pauseMs: DRIVEN_PAUSE_MS, attempt: null }
    const isFirst = task.attempt !== null && job.attemptsStarted <= 1
    const attempt = isFirst ? task.attempt! : await events.resume(eventId)
    if (attempt === undefined) return undefined
    const driven = { eventId, attempt }
    let again: Again | undefined
    try {
      const begun = await turn(() => begin(driven, orderId, job.attemptsStarted))
      again = begun && 'payable' in begun ? await commitAndMarkPaid(begun) : begun
    } catch (error) {
      await afterFault(job, driven, orderId, error as Error)
      const askedMs = error instanceof StockFault ? (error.retryAfterMs ?? 0) : 0
      const isToHeed = Number.isFinite(askedMs) && askedMs > paymentBackoffMs(job.attemptsMade + 1, () => 0)
      return isToHeed ? { pauseMs: Math.min(askedMs, MOST_RETRY_AFTER_MS), attempt: null } : { fault: error as Error }
    }
    if (!again) return undefined
    const { pauseMs, why } = again
    if (why === undefined) return { pauseMs, attempt: isFirst ? attempt : null }
    await events.recordFailure(driven, why)
    await show(job, orderId, why)
    return { pauseMs, attempt: null }
  }

  /** @returns what is to be committed; undefined where it is over; a pause where it has to wait */
  async function begin(driven: PaymentAttempt, orderId: number, starts: number): Promise<Begun | Again | undefined> {
    const payable = await payments.read(driven)
    if (!payable) return undefined
    const verdict = judge(payable, deps)
    if (verdict.verdict === 'wait') return { pauseMs: earlyPauseMs(starts - 1), why: verdict.reason }
    if (verdict.verdict === 'dead') return void (await die(driven, orderId, verdict.fault, verdict.reason))
    if (verdict.verdict === 'already-paid') {
      await events.recordApplied(driven, 'already-paid')
      metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'already-paid' })
      return undefined
    }
    const { products } = verdict.order
    if (stock.waiting('commit', products) >= mostWaiting) return { pauseMs: crowdedPauseMs(starts), why: undefined }
    return { driven, payable, products }
  }

  async function commitAndMarkPaid({ driven, payable: { orderId, sentAt }, products }: Begun): Promise<Again | undefined> {
    const answer = await stock.commit({
      id: driven.eventId,
      attempt: driven.attempt,
      products,
      deadline: clock.wallTime() + LEASE_PATIENCE_MS,
    })
    // Two messages may carry one payment, and only who has the products may say that the order waits for it.
    if (answer.result === 'ended') return { pauseMs: PUT_BACK_MS, why: `order ${orderId} has been paid, or another attempt runs` }
    if (answer.result === 'refused') {
      const said = `catalog commit: ${answer.detail} (${answer.status})`
      if (!FINAL_REFUSALS.has(answer.status)) throw new StockFault(said, { sent: true, retryAfterMs: answer.retryAfterMs })
      return void (await die(driven, orderId, 'catalog-refused', said))
    }
    metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'paid' })
    metrics.paymentSeconds.observe(Math.max(0, clock.wallTime() - sentAt.getTime()) / 1000)
    return undefined
  }

  async function die(driven: PaymentAttempt, orderId: number, fault: DeadLetterFault, reason: string): Promise<void> {
    if (!(await events.deadLetter(driven, fault, reason))) return
    metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'dead' })
    logger.error({ orderId, eventId: driven.eventId, fault }, 'payment became a dead letter')
  }

  async function afterFault(job: Job, driven: PaymentAttempt, orderId: number, error: Error): Promise<void> {
    logger.warn({ err: error, orderId, eventId: driven.eventId, tries: job.attemptsMade + 1 }, 'payment not applied yet; retrying')
    await show(job, orderId, error.message)
    await events.recordFailure(driven, error.message).catch(() => {})
  }

  /** A dashboard that cannot be told changes nothing. */
  async function show(job: Job, orderId: number, said: string): Promise<void> {
    const tries = job.attemptsStarted
    await Promise.all([
      job.updateProgress({ orderId, step: 'commit-and-mark-paid', tries, said, at: new Date().toISOString() }),
      job.log(`order ${orderId}, try ${tries}: ${said}`),
    ]).catch(() => {})
  }
}
