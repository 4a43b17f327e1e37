/** Checkouts in PostgreSQL: reads, and the statements that change them. Statements of one kind that come together are sent as one. */
import { batcher } from '../batcher.ts'
import type { Clock } from '../clock.ts'
import type { Outcome, ProductQty, Rejection } from '../model.ts'
import { type FailedAttempt, type Failure, recordFailure, type Resumed, resume } from './checkout-attempts.ts'
import type { Attempt, Created, Delivery } from './checkout-rows.ts'
import { type Completion, completeAll } from './complete-checkouts.ts'
import { type Ended, type EndRequest, endAll } from './end-checkouts.ts'
import { isOpen, readDeliveries, readOutcome } from './read-checkouts.ts'
import { recordHolds, type Reserved, type ReserveRecorded } from './record-holds.ts'
import { LOCKED, untilUnlocked } from './locked.ts'
import type { RelayHere } from './outbox.ts'
import { alone, type Pool } from './pool.ts'
import { batchAroundLocks } from './batch-around-locks.ts'

/** Deliveries that other processes' workers asked for stay in memory until so many newer ones have come. */
const MOST_REMEMBERED = 4096

export interface Checkouts {
  /** undefined while the checkout is OPEN, and where there is none */
  readOutcome(orderId: number): Promise<Outcome | undefined>
  /** Whether the checkout is open, and this attempt the latest. */
  isOpen(attempt: Attempt): Promise<boolean>
  /** Where a shipment goes: what is in no job. Read once from memory where this process wrote the intent, else from PostgreSQL. */
  readDelivery(orderId: number): Promise<Delivery>
  /** Keeps in memory what this process has just written, for its own worker: saves a read of every checkout. */
  remember(orderId: number, delivery: Delivery): void
  /** Takes the next attempt number. @returns undefined where the checkout is no longer OPEN. @throws RowLocked */
  resume(orderId: number): Promise<Resumed | undefined>
  /** Puts the holds of a call that Catalog carried out on record, for those of its checkouts that are open and still in it. */
  recordHolds(call: Reserved): Promise<ReserveRecorded>
  /**
   * OPEN -> CREATED with order, items and event, or nothing.
   * @param hold of a call whose hold is not on record yet: it is put there along with the order
   * @returns undefined where it was cancelled, taken over or is past its deadline, or where its hold cannot be recorded this way
   * @throws RowLocked
   */
  complete(attempt: Attempt, hold?: { callId: number; products: readonly ProductQty[] }): Promise<Created | undefined>
  /** OPEN -> REJECTED or CANCELLED by the attempt that drives it. @returns undefined where it is not its own to end. @throws RowLocked */
  end(
    attempt: Attempt,
    state: 'REJECTED' | 'CANCELLED',
    rejection: Rejection & { failed?: FailedAttempt | undefined },
  ): Promise<Ended | undefined>
  /** OPEN -> CANCELLED by anyone else, or what it has become meanwhile. @throws RowLocked */
  cancel(orderId: number, rejection: Rejection): Promise<Ended>
  /** Notes what a failed attempt left, also where the checkout has been cancelled meanwhile. */
  recordFailure(attempt: Attempt, failed: Failure): Promise<void>
}

/** @param keepsKeysOfCarts an order keeps the key that was made of its cart, for {@link createIntents} to find within the window */
export function createCheckouts(pool: Pool, clock: Clock, relay?: RelayHere, keepsKeysOfCarts = false): Checkouts {
  const batched = <In, Out>(run: (batch: In[]) => Promise<Out[]>, options: Parameters<typeof batcher>[1] = {}) =>
    batcher((batch: In[]) => alone(batch, run), options)
  const recordCallHolds = batchAroundLocks(clock, (batch: readonly Reserved[], isPatient) => recordHolds(pool, batch, isPatient))
  const complete = batched(async (batch: Completion[]) => {
    const notify = !relay?.leads()
    const created = await completeAll(pool, batch, notify, keepsKeysOfCarts)
    if (!notify) relay?.wake()
    return created
  })
  const end = batched((batch: EndRequest[]) => endAll(pool, batch))
  const read = batched((batch: { orderId: number }[]) => readDeliveries(pool, batch))
  const unlocked = <T>(orderId: number, run: () => Promise<T | typeof LOCKED>) => untilUnlocked(clock, `checkout ${orderId}`, run)

  const remembered = new Map<number, Delivery>()

  return {
    readOutcome: (orderId) => readOutcome(pool, orderId),
    isOpen: (attempt) => isOpen(pool, attempt),
    remember(orderId, delivery) {
      remembered.set(orderId, delivery)
      const [oldest] = remembered.keys()
      if (remembered.size > MOST_REMEMBERED) remembered.delete(oldest!)
    },
    async readDelivery(orderId) {
      const known = remembered.get(orderId)
      remembered.delete(orderId)
      if (known) return known
      const delivery = await read({ orderId })
      if (!delivery) throw new Error(`checkout ${orderId} does not exist`)
      return delivery
    },
    resume: (orderId) => unlocked(orderId, () => resume(pool, orderId)),
    recordHolds: recordCallHolds,
    complete: (attempt, hold) => unlocked(attempt.orderId, () => complete({ ...attempt, hold })),
    end: (attempt, state, rejection) => unlocked(attempt.orderId, () => end({ ...attempt, state, ...rejection })),
    async cancel(orderId, rejection) {
      const cancelled = await unlocked(orderId, () => end({ orderId, attempt: undefined, state: 'CANCELLED', ...rejection }))
      if (cancelled) return cancelled
      const outcome = await readOutcome(pool, orderId)
      if (!outcome) throw new Error(`checkout ${orderId} does not exist`)
      return { outcome, won: false, toReconcile: [] }
    },
    recordFailure: (attempt, failed) => recordFailure(pool, attempt, failed),
  }
}
