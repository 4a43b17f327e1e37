/**
 * Checkout: the intent is written, a job drives it, and the customer waits for what becomes of it. Nothing is done here about stock
 * or shipment; whoever flips the checkout's state in PostgreSQL decides, and here one only asks, or cancels when the time is over.
 */
import type { Context, Middleware } from 'koa'
import type { Clock } from '../clock.ts'
import type { Carts } from '../clients/cart.ts'
import type { Claim, Intents } from '../db/intents.ts'
import { PoolExhausted } from '../db/semaphore.ts'
import { sqlState } from '../db/pool.ts'
import { OutOfNumbers } from '../db/sequences.ts'
import type { Intent, Outcome, Rejection } from '../model.ts'
import type { CheckoutQueue } from '../queues/checkout.ts'
import type { Replies } from '../queues/replies.ts'
import { type CheckoutRequest, keyOf, readCheckoutRequest, readIdempotencyKey } from './checkout-request.ts'
import { answer, Refusal, RETRY_LATER, RETRY_SOON } from './refusal.ts'
import type { RefusedCheckouts } from './refused-checkouts.ts'
import { within } from '../within.ts'
import { untilEnded } from './wait.ts'

/** What a checkout needs. All of it answers or throws in bounded time, save where PostgreSQL stands still: that is bounded here. */
export interface CheckoutDeps {
  carts: Carts
  intents: Intents
  checkouts: {
    /** undefined while the checkout is OPEN */
    readOutcome(orderId: number): Promise<Outcome | undefined>
    /** OPEN -> CANCELLED, or what it has become meanwhile. Whoever passes this in also wakes the reconciler for the products it freed. */
    cancel(orderId: number, rejection: Rejection): Promise<Outcome>
  }
  queue: Pick<CheckoutQueue, 'add'>
  /** Whether operators have paused the queue, as far as is known. */
  isPaused(): boolean
  replies: Pick<Replies, 'channel' | 'expect'>
  refused: Pick<RefusedCheckouts, 'count'>
  clock: Pick<Clock, 'wallTime'>
}

/** How a wait ended, and what went wrong in it. `unknown`: PostgreSQL cannot be asked, and what it holds may yet become an order. */
type Ending = (Outcome | { state: 'unknown' }) & { cause?: unknown }

/** A lost reply costs this at the most. */
const LOOK_EVERY_MS = 1000
/** Who joins a checkout of another process gets no reply: looks at once, then more and more seldom. */
const joinerPauseMs = (looks: number) => Math.min(100 * 1.25 ** looks, 250)
/** What a joiner grants beyond the deadline before it cancels: whoever waits for the checkout does that first. */
const JOINER_GRACE_MS = 1000
/** How long PostgreSQL may take to say what became of a checkout whose time is over. */
const LAST_ANSWER_MS = 2000

/** The detail for customers who come while operators have paused the queue. */
export const PAUSED = 'Orders are paused at the moment'
const PAUSED_MEANWHILE = { status: 503, detail: `${PAUSED}; nothing was ordered` }
const TIME_IS_OVER = { status: 503, detail: 'Catalog or Shipping took too long; nothing was ordered' }
const NOT_QUEUED = { status: 503, detail: 'The checkout could not be started; nothing was ordered' }

/**
 * Answers `POST /order/v1/orders/checkout`: 200 with the order, or the refusal. A customer that goes away meanwhile changes nothing.
 * @param budgetMs how long a checkout may take from its intent on
 * @returns a handler that takes the customer from `ctx.state.customer` and the parsed body from `ctx.request.body`
 */
