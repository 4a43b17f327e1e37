/** One attempt at a checkout: begins it, runs its steps, and records how it ended. */
import type { Job } from 'bullmq'
import type { Shipping } from '../clients/shipping.ts'
import type { Clock } from '../clock.ts'
import { type Fault, faultOf } from '../causes.ts'
import type { FailedAttempt } from '../db/checkout-attempts.ts'
import type { Attempt } from '../db/checkout-rows.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { Ended } from '../db/end-checkouts.ts'
import type { Outcome, StepName } from '../model.ts'
import { backoffMs, type CheckoutTask } from '../queues/checkout.ts'
import type { Stock } from '../stock/stock.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { type Progress, watchProgress } from './checkout-progress.ts'
import { type CheckoutRun, OUT_OF_TIME, Overtaken, StepFault, type Unavailable } from './checkout-run.ts'
import { runSaga, type Step } from './saga.ts'

export interface CheckoutJobDeps {
  checkouts: Checkouts
  stock: Pick<Stock, 'reserve' | 'releaseLeases' | 'waiting'>
  clock: Clock
  /** What a customer gets at once while Catalog or Shipping fails again and again; undefined where both are called. */
  unavailable: () => Unavailable | undefined
  /** Makes the reconciler read these products. */
  wakeReconciler(productIds: readonly number[]): void
  shipping: Shipping
  /** Sends the outcome to the process that waits for it. */
  reply(replyTo: string, outcome: Outcome): Promise<void>
  /** Adds a job of its own for a checkout that has to be repeated. */
  addAgain(checkout: CheckoutTask, delayMs: number): Promise<void>
  logger: Logger
  metrics: Metrics
  /** Running attempts, and since when their customers wait, in epoch ms: kept here, read by the rescuer. */
  underWay: Map<Attempt, number>
  /** Where more checkouts wait for the same products, a job is postponed, so that it takes no slot from others. */
  mostWaiting: number
  /** How long a checkout may take, from its intent to its deadline. */
  budgetMs: number
}

export interface CheckoutDriver extends CheckoutJobDeps {
  steps: readonly Step<StepName, CheckoutRun>[]
}

/** An unreachable downstream service fails the checkout after so many tries: 0.7 s of pauses, and the time of the tries. */
const UNREACHABLE_TRIES = 4
const POSTPONED_MS = 250
const postponed = {
  step: 'reserve-stock',
  error: 'postponed: too many checkouts wait for these products',
  ms: 0,
  fault: { cause: 'product-contended' },
} as const

/** The checkout is not over, and has to be repeated. */
export interface Again {
  error: Error
  /** Postponed for so long: too many wait, or a service asked for a pause. undefined: the pause grows with each try. */
  pauseMs?: number | undefined
}

/**
 * Makes one attempt at a checkout.
 * @returns undefined where the checkout is over
 * @throws what PostgreSQL throws where the state of the checkout cannot be read
 */
export async function driveCheckout(driver: CheckoutDriver, job: Job, task: CheckoutTask): Promise<Again | undefined> {
  const { checkouts, stock, metrics, underWay, mostWaiting, budgetMs } = driver
  const run = await beginAttempt(driver, job, task)
  if (!run) return void (await answer(driver, task, await checkouts.readOutcome(task.orderId)))
  if (!run.lease && run.recoveryPoint === 'intent' && stock.waiting('reserve', run.products) >= mostWaiting) {
    count(driver, postponed.fault)
    await checkouts.recordFailure(run, { ...postponed, shipmentCall: run.shipmentCall })
    return { error: new Error(postponed.error), pauseMs: POSTPONED_MS }
  }
  const progress = watchProgress(job, run, metrics)
  underWay.set(run, run.deadline - budgetMs)
  try {
    await answer(driver, task, await runSteps(driver, run, progress))
  } catch (error) {
    const tries = task.tries + job.attemptsMade + 1
    const again = await afterFault(driver, run, { error: error as Error, tries, progress })
    if (again) return again
    await answer(driver, task, await checkouts.readOutcome(run.orderId))
  } finally {
    progress.stop()
    underWay.delete(run)
  }
  return undefined
}

