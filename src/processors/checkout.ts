/**
 * The job that drives one checkout: its steps, and what follows from how they end. BullMQ repeats it with growing pauses for as long
 * as a fault lasts and the deadline allows; every repeat takes a number of its own from PostgreSQL and goes on from what is on record.
 */
import { DelayedError, type Job } from 'bullmq'
import type { Checkouts, Ended } from '../db/checkouts.ts'
import type { Shipping } from '../clients/shipping.ts'
import type { Outcome, Rejection, StepName } from '../model.ts'
import { backoffMs, type CheckoutPayload, checkoutPayload } from '../queues/checkout.ts'
import type { StockParts } from '../stock/stock-call.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { type CheckoutRun, Overtaken, StepFault } from './checkout-run.ts'
import { complete } from './complete.ts'
import { createShipment } from './create-shipment.ts'
import { reserveStock } from './reserve-stock.ts'
import { runSaga, type SagaObserver } from './saga.ts'

export interface CheckoutParts {
  checkouts: Checkouts
  stock: StockParts
  shipping: Shipping
  /** Sends the outcome to whoever waits for it. */
  reply(replyTo: string, outcome: Outcome): Promise<void>
  logger: Logger
  metrics: Metrics
  /** Beyond so many that wait for leases, a job is put back for a moment: it takes no one's place. */
  mostWaiting: number
}

/** A neighbour that refuses connections is given up after so many tries: 0.7 s of pauses, and what the tries take. */
const UNREACHABLE_TRIES = 4
const PUT_BACK_MS = 250
/** A checkout that takes longer shows its operators where it stands. */
const SLOW_MS = 1000

const outOfTime: Rejection = { status: 503, detail: 'The checkout took too long' }

/** @returns BullMQ's processor: throws to be called again */
export function createCheckoutProcessor(parts: CheckoutParts): (job: Job, token?: string) => Promise<void> {
  const { checkouts, stock, shipping, reply, logger, metrics, mostWaiting } = parts
  const steps = [reserveStock(stock, checkouts), createShipment(shipping), complete(checkouts)]

  return async (job, token) => {
    const payload = checkoutPayload.parse(job.data)
    const run = await begin(job, payload)
    if (!run) return answer(payload, await checkouts.readOutcome(payload.orderId))
    const log = logger.child({ orderId: run.orderId, attempt: run.attempt })
    if (stock.leases.waiting() >= mostWaiting) return putBack(job, token, run)

    const progress = watch(job, run, metrics)
    try {
      if (Date.now() >= run.deadline) throw new StepFault('the deadline has passed', outOfTime)
      const refused = await runSaga(steps, run, progress)
      if (!refused) return await answer(payload, run.outcome)
      await run.recorded.catch(() => {}) // whether there is a hold to give up
      const ended = await checkouts.end(run, refused.step === 'reserve-stock' ? 'REJECTED' : 'CANCELLED', refused.rejection)
      await answer(payload, ended ? giveUp(ended) : await checkouts.readOutcome(run.orderId))
    } catch (error) {
      await run.recorded.catch(() => {})
      const outcome = await afterFault(job, run, progress, error)
      log.warn({ err: error, step: progress.step, outcome: outcome?.state ?? 'to be repeated' }, 'checkout step failed')
      if (outcome === undefined) throw error
      await answer(payload, outcome)
    } finally {
      progress.stop()
    }
  }

  async function begin(job: Job, { orderId, products, deadline }: CheckoutPayload): Promise<CheckoutRun | undefined> {
    const delivery = checkouts.readDelivery(orderId)
    delivery.catch(() => {}) // read while Catalog is asked; whoever needs it meets its failure
    const common = { orderId, deadline, delivery, recorded: Promise.resolve(), reserveCall: 'unknown' as const }
    if (job.attemptsStarted <= 1) return { ...common, attempt: 1, products, recoveryPoint: 'intent', shipmentCall: 'unsent' }
    const resumed = await checkouts.resume(orderId)
    if (!resumed) return undefined
    return { ...common, ...resumed, products: resumed.products.map((product) => ({ ...product, epoch: null })) }
  }

  async function putBack(job: Job, token: string | undefined, run: CheckoutRun): Promise<never> {
    await checkouts.leave(run, {
      step: 'reserve-stock',
      error: 'waits for stock',
      ms: 0,
      reserveCall: 'settled',
      shipmentCall: run.shipmentCall,
    })
    await job.moveToDelayed(Date.now() + PUT_BACK_MS, token)
    throw new DelayedError()
  }

  /** @returns how the checkout has ended; undefined where the job is to run again */
  async function afterFault(job: Job, run: CheckoutRun, progress: Progress, error: unknown): Promise<Outcome | undefined> {
    const message = error instanceof Error ? error.message : String(error)
    await progress.tell(message)
    const left = { step: progress.step, error: message, ms: progress.ms(), reserveCall: run.reserveCall, shipmentCall: run.shipmentCall }
    if (error instanceof Overtaken) {
      const outcome = await checkouts.readOutcome(run.orderId)
      if (outcome) {
        await checkouts.leave(run, left)
        return outcome
      }
      // Still open: past its deadline, or another attempt's, which the conditional end below finds out.
    }
    const tries = job.attemptsMade + 1
    const inVain = Date.now() + backoffMs(tries) >= run.deadline
    const unreachable = error instanceof StepFault && error.unreachable && tries >= UNREACHABLE_TRIES
    if (!inVain && !unreachable && !(error instanceof Overtaken)) {
      await checkouts.leave(run, left)
      return undefined
    }
    const rejection = error instanceof StepFault ? error.rejection : outOfTime
    // Without knowing what became of its own calls, an attempt ends the checkout as a stranger would: they stay in doubt.
    const ended =
      run.reserveCall === 'settled' ? await checkouts.end(run, 'CANCELLED', rejection) : await checkouts.cancel(run.orderId, rejection)
    return ended ? giveUp(ended) : await checkouts.readOutcome(run.orderId)
  }

  function giveUp({ outcome, freed }: Ended): Outcome {
    if (freed.length > 0) stock.wakeMender(freed)
    return outcome
  }

  async function answer(payload: CheckoutPayload, outcome: Outcome | undefined): Promise<void> {
    if (!outcome) return // another attempt drives it, and will answer
    metrics.checkouts.inc({ outcome: outcome.state })
    // Whoever waits looks into PostgreSQL too.
    await reply(payload.replyTo, outcome).catch(() => {})
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
  const show = () => job.updateProgress({ step: progress.step, attempt: run.attempt, since: new Date().toISOString() }).catch(() => {})
  const slow = setTimeout(() => {
    void show()
    void job.log(`attempt ${run.attempt}, ${progress.step}: under way for a second`).catch(() => {})
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
      await Promise.all([show(), job.log(`attempt ${run.attempt}, ${progress.step}: ${message}`).catch(() => {})])
    },
    stop: () => clearTimeout(slow),
  }
  return progress
}
