/**
 * The job that drives checkouts: their steps, and what follows from how they end. One that fails is repeated in a job of its own, with
 * growing pauses, for as long as the fault lasts and the deadline allows; every repeat takes a number of its own from PostgreSQL and
 * goes on from what is on record.
 */
import { DelayedError, type Job } from 'bullmq'
import type { Clock } from '../clock.ts'
import type { Shipping } from '../clients/shipping.ts'
import type { Attempt } from '../db/checkout-rows.ts'
import type { Ended } from '../db/end-checkouts.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { Outcome, Rejection, StepName } from '../model.ts'
import { backoffMs, checkoutPayload, type CheckoutTask } from '../queues/checkout.ts'
import type { Stock } from '../stock/stock.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { type CheckoutRun, OUT_OF_TIME, Overtaken, StepFault } from './checkout-run.ts'
import { complete } from './complete.ts'
import { createShipment } from './create-shipment.ts'
import { reserveStock } from './reserve-stock.ts'
import { runSaga, type SagaObserver } from './saga.ts'
import { createStillOpen } from './still-open.ts'

export interface CheckoutJobDeps {
  checkouts: Checkouts
  stock: Pick<Stock, 'reserve' | 'forgo' | 'waiting'>
  clock: Clock
  /** What a customer is told at once while Catalog or Shipping fails again and again; undefined where both are asked. */
  unavailable: () => Rejection | undefined
  /** Tells the reconciler of products that somebody has to come to. */
  wakeReconciler(productIds: readonly number[]): void
  shipping: Shipping
  /** Sends the outcome to whoever waits for it. */
  reply(replyTo: string, outcome: Outcome): Promise<void>
  /** A job of its own for a checkout that has to be driven again. */
  addAgain(checkout: CheckoutTask, delayMs: number): Promise<void>
  logger: Logger
  metrics: Metrics
  /** Attempts at work, and since when their customers wait, in epoch ms: kept here, read by the rescuer. */
  underWay: Map<Attempt, number>
  /** Beyond so many that wait for the same products, a job is put back for a moment: it takes no one's place. */
  mostWaiting: number
  /** How long a checkout may take, from its intent to its deadline. */
  budgetMs: number
}

/** A downstream that refuses connections is given up after so many tries: 0.7 s of pauses, and what the tries take. */
const UNREACHABLE_TRIES = 4
const PUT_BACK_MS = 250
/** A checkout that takes longer shows its operators where it stands. */
const SLOW_MS = 1000

const nothingSent = { step: 'reserve-stock', error: 'postponed: too many checkouts wait for these products', ms: 0 } as const

/** A checkout that is not over: to be driven again, at once or after a pause of its own. */
interface Again {
  error: Error
  /** Put back for so long: for want of room, or since a service asked for it. Otherwise the pauses grow with each try. */
  pauseMs?: number | undefined
}

