/**
 * The job that drives a payment to its order: stock is committed at Catalog, then the order is PAID, in that order and never otherwise.
 * It is repeated for as long as a fault lasts; each repeat takes a number of its own from PostgreSQL.
 */
import { DelayedError, type Job } from 'bullmq'
import pLimit from 'p-limit'
import { applied, bury, leavePayment, type PaymentAttempt, resumePayment } from '../db/payment-events.ts'
import type { Payable, Payments } from '../db/payments.ts'
import type { Pool } from '../db/pool.ts'
import type { DeadLetterFault } from '../model.ts'
import { paymentBackoffMs, paymentPayload, type PaymentQueue, type PaymentTask } from '../queues/payment.ts'
import { callStock, StockFault, type StockParts } from '../stock/stock-call.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { judge, type Verdict, type VerdictTerms } from './payment-verdict.ts'

export interface PaymentParts extends VerdictTerms {
  pool: Pool
  payments: Payments
  stock: StockParts
  /** `addAgain`: a job of its own for a payment that has to be driven again. */
  queue: Pick<PaymentQueue, 'addAgain' | 'isInAnotherJob'>
  logger: Logger
  metrics: Metrics
  /** So many of those that share jobs are driven at a time. */
  atOnce: number
  /** Beyond so many that wait for leases, a job is put back for a moment: it takes no one's place. */
  mostWaiting: number
}

/** How long a payment waits for the leases of its products before it is tried again: longer than any call and its mending. In ms. */
const LEASE_PATIENCE_MS = 20_000
const PUT_BACK_MS = 250
/** How long to leave a payment to the other job that has it. */
const DRIVEN_PAUSE_MS = 1000
/** An order that is not there yet is looked for after 0.25 s, 0.5 s, ... 5 s. */
const earlyPauseMs = (looks: number) => Math.min(5000, 250 * 2 ** Math.min(looks, 5))

/** What Catalog says where a commit can never succeed; any other refusal (a bad key, too many calls) is ours to repair, and repeated. */
const FINAL_REFUSALS = new Set([404, 409, 422])

/** How a driving ended that did not apply the event: it is to be driven again after a pause. */
interface Again {
  pauseMs: number
  why: string
}

/** What has to follow: a pause of its own, or, after a fault, BullMQ's. */
type Next = { pauseMs: number } | { fault: Error }

/** @returns BullMQ's processor: throws to be called again with BullMQ's pause, or puts the job back with a pause of its own */
export function createPaymentProcessor(parts: PaymentParts): (job: Job, token?: string) => Promise<void> {
  const { pool, payments, stock, queue, logger, metrics, atOnce, mostWaiting } = parts
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
    const ends = await Promise.allSettled(tasks.map((task) => turn(() => apart(job, task))))
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
    if (next) await queue.addAgain([{ ...task, attempt: null }], 'fault' in next ? paymentBackoffMs(1) : next.pauseMs)
  }

  /** @returns undefined where it is over. @throws what PostgreSQL throws where it cannot be told */
  async function tryOnce(job: Job, task: PaymentTask): Promise<Next | undefined> {
    const { eventId, orderId } = task
    if (task.mayBeDriven && (await queue.isInAnotherJob(eventId, job.id!))) return { pauseMs: DRIVEN_PAUSE_MS }
    const isFirst = task.attempt !== null && job.attemptsStarted <= 1
    const attempt = isFirst ? task.attempt! : await resumePayment(pool, eventId)
    if (attempt === undefined) return undefined
    const driven = { eventId, attempt }
    let again: Again | undefined
    try {
      again = await drive(driven, orderId, job.attemptsStarted - 1)
    } catch (error) {
      await afterFault(job, driven, orderId, error as Error)
      return { fault: error as Error }
    }
    if (!again) return undefined
    await leavePayment(pool, driven, { error: again.why, commitCall: 'settled' })
    await show(job, orderId, again.why)
    return again
  }

  async function drive(driven: PaymentAttempt, orderId: number, looks: number): Promise<Again | undefined> {
    const payable = await payments.read(driven)
    if (!payable) return undefined
    const verdict = judge(payable, parts)
    if (verdict.verdict === 'wait') return { pauseMs: earlyPauseMs(looks), why: verdict.reason }
    if (verdict.verdict === 'dead') return void (await die(driven, orderId, verdict.fault, verdict.reason))
    if (verdict.verdict === 'already-paid') {
      await applied(pool, driven, 'already-paid')
      metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'already-paid' })
      return undefined
    }
    if (stock.leases.waiting() >= mostWaiting) return { pauseMs: PUT_BACK_MS, why: 'waits for stock' }
    return commitAndMarkPaid(driven, payable, verdict)
  }

  async function commitAndMarkPaid(
    driven: PaymentAttempt,
    { orderId, sentAt }: Payable,
    { order: { products } }: Extract<Verdict, { verdict: 'pay' }>,
  ): Promise<Again | undefined> {
    const result = await callStock(stock, {
      verb: 'commit',
      orderId,
      attempt: driven.attempt,
      products,
      // A Catalog that honours keys must not take the call after a mending for the one before it, by whichever event it was made.
      idempotencyKey: `order:${orderId}:commit:${driven.attempt}`,
      deadline: Date.now() + LEASE_PATIENCE_MS,
      // Two messages may carry one payment, and only who has the leases may say that the order waits for it.
      wanted: () => payments.isPayable(driven),
    })
    if (result.answer === 'unwanted')
      return { pauseMs: PUT_BACK_MS, why: `order ${orderId} was paid meanwhile, or another attempt drives it` }
    if (result.answer === 'refused') {
      const said = `catalog commit: ${result.detail} (${result.status})`
      if (!FINAL_REFUSALS.has(result.status)) throw new StockFault(said, { settled: true, sent: true })
      return void (await die(driven, orderId, 'catalog-refused', said))
    }
    const qtyOf = new Map(products.map(({ productId, qty }) => [productId, qty]))
    await result.record((epochs) =>
      payments.markPaid(
        driven,
        epochs.map(({ productId, epoch }) => ({ productId, qty: qtyOf.get(productId)!, epoch })),
      ),
    )
    metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'paid' })
    metrics.paymentSeconds.observe(Math.max(0, Date.now() - sentAt.getTime()) / 1000)
    return undefined
  }

  async function die(driven: PaymentAttempt, orderId: number, fault: DeadLetterFault, reason: string): Promise<void> {
    if (!(await bury(pool, driven, fault, reason))) return
    metrics.paymentEvents.inc({ type: 'payment.succeeded', result: 'dead' })
    logger.error({ orderId, eventId: driven.eventId, fault }, 'a payment is a dead letter')
  }

  async function afterFault(job: Job, driven: PaymentAttempt, orderId: number, error: Error): Promise<void> {
    const commitCall = error instanceof StockFault && !error.settled ? 'unknown' : 'settled'
    logger.warn({ err: error, orderId, eventId: driven.eventId, tries: job.attemptsMade + 1 }, 'payment could not be applied yet')
    await show(job, orderId, error.message)
    // Where PostgreSQL is away the attempt stays as one of which nothing is known.
    await leavePayment(pool, driven, { error: error.message, commitCall }).catch(() => {})
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
