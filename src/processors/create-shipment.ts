/**
 * Creates the order's draft shipment. Shipping cannot delete one, and a second shipment of one order breaks it. So a call that may have
 * reached Shipping is never sent again; the step only reads whether the shipment exists.
 */
import { NoAnswer } from '../clients/http.ts'
import type { Shipping } from '../clients/shipping.ts'
import type { Fault } from '../causes.ts'
import type { StepName } from '../model.ts'
import { type CheckoutRun, Overtaken, SHIPPING_UNREACHABLE, StepFault } from './checkout-run.ts'
import type { Step } from './saga.ts'
import type { StillOpen } from './still-open.ts'

const shippingFailed = { status: 502, detail: 'Shipping failed' }

export function createShipment(shipping: Shipping, stillOpen: StillOpen): Step<StepName, CheckoutRun> {
  return {
    name: 'create-shipment',

    async do(run) {
      if (run.shipmentCall !== 'unsent') {
        if (await shipping.has(run.orderId).catch((error: unknown) => asFault(error, run))) return
        // A call without an answer may still arrive. A call that Shipping answered with a 5xx is over, and created nothing.
        if (run.shipmentCall === 'unknown') {
          const rejection = { status: 503, detail: 'Shipping did not answer' }
          const fault: Fault = { cause: 'downstream-timeout', service: 'shipping' }
          throw new StepFault('Shipping has no shipment of this order yet', rejection, { fault })
        }
      }
      const { userEmail, address } = await run.delivery
      const before = run.shipmentCall
      run.shipmentCall = 'unknown'
      const draft = { order_id: run.orderId, user_email: userEmail, ...address }
      // While Shipping is slow calls queue, and some for longer than their customers wait.
      const mayGo = async () => {
        if (await stillOpen(run)) return true
        throw new Overtaken('checkout ended, was taken over or passed its deadline before its shipment was created')
      }
      const answer = await shipping.create(draft, `checkout:${run.orderId}:shipment`, mayGo).catch((error: unknown) => {
        const mayHaveArrived = error instanceof NoAnswer && error.sent
        if (!mayHaveArrived) run.shipmentCall = before
        return asFault(error, run)
      })
      if (answer.answer === 'created') return
      run.shipmentCall = 'answered'
      if (answer.answer === 'refused') return { status: 502, detail: `Shipping refused: ${answer.detail}`, fault: answer.fault }
      throw new StepFault(`shipping create: ${answer.detail}`, shippingFailed, { retryAfterMs: answer.retryAfterMs, fault: answer.fault })
    },
  }
}

function asFault(error: unknown, { shipmentCall }: CheckoutRun): never {
  if (!(error instanceof NoAnswer)) throw error
  const { sent, retryAfterMs } = error
  if (sent && shipmentCall === 'answered') throw new StepFault(error.message, shippingFailed, { retryAfterMs, cause: error })
  const rejection = sent ? { status: 503, detail: 'Shipping did not answer' } : SHIPPING_UNREACHABLE
  throw new StepFault(error.message, rejection, { unreachable: !sent, retryAfterMs, cause: error })
}
