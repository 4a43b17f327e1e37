/** Admission limits. Checkouts that cannot be served within the budget are refused at once, before anything is written. */
import type { Context, Middleware } from 'koa'
import { UNKNOWN } from './checkout.ts'
import { PAUSED } from './checkout-waits.ts'
import { Refusal, RETRY_SOON } from './refusal.ts'
import type { RefusedCheckouts } from './refused-checkouts.ts'

export interface CrowdOptions {
  /** How many checkouts may wait in this process at a time. */
  mostInFlight: number
  /** How old the oldest waiting job may be, in ms. A new checkout would wait at least that long. */
  mostBehindMs: number
  /** The age of the oldest waiting job, in ms, as last polled. */
  behindMs: () => number
  /** Whether operators have paused the queue, as last polled. A new checkout would only wait, and keep its products from others. */
  isPaused: () => boolean
}

/** Admits a checkout, or throws a 503 with `Retry-After`. It runs before the token is verified, so that a refusal is cheap in a rush. */
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

/** Admits a checkout of `ctx.state.customer`, or throws a 429 with `Retry-After`. @param most checkouts of one customer at a time */
export function customerLimit(most: number): Middleware {
  const inFlightOf = new Map<string, number>()
  return async (ctx, next) => {
    const { customer } = ctx.state as { customer: string }
    const own = inFlightOf.get(customer) ?? 0
    if (own >= most) throw refusal(ctx, 429, `At most ${most} checkouts of one customer can run at a time`)
    inFlightOf.set(customer, own + 1)
    try {
      await next()
    } finally {
      const left = inFlightOf.get(customer)! - 1
      if (left === 0) inFlightOf.delete(customer)
      else inFlightOf.set(customer, left)
    }
  }
}

/** Admits a checkout of `ctx.state.customer`, or throws a 429 with `Retry-After` if too many of this customer's checkouts were refused. */
export function refusedLimit(refused: () => Pick<RefusedCheckouts, 'waitS'>): Middleware {
  return async (ctx, next) => {
    const { customer } = ctx.state as { customer: string }
    const waitS = await refused().waitS(customer)
    if (waitS > 0) throw new Refusal(429, 'Too many checkouts of this customer were refused', { headers: { 'Retry-After': String(waitS) } })
    await next()
  }
}

/** An earlier request with the same key may have an order. Nobody has looked for it, and a plain 503 would deny it. */
function refusal(ctx: Context, status: number, detail: string): Refusal {
  return new Refusal(status, detail, status === 503 && ctx.get('Idempotency-Key') !== '' ? UNKNOWN : { headers: RETRY_SOON })
}
