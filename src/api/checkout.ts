/**
 * `POST /order/v1/orders/checkout`: writes the intent, adds a job that drives it, and waits for the outcome. Stock and shipment are the
 * job's work. The checkout's state in PostgreSQL decides; this file reads it, and cancels the checkout when its budget is spent.
 */
import type { Context, Middleware } from 'koa'
import type { Carts } from '../clients/cart.ts'
import type { Claim, Intents } from '../db/intents.ts'
import { PoolExhausted } from '../db/semaphore.ts'
import { sqlState } from '../db/pool.ts'
import { OutOfNumbers } from '../db/sequences.ts'
import type { Intent } from '../model.ts'
import { type CheckoutRequest, keyOf, readCheckoutRequest, readIdempotencyKey } from './checkout-request.ts'
import { createWaits, type Ending, type WaitDeps } from './checkout-waits.ts'
import { answer, Refusal, RETRY_LATER, RETRY_SOON } from './refusal.ts'
import type { RefusedCheckouts } from './refused-checkouts.ts'
import { within } from '../within.ts'

/** What a checkout needs. */
export interface CheckoutDeps extends WaitDeps {
  carts: Carts
  intents: Intents
  refused: Pick<RefusedCheckouts, 'count'>
}

/**
 * Answers 200 with the order, or throws the refusal. A customer who disconnects meanwhile changes nothing.
 * @param budgetMs how long a checkout may take, counted from its intent
 * @returns a handler that takes the customer from `ctx.state.customer` and the parsed body from `ctx.request.body`
 */
export function checkoutHandler(deps: () => CheckoutDeps, budgetMs: number): Middleware {
  const waits = createWaits(deps, budgetMs)

  /** The key is already claimed: gives the same answer again, waits along, or refuses a different body. */
  async function answerClaim(ctx: Context, claim: Claim, { requestHash }: CheckoutRequest): Promise<void> {
    if (claim.requestHash !== requestHash) throw new Refusal(422, 'Idempotency-Key was already used with another body')
    if (claim.state === 'OPEN') return answerEnding(ctx, claim.orderId, await waits.join(claim))
    ctx.set('Idempotency-Replayed', 'true')
    return answerEnding(ctx, claim.orderId, { ...claim, state: 'CREATED' })
  }

  return async (ctx) => {
    const request = readCheckoutRequest(ctx.request.body)
    const key = readIdempotencyKey(ctx)
    const { customer } = ctx.state as { customer: string }

    // Before the cart, which may have been cleared since: a repeat gets its first answer again.
    if (key !== undefined) {
      const claim = await within(budgetMs, deps().intents.findClaim(customer, key)).catch((cause: unknown) => {
        throw outcomeUnknown(cause) // the key may have an order, which a plain 503 would deny
      })
      if (claim) return answerClaim(ctx, claim, request)
    }

    const { lines, totalCents } = await readCart(deps().carts, customer)
    const began = performance.now()
    const intent: Intent = {
      userEmail: customer,
      idempotencyKey: key ?? keyOf(request.requestHash, lines),
      requestHash: request.requestHash,
      lines,
      address: request.address,
      totalCents,
      budgetMs,
    }
    const intended = await intend(deps().intents, intent, key !== undefined)
    if (intended.claim === 'drained') throw drained(key !== undefined)
    if (intended.claim === 'taken') return answerClaim(ctx, intended, request)
    const ending = await waits.drive(intended, began)
    if (ending.state !== 'unknown' && ending.state !== 'CREATED') await deps().refused.count(customer)
    return answerEnding(ctx, intended.orderId, ending)
  }
}

/** @param keyed whether the customer sent an Idempotency-Key */
async function intend(intents: Intents, intent: Intent, keyed: boolean) {
  try {
    return await within(intent.budgetMs, intents.intend(intent))
  } catch (error) {
    if (!certainlyNotWritten(error)) throw outcomeUnknown(error)
    // Another request with this key may have been accepted since the key was read.
    throw keyed ? outcomeUnknown(error) : new Refusal(503, 'Orders cannot be taken at the moment', { headers: RETRY_SOON, cause: error })
  }
}

async function readCart(carts: Carts, customer: string) {
  const cart = await carts.read(customer).catch((cause: unknown) => {
    throw new Refusal(503, 'The cart cannot be read at the moment', { headers: RETRY_SOON, cause })
  })
  if (cart.cart === 'empty') throw new Refusal(400, 'Cart is empty')
  if (cart.cart === 'malformed') throw new Refusal(422, cart.detail)
  return cart
}

/** The body has exactly four fields, because some clients compare it whole. Everything else goes into headers. */
function answerEnding(ctx: Context, orderId: number, ending: Ending): void {
  ctx.state.orderId = orderId
  ctx.set('Order-Id', String(orderId))
  if (ending.state === 'unknown') throw outcomeUnknown(ending.cause)
  if (ending.state === 'CREATED') {
    return answer(ctx, 200, { order_id: orderId, status: 'CREATED', total_cents: ending.totalCents, currency: ending.currency })
  }
  const { status, detail, cause } = ending
  throw new Refusal(status, detail, { headers: status === 503 ? RETRY_SOON : {}, cause })
}

/** Headers and fields by which programs recognise a 503 after which an order may exist. */
export const UNKNOWN = { headers: { ...RETRY_SOON, 'Checkout-Outcome': 'unknown' }, fields: { outcome: 'unknown' } }

/** PostgreSQL does not answer, and the checkout may still become an order. */
const outcomeUnknown = (cause: unknown) => new Refusal(503, 'Outcome unknown; repeat with the same Idempotency-Key', { ...UNKNOWN, cause })

/** This request ordered nothing. An earlier one with the same key may have been accepted just before the drain. */
function drained(keyed: boolean): Refusal {
  const detail = 'New orders are not taken at the moment'
  return new Refusal(503, detail, keyed ? { ...UNKNOWN, headers: { ...UNKNOWN.headers, ...RETRY_LATER } } : { headers: RETRY_LATER })
}

/**
 * Whether a failed statement certainly wrote nothing: it never reached PostgreSQL, or PostgreSQL refused it. That is unknown if the
 * connection broke (class 08), the server went down in mid-statement (57P01, 57P02), or it says so itself (40003).
 */
function certainlyNotWritten(error: unknown): boolean {
  if (error instanceof PoolExhausted || error instanceof OutOfNumbers) return true
  const state = sqlState(error)
  if (state !== undefined) return !/^(08|57P01|57P02|40003|XX)/.test(state)
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (/^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN)$/.test(String((cause as { code?: unknown }).code))) return true
  }
  return false
}
