/** Waits for the outcome of a checkout: by its job's reply, by polling PostgreSQL, or until the budget is spent and it is cancelled. */
import type { Clock } from '../clock.ts'
import type { Claim, Intents } from '../db/intents.ts'
import type { Outcome, Rejection } from '../model.ts'
import type { CheckoutQueue } from '../queues/checkout.ts'
import type { Replies } from '../queues/replies.ts'
import { within } from '../within.ts'
import { untilEnded } from './until-ended.ts'

/** What waiting needs. Everything answers or throws in bounded time, except PostgreSQL, whose answers are bounded here. */
export interface WaitDeps {
  checkouts: {
    /** undefined while the checkout is OPEN */
    readOutcome(orderId: number): Promise<Outcome | undefined>
    /** OPEN -> CANCELLED, or its present outcome. Must also wake the reconciler for the products that the checkout held. */
    cancel(orderId: number, rejection: Rejection): Promise<Outcome>
  }
  queue: Pick<CheckoutQueue, 'add'>
  /** Whether operators have paused the queue, as last polled. */
  isPaused(): boolean
  replies: Pick<Replies, 'channel' | 'expect'>
  clock: Pick<Clock, 'databaseTime'>
}

/** How a wait ended, and the error in it. `unknown`: PostgreSQL does not answer, and the checkout may still become an order. */
export type Ending = (Outcome | { state: 'unknown' }) & { cause?: unknown }

/** A checkout that this request has just written. */
export type StartedCheckout = Extract<Awaited<ReturnType<Intents['intend']>>, { claim: 'new' }>

export interface Waits {
  /** Adds the job of a new checkout and waits for the outcome. Never rejects. */
  drive(started: StartedCheckout, began: number): Promise<Ending>
  /** Waits for an open checkout that another request started, in this process or in another. Never rejects. */
  join(claim: Claim): Promise<Ending>
}

/** A lost reply delays an answer by at most this time. */
const POLL_MS = 1000
/** A request that joins another process's checkout gets no reply: it polls at once, then less often. */
const joinerPauseMs = (reads: number) => Math.min(100 * 1.25 ** reads, 250)
/** A joiner cancels this much later than the deadline, since the request that drives the checkout cancels first. */
const JOINER_GRACE_MS = 1000
/** How long PostgreSQL may take to cancel a checkout whose budget is spent. */
const CANCEL_MS = 2000

/** The detail for customers who come while operators have paused the queue. */
export const PAUSED = 'Orders are paused at the moment'
const PAUSED_MEANWHILE = { status: 503, detail: `${PAUSED}; nothing was ordered` }
const TIMED_OUT = { status: 503, detail: 'Catalog or Shipping took too long; nothing was ordered' }
const NOT_QUEUED = { status: 503, detail: 'The checkout could not be started; nothing was ordered' }

/** @param budgetMs how long a checkout may take, counted from its intent */
export function createWaits(deps: () => WaitDeps, budgetMs: number): Waits {
  /** The checkouts that this process waits for. Later requests for one of them share its wait. */
  const running = new Map<number, Promise<Ending>>()

  async function cancelled(orderId: number, rejection: Rejection): Promise<Ending> {
    return within(CANCEL_MS, deps().checkouts.cancel(orderId, rejection)).catch((cause: unknown) => ({ state: 'unknown', cause }))
  }

  const timedOut = () => (deps().isPaused() ? PAUSED_MEANWHILE : TIMED_OUT)

  async function addAndWait({ orderId, products, lease, deadlineAt }: StartedCheckout, began: number): Promise<Ending> {
    const { queue, replies, checkouts } = deps()
    // Before the job is added, because the reply can arrive before Redis confirms the job.
    const { outcome: reply, forget } = replies.expect(orderId)
    try {
      try {
        await queue.add({ orderId, products, lease: lease ?? null, deadline: deadlineAt.getTime(), replyTo: replies.channel })
      } catch (cause) {
        return { cause, ...(await cancelled(orderId, NOT_QUEUED)) } // the job may have been added, and even be done
      }
      const outcome = await untilEnded({
        reply,
        read: () => checkouts.readOutcome(orderId),
        pauseMs: () => POLL_MS,
        forMs: Math.max(0, began + budgetMs - performance.now()),
      })
      return outcome ?? (await cancelled(orderId, timedOut()))
    } finally {
      forget()
    }
  }

  async function poll({ orderId, deadlineAt }: Claim): Promise<Ending> {
    const outcome = await untilEnded({
      read: () => deps().checkouts.readOutcome(orderId),
      pauseMs: joinerPauseMs,
      forMs: Math.min(budgetMs, Math.max(0, deadlineAt.getTime() - deps().clock.databaseTime()) + JOINER_GRACE_MS),
    })
    return outcome ?? (await cancelled(orderId, timedOut()))
  }

  function shared(orderId: number, wait: Promise<Ending>): Promise<Ending> {
    const ending = wait.finally(() => {
      if (running.get(orderId) === ending) running.delete(orderId)
    })
    running.set(orderId, ending)
    return ending
  }

  return {
    // A new checkout is always driven, even if a repeat that read its row first already polls for it here.
    drive: (started, began) => shared(started.orderId, addAndWait(started, began)),
    join: (claim) => running.get(claim.orderId) ?? shared(claim.orderId, poll(claim)),
  }
}
