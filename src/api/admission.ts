/** Who is let in: beyond what can be served within the budget a customer is told so at once, before anything is written down. */
import type { Context, Middleware } from 'koa'
import { PAUSED, UNKNOWN } from './checkout.ts'
import { Refusal, RETRY_SOON } from './refusal.ts'
import type { RefusedCheckouts } from './refused-checkouts.ts'

export interface CrowdOptions {
  /** Checkouts that may wait in this process at a time. */
  mostInFlight: number
  /** How old the oldest waiting job may be, in ms: whoever came now would wait longer than that. */
  mostBehindMs: number
  /** How old it is, as far as is known. */
  behindMs: () => number
  /** Whether operators have paused the queue, as far as is known: whoever came now would wait in vain, with products to himself. */
  isPaused: () => boolean
}

/** Lets a checkout through, or throws a 503 with `Retry-After`. It comes before the token is looked at, so that a refusal costs little in a rush. */
export function crowdLimit({ mostInFlight, mostBehindMs, behindMs, isPaused }: CrowdOptions): Middleware {
  let inFlight = 0
  return async (ctx, next) => {
    if (isPaused()) throw refusal(ctx, 503, PAUSED)
    if (inFlight >= mostInFlight || behindMs() > mostBehindMs) throw refusal(ctx, 503, 'Too many customers at the moment')
    inFlight += 1
    try {
      await next()
    } finally {
      inFlight -= 1
    }
  }
}

/** Lets a checkout of `ctx.state.customer` through, or throws a 429 with `Retry-After`. @param most checkouts of one customer at a time */
export function customerLimit(most: number): Middleware {
  const ofCustomer = new Map<string, number>()
  return async (ctx, next) => {
    const { customer } = ctx.state as { customer: string }
    const own = ofCustomer.get(customer) ?? 0
    if (own >= most) throw refusal(ctx, 429, `Not more than ${most} checkouts of one customer at a time`)
    ofCustomer.set(customer, own + 1)
    try {
      await next()
    } finally {
      const left = ofCustomer.get(customer)! - 1
      if (left === 0) ofCustomer.delete(customer)
      else ofCustomer.set(customer, left)
    }
  }
}

/** Lets a checkout of `ctx.state.customer` through, or throws a 429 with `Retry-After`: too many of this customer's were refused. */
export function refusedLimit(refused: () => Pick<RefusedCheckouts, 'waitS'>): Middleware {
  return async (ctx, next) => {
    const { customer } = ctx.state as { customer: string }
    const waitS = await refused().waitS(customer)
    if (waitS > 0) throw new Refusal(429, 'Too many checkouts of this customer were refused', { headers: { 'Retry-After': String(waitS) } })
    await next()
  }
}

/** What was asked before with the same key may stand as an order; it was not looked for, and a plain 503 would deny it. */
function refusal(ctx: Context, status: number, detail: string): Refusal {
  return new Refusal(status, detail, status === 503 && ctx.get('Idempotency-Key') !== '' ? UNKNOWN : { headers: RETRY_SOON })
}