export function checkoutHandler(deps: () => CheckoutDeps, budgetMs: number): Middleware {
  /** Checkouts that this process waits for, so that whoever joins one here waits along. */
  const running = new Map<number, Promise<Ending>>()

  /** Never rejects. */
  async function cancelled(orderId: number, rejection: Rejection): Promise<Ending> {
    return within(LAST_ANSWER_MS, deps().checkouts.cancel(orderId, rejection)).catch((cause: unknown) => ({ state: 'unknown', cause }))
  }

  const timeIsOver = () => (deps().isPaused() ? PAUSED_MEANWHILE : TIME_IS_OVER)

  /** Adds the job and waits. The reply is expected before the job is there, since it can be quicker than the answer of Redis. */
  async function drive(started: Extract<Awaited<ReturnType<Intents['intend']>>, { claim: 'new' }>, began: number): Promise<Ending> {
    const { orderId, products, lease, deadlineAt } = started
    const { queue, replies, checkouts } = deps()
    const { outcome: reply, forget } = replies.expect(orderId)
    try {
      try {
        await queue.add({ orderId, products, lease: lease ?? null, deadline: deadlineAt.getTime(), replyTo: replies.channel })
      } catch (cause) {
        return { cause, ...(await cancelled(orderId, NOT_QUEUED)) } // it may have been added all the same, and done
      }
      const outcome = await untilEnded({
        reply,
        look: () => checkouts.readOutcome(orderId),
        pauseMs: () => LOOK_EVERY_MS,
        forMs: Math.max(0, began + budgetMs - performance.now()),
      })
      return outcome ?? (await cancelled(orderId, timeIsOver()))
    } finally {
      forget()
    }
  }

  /** Waits for a checkout that another process waits for, or none any more. */
  async function join({ orderId, deadlineAt }: Claim): Promise<Ending> {
    const outcome = await untilEnded({
      look: () => deps().checkouts.readOutcome(orderId),
      pauseMs: joinerPauseMs,
      forMs: Math.min(budgetMs, Math.max(0, deadlineAt.getTime() - deps().clock.wallTime()) + JOINER_GRACE_MS),
    })
    return outcome ?? (await cancelled(orderId, timeIsOver()))
  }

  /** Whoever comes to this checkout in this process from now on waits along. */
  function shared(orderId: number, wait: Promise<Ending>): Promise<Ending> {
    const ending = wait.finally(() => {
      if (running.get(orderId) === ending) running.delete(orderId)
    })
    running.set(orderId, ending)
    return ending
  }

  /** The key is somebody's already: the same answer again, or the same wait, or a refusal where it came with another body. */
  async function answerClaim(ctx: Context, claim: Claim, { requestHash }: CheckoutRequest): Promise<void> {
    if (claim.requestHash !== requestHash) throw new Refusal(422, 'Idempotency-Key was used with another body before')
    if (claim.state === 'OPEN') {
      return answerEnding(ctx, claim.orderId, await (running.get(claim.orderId) ?? shared(claim.orderId, join(claim))))
    }
    ctx.set('Idempotency-Replayed', 'true')
    return answerEnding(ctx, claim.orderId, { ...claim, state: 'CREATED' })
  }

  return async (ctx) => {
    const request = readCheckoutRequest(ctx.request.body)
    const key = readIdempotencyKey(ctx)
    const { customer } = ctx.state as { customer: string }

    // Before the cart, which may have been cleared since: what was answered once is answered so again.
    if (key !== undefined) {
      const claim = await within(budgetMs, deps().intents.findClaim(customer, key)).catch((cause: unknown) => {
        throw outcomeUnknown(cause) // an order may stand under the key: a plain 503 would deny it
      })
      if (claim) return answerClaim(ctx, claim, request)
    }

    const { lines, totalCents } = await readCart(deps().carts, customer)
    const began = performance.now()
    const intended = await intend(
      {
        userEmail: customer,
        idempotencyKey: key ?? keyOf(request.requestHash, lines),
        requestHash: request.requestHash,
        lines,
        address: request.address,
        totalCents,
        budgetMs,
      },
      key !== undefined,
    )
    if (intended.claim === 'drained') throw drained(key !== undefined)
    if (intended.claim === 'taken') return answerClaim(ctx, intended, request)
    // Always driven, though a repeat that saw the row before we heard of it may wait for it here already.
    const ending = await shared(intended.orderId, drive(intended, began))
    if (ending.state !== 'unknown' && ending.state !== 'CREATED') await deps().refused.count(customer)
    return answerEnding(ctx, intended.orderId, ending)
  }

  async function intend(intent: Intent, keyed: boolean) {
    try {
      return await within(budgetMs, deps().intents.intend(intent))
    } catch (error) {
      if (!certainlyNotWritten(error)) throw outcomeUnknown(error)
      // Another request with this key may have been let in since we looked.
      throw keyed ? outcomeUnknown(error) : new Refusal(503, 'Orders cannot be taken at the moment', { headers: RETRY_SOON, cause: error })
    }
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

/** The four fields that some clients compare whole; more goes into headers. */
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

/** What goes with the one 5xx after which an order may stand, for programs to see. */
export const UNKNOWN = { headers: { ...RETRY_SOON, 'Checkout-Outcome': 'unknown' }, fields: { outcome: 'unknown' } }

/** PostgreSQL cannot be asked what became of a checkout, and what it holds may yet become an order. */
const outcomeUnknown = (cause: unknown) => new Refusal(503, 'Outcome unknown; repeat with the same Idempotency-Key', { ...UNKNOWN, cause })

/** Nothing was ordered by this request; one with the same key that came at the moment of the drain may have been let in. */
function drained(keyed: boolean): Refusal {
  const detail = 'New orders are not taken at the moment'
  return new Refusal(503, detail, keyed ? { ...UNKNOWN, headers: { ...UNKNOWN.headers, ...RETRY_LATER } } : { headers: RETRY_LATER })
}

/**
 * Whether a failed statement left nothing behind: it never reached PostgreSQL, or was refused there. Not so where the connection
 * broke (class 08), where the server went down in mid-statement (57P01, 57P02) or says itself that it does not know (40003).
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
