/** Decides what to do with a payment from what PostgreSQL has on record. Pure rules, no calls. */
import type { Payable } from '../db/payments.ts'
import type { DeadLetterFault } from '../model.ts'

export type Verdict =
  | { verdict: 'pay'; order: NonNullable<Payable['order']> }
  /** Another message with this payment was applied before, or the predecessor recorded it. */
  | { verdict: 'already-paid' }
  /** The order does not exist yet. */
  | { verdict: 'wait'; reason: string }
  | { verdict: 'dead'; fault: DeadLetterFault; reason: string }

export interface VerdictOptions {
  /** How long an order may take to appear, in ms. */
  graceMs: number
  /** `off` for stacks whose payments carry no amounts. */
  amountCheck: 'strict' | 'off'
}

/**
 * A payment that arrives before its order waits. The amount is compared first: a person has to refund a wrong amount, also where the order
 * is already PAID.
 */
export function judge(payable: Payable, { graceMs, amountCheck }: VerdictOptions): Verdict {
  const { orderId, order, checkout, amountCents, currency } = payable
  if (!order) {
    if (checkout === 'REJECTED' || checkout === 'CANCELLED')
      return dead('cancelled', `checkout ${orderId} was ${checkout}; there is no order`)
    const reason = checkout === undefined ? `there is no order ${orderId}` : `checkout ${orderId} is still ${checkout}`
    return payable.waitedMs < graceMs
      ? { verdict: 'wait', reason }
      : dead('unknown-order', `${reason} after ${Math.round(graceMs / 1000)} s`)
  }
  if (amountCheck === 'strict' && (amountCents !== order.totalCents || currency !== order.currency)) {
    const was = `${amountCents ?? 'no amount'} ${currency ?? 'without a currency'}`
    return dead('wrong-amount', `${was} was paid, but order ${orderId} costs ${order.totalCents} ${order.currency}`)
  }
  if (order.status === 'CREATED') return { verdict: 'pay', order }
  if (order.status !== 'PAID') return dead('cancelled', `order ${orderId} is ${order.status}`)
  if (payable.paidByAnother) return dead('second-payment', `order ${orderId} was already paid by another payment`)
  return { verdict: 'already-paid' }
}

const dead = (fault: DeadLetterFault, reason: string): Verdict => ({ verdict: 'dead', fault, reason })