/** @returns BullMQ's processor: throws to be called again */
export function createCheckoutProcessor(deps: CheckoutJobDeps): (job: Job, token?: string) => Promise<void> {
  const { checkouts, stock, clock, shipping, unavailable, reply, addAgain, logger, metrics, underWay, mostWaiting, budgetMs } = deps
  const stillOpen = createStillOpen(checkouts, clock)
  const steps = [
    reserveStock({ stock, checkouts, clock, stillOpen, unavailable }),
    createShipment(shipping, stillOpen),
    complete(checkouts),
  ]

  return async (job, token) => {
    const tasks = checkoutPayload.parse(job.data).checkouts
    if (tasks.length === 1) return byItself(job, token, tasks[0]!)
    // Run again, its worker died or stood still: some of them have jobs of their own by now, and keep those.
    if (job.attemptsStarted > 1) return eachByItself(tasks)
    // All of them, before the job may be run again: a second run would take over from attempts that are still at work.
    const ends = await Promise.allSettled(tasks.map((task) => apart(job, task)))
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed) throw failed.reason
  }

  async function eachByItself(tasks: readonly CheckoutTask[]): Promise<void> {
    await Promise.all(tasks.map((task) => addAgain({ ...task, tries: Math.max(1, task.tries) }, 0)))
  }

  async function byItself(job: Job, token: string | undefined, task: CheckoutTask): Promise<void> {
    const again = await drive(job, task)
    if (!again) return
    if (again.pauseMs === undefined) throw again.error
    await job.moveToDelayed(Date.now() + again.pauseMs, token)
    throw new DelayedError()
  }

  /** One of several in a job: if it has to be driven again, that is another job. */
  async function apart(job: Job, task: CheckoutTask): Promise<void> {
    const again = await drive(job, task).catch((error: Error): Again => ({ error }))
    if (!again) return
    // At least 1, also for one that was only put back: its next attempt number comes from PostgreSQL.
    const tries = Math.max(1, task.tries + job.attemptsMade + (again.pauseMs === undefined ? 1 : 0))
    await addAgain({ ...task, tries }, again.pauseMs ?? backoffMs(tries))
  }

  /** @throws what PostgreSQL throws where it cannot be asked how the checkout stands */
  async function drive(job: Job, task: CheckoutTask): Promise<Again | undefined> {
    const run = await begin(job, task)
    if (!run) return void (await answer(task, await checkouts.readOutcome(task.orderId)))
    if (!run.lease && run.recoveryPoint === 'intent' && stock.waiting('reserve', run.products) >= mostWaiting) {
      await checkouts.recordFailure(run, { ...nothingSent, shipmentCall: run.shipmentCall })
      return { error: new Error(nothingSent.error), pauseMs: PUT_BACK_MS }
    }
    const progress = watch(job, run, metrics)
    underWay.set(run, run.deadline - budgetMs)
    try {
      const refused = await runSaga(steps, run, progress)
      if (!refused) {
        metrics.checkouts.inc({ outcome: 'CREATED' })
        return void (await answer(task, run.outcome))
      }
      await run.record?.written().catch(() => {}) // whether there is a hold to give up
      const ended = await checkouts.end(run, refused.step === 'reserve-stock' ? 'REJECTED' : 'CANCELLED', refused.rejection)
      await answer(task, ended ? giveUp(ended) : await checkouts.readOutcome(run.orderId))
    } catch (error) {
      await run.record?.written().catch(() => {})
      const again = await afterFault(task.tries + job.attemptsMade + 1, run, progress, error as Error)
      const { orderId, attempt } = run
      logger.warn({ err: error, orderId, attempt, step: progress.step, repeated: again !== 'over' }, 'checkout step failed')
      if (again !== 'over') return { error: error as Error, pauseMs: again.pauseMs }
      await answer(task, await checkouts.readOutcome(run.orderId))
    } finally {
      progress.stop()
      underWay.delete(run)
    }
    return undefined
  }

  async function begin(job: Job, { orderId, products, lease, deadline, tries }: CheckoutTask): Promise<CheckoutRun | undefined> {
    const delivery = checkouts.readDelivery(orderId)
    delivery.catch(() => {}) // read while Catalog is asked; whoever needs it meets its failure
    const common = { orderId, deadline, delivery, record: undefined }
    if (job.attemptsStarted <= 1 && tries === 0) {
      // It was open when its intent was written: its job may have been added long after that.
      const seenOpenAt = deadline - budgetMs
      return { ...common, attempt: 1, products, lease: lease ?? undefined, recoveryPoint: 'intent', shipmentCall: 'unsent', seenOpenAt }
    }
    const seenOpenAt = clock.wallTime()
    const resumed = await checkouts.resume(orderId)
    return resumed && { ...common, ...resumed, lease: undefined, seenOpenAt }
  }

  /** @param tries failed ones, this one included. @returns whether the checkout is over (or another's), or to be driven again */
  async function afterFault(tries: number, run: CheckoutRun, progress: Progress, error: Error): Promise<'over' | Pick<Again, 'pauseMs'>> {
    await progress.tell(error.message)
    const left = {
      step: progress.step,
      error: error.message,
      ms: progress.ms(),
      shipmentCall: run.shipmentCall,
    }
    if (error instanceof Overtaken && !(await checkouts.isOpen(run))) {
      await checkouts.recordFailure(run, left)
      return 'over'
    }
    const askedMs = error instanceof StepFault ? error.retryAfterMs : 0
    const inVain = error instanceof Overtaken || clock.wallTime() + Math.max(backoffMs(tries), askedMs) >= run.deadline
    const unreachable = error instanceof StepFault && error.unreachable && tries >= UNREACHABLE_TRIES
    if (!inVain && !unreachable) {
      await checkouts.recordFailure(run, left)
      return { pauseMs: askedMs > backoffMs(tries) ? askedMs : undefined }
    }
    const rejection = error instanceof StepFault ? error.rejection : OUT_OF_TIME
    const ended = await checkouts.end(run, 'CANCELLED', rejection)
    if (ended) giveUp(ended)
    return 'over'
  }

  function giveUp({ outcome, won, freed }: Ended): Outcome {
    if (won) metrics.checkouts.inc({ outcome: outcome.state })
    if (freed.length > 0) deps.wakeReconciler(freed)
    return outcome
  }

  async function answer({ replyTo }: CheckoutTask, outcome: Outcome | undefined): Promise<void> {
    if (!outcome || replyTo === null) return // another attempt drives it, and will answer; or nobody is known to wait
    // Whoever waits looks into PostgreSQL too.
    await reply(replyTo, outcome).catch(() => {})
  }
}

interface Progress extends SagaObserver<StepName> {
  step: StepName
  /** Since this attempt began, in ms. */
  ms(): number
  tell(message: string): Promise<void>
  stop(): void
}

/** From the second try on, or after a second, the job shows where it stands. A dashboard that cannot be told changes nothing. */
function watch(job: Job, run: CheckoutRun, metrics: Metrics): Progress {
  const began = performance.now()
  const who = () => `order ${run.orderId}, attempt ${run.attempt}, ${progress.step}`
  const show = () =>
    job.updateProgress({ orderId: run.orderId, step: progress.step, attempt: run.attempt, since: new Date().toISOString() }).catch(() => {})
  const slow = setTimeout(() => {
    void show()
    void job.log(`${who()}: still running after 1 s`).catch(() => {})
  }, SLOW_MS)
  const progress: Progress = {
    step: 'reserve-stock',
    ms: () => performance.now() - began,
    began(step) {
      progress.step = step
      if (run.attempt > 1) {
        metrics.stepRetries.inc({ step })
        void show()
      }
    },
    ended(step, result, seconds) {
      metrics.stepSeconds.observe({ step, result }, seconds)
    },
    async tell(message) {
      await Promise.all([show(), job.log(`${who()}: ${message}`).catch(() => {})])
    },
    stop: () => clearTimeout(slow),
  }
  return progress
}
