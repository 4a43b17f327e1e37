/**
 * Drafts the order's shipment. Shipping deletes nothing, and a second shipment of one order breaks it: what may have been sent is
 * never sent again, only looked for.
 */
import { NoAnswer } from '../clients/http.ts'
import type { Shipping } from '../clients/shipping.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { StepName } from '../model.ts'
import type { Clock } from '../stock/mending.ts'
import { type CheckoutRun, OUT_OF_TIME, StepFault } from './checkout-run.ts'
import type { Step } from './saga.ts'

const shippingFailed = { status: 502, detail: 'Shipping failed' }

/** So long nobody can have taken over: a job's lock lasts 3 s, and a checkout that has lost its job is rescued after 4. */
const OURS_FOR_MS = 1000

export function createShipment(
  shipping: Shipping,
  checkouts: Pick<Checkouts, 'isOpen'>,
  clock: Pick<Clock, 'wallTime'>,
): Step<StepName, CheckoutRun> {
  /** A process may have stood still, or waited long for its turn: no draft is made for what becomes no order, or for another attempt's. */
  async function mayGo(run: CheckoutRun): Promise<boolean> {
    const now = clock.wallTime()
    return now < run.deadline && (now - run.takenAt < OURS_FOR_MS || checkouts.isOpen(run))
  }

  return {
    name: 'create-shipment',

    async do(run) {
      // Nobody waits any more.
      if (clock.wallTime() >= run.deadline) throw new StepFault('the deadline has passed', OUT_OF_TIME)
      if (run.shipmentCall !== 'unsent') {
        if (await shipping.has(run.orderId).catch((error: unknown) => asFault(error, run))) return
        // One that got no answer may still arrive. One that Shipping answered with a 5xx is over, and left nothing.
        if (run.shipmentCall === 'unknown') {
          throw new StepFault('shipping has no shipment (yet)', { status: 503, detail: 'Shipping did not answer' })
        }
      }
      const { userEmail, address } = await run.delivery
      const before = run.shipmentCall
      run.shipmentCall = 'unknown'
      const draft = { order_id: run.orderId, user_email: userEmail, ...address }
      const answer = await shipping
        .create(draft, `checkout:${run.orderId}:shipment`, () => mayGo(run))
        .catch((error: unknown) => {
          if (!(error instanceof NoAnswer && error.sent)) run.shipmentCall = before
          return asFault(error, run)
        })
      if (answer.answer === 'created') return
      run.shipmentCall = 'answered'
      const rejection = { status: 502, detail: `Shipping refused: ${answer.detail}` }
      if (answer.answer === 'refused') return rejection
      throw new StepFault(`shipping create: ${answer.detail}`, shippingFailed)
    },
  }
}

function asFault(error: unknown, { shipmentCall }: CheckoutRun): never {
  if (!(error instanceof NoAnswer)) throw error
  if (error.sent && shipmentCall === 'answered') throw new StepFault(error.message, shippingFailed, { cause: error })
  const rejection = { status: 503, detail: error.sent ? 'Shipping did not answer' : 'Shipping is unreachable' }
  throw new StepFault(error.message, rejection, { unreachable: !error.sent, cause: error })
}