/** @returns undefined where the checkout is no longer OPEN */
async function beginAttempt(
  { checkouts, clock, budgetMs }: CheckoutDriver,
  job: Job,
  { orderId, products, lease, deadline, tries }: CheckoutTask,
): Promise<CheckoutRun | undefined> {
  const delivery = checkouts.readDelivery(orderId)
  delivery.catch(() => {}) // it is read while Catalog is called; the step that awaits it gets its failure
  const common = { orderId, deadline, delivery, record: undefined }
  if (job.attemptsStarted <= 1 && tries === 0) {
    // The checkout was open when its intent was written: its job may have been added long after that.
    const seenOpenAt = deadline - budgetMs
    return { ...common, attempt: 1, products, lease: lease ?? undefined, recoveryPoint: 'intent', shipmentCall: 'unsent', seenOpenAt }
  }
  const seenOpenAt = clock.databaseTime()
  const resumed = await checkouts.resume(orderId)
  return resumed && { ...common, ...resumed, lease: undefined, seenOpenAt }
}

/** Runs the steps, and ends the checkout where one of them refuses. @throws what a step throws */
async function runSteps(driver: CheckoutDriver, run: CheckoutRun, progress: Progress): Promise<Outcome | undefined> {
  const { checkouts, steps, metrics } = driver
  const refused = await runSaga(steps, run, progress)
  if (!refused) {
    metrics.checkouts.inc({ outcome: 'CREATED' })
    return run.outcome
  }
  await run.record?.written().catch(() => {}) // whether there is a hold to give up
  const { fault, ...rejection } = refused.rejection
  const failed = fault && { step: refused.step, error: rejection.detail, ms: progress.ms(), fault }
  if (fault) count(driver, fault)
  const ended = await checkouts.end(run, refused.step === 'reserve-stock' ? 'REJECTED' : 'CANCELLED', { ...rejection, failed })
  return ended ? afterEnd(driver, ended) : checkouts.readOutcome(run.orderId)
}

interface Failure {
  error: Error
  /** Failed tries, this one included. */
  tries: number
  progress: Progress
}

/** @returns undefined where the checkout is over, or another attempt drives it */
async function afterFault(driver: CheckoutDriver, run: CheckoutRun, failure: Failure): Promise<Again | undefined> {
  const { error, progress } = failure
  await run.record?.written().catch(() => {})
  const again = await retryOrCancel(driver, run, failure)
  const { orderId, attempt } = run
  driver.logger.warn({ err: error, orderId, attempt, step: progress.step, repeated: again !== undefined }, 'checkout step failed')
  return again
}

/** Records the failure where a retry may succeed in time, and cancels the checkout where none can. */
async function retryOrCancel(driver: CheckoutDriver, run: CheckoutRun, { error, tries, progress }: Failure): Promise<Again | undefined> {
  const { checkouts, clock } = driver
  await progress.report(error.message)
  // An attempt that was overtaken met no fault.
  const fault = error instanceof Overtaken ? undefined : faultOf(error)
  const failed: FailedAttempt = { step: progress.step, error: error.message, ms: progress.ms(), fault }
  if (fault) count(driver, fault)
  if (error instanceof Overtaken && !(await checkouts.isOpen(run))) {
    await checkouts.recordFailure(run, { ...failed, shipmentCall: run.shipmentCall })
    return undefined
  }
  const retryAfterMs = error instanceof StepFault ? error.retryAfterMs : 0
  const isTooLate = error instanceof Overtaken || clock.databaseTime() + Math.max(backoffMs(tries), retryAfterMs) >= run.deadline
  const isUnreachable = error instanceof StepFault && error.unreachable && tries >= UNREACHABLE_TRIES
  if (!isTooLate && !isUnreachable) {
    await checkouts.recordFailure(run, { ...failed, shipmentCall: run.shipmentCall })
    return { error, pauseMs: retryAfterMs > backoffMs(tries) ? retryAfterMs : undefined }
  }
  const rejection = error instanceof StepFault ? error.rejection : OUT_OF_TIME
  const ended = await checkouts.end(run, 'CANCELLED', { ...rejection, failed })
  if (ended) afterEnd(driver, ended)
  return undefined
}

function count({ metrics }: CheckoutDriver, { cause, service }: Fault): void {
  metrics.failures.inc({ cause, service: service ?? '' })
}

function afterEnd({ metrics, wakeReconciler }: CheckoutDriver, { outcome, won, toReconcile }: Ended): Outcome {
  if (won) metrics.checkouts.inc({ outcome: outcome.state })
  if (toReconcile.length > 0) wakeReconciler(toReconcile)
  return outcome
}

async function answer({ reply }: CheckoutDriver, { replyTo }: CheckoutTask, outcome: Outcome | undefined): Promise<void> {
  if (!outcome || replyTo === null) return // another attempt drives the checkout and will answer, or no process is known to wait
  // A lost reply does no harm: the process that waits also polls PostgreSQL.
  await reply(replyTo, outcome).catch(() => {})
}
