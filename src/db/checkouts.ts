/** What becomes of a checkout: the statements of checkout-statements.ts, with those of one kind that come together sent as one. */
import { batcher } from '../batcher.ts'
import type { Outcome, Rejection } from '../model.ts'
import {
  type Attempt,
  type Completion,
  type Created,
  completeAll,
  type Delivery,
  type Ended,
  type Ending,
  endAll,
  type Epochs,
  type Fault,
  isOpen,
  leave,
  readDeliveries,
  readOutcome,
  recordReserved,
  type Reserved,
  type Resumed,
  resume,
} from './checkout-statements.ts'
import type { RelayHere } from './outbox.ts'
import { alone, type Pool } from './pool.ts'

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
  /**
   * Takes the next attempt number. A reserve that the attempt before may have sent is written down as a doubt in the same statement.
   * @returns undefined where the checkout is no longer OPEN
   */
  resume(orderId: number): Promise<Resumed | undefined>
  /** Puts the hold on record. @returns false where it may not count: ended, taken over, or a product mended since its epoch was read */
  recordReserved(attempt: Attempt, hold: Epochs): Promise<boolean>
  /**
   * OPEN -> CREATED with order, items and event, or nothing.
   * @param hold the products of a hold that is not on record yet: it is put there along with the order
   * @returns undefined where it was cancelled, taken over or is past its deadline, or where the hold may not count
   */
  complete(attempt: Attempt, hold?: Epochs): Promise<Created | undefined>
  /** OPEN -> REJECTED or CANCELLED by the attempt that drives it, which knows of no call without an answer. @returns undefined where it is not its own to end */
  end(attempt: Attempt, state: 'REJECTED' | 'CANCELLED', rejection: Rejection): Promise<Ended | undefined>
  /** OPEN -> CANCELLED by anyone else, or what it has become meanwhile. */
  cancel(orderId: number, rejection: Rejection): Promise<Ended>
  /** Notes what a failed attempt left, also where the checkout has been cancelled meanwhile. */
  leave(attempt: Attempt, fault: Fault): Promise<void>
}

export function createCheckouts(pool: Pool, relay?: RelayHere): Checkouts {
  const batched = <In, Out>(run: (batch: In[]) => Promise<Out[]>, options: Parameters<typeof batcher>[1] = {}) =>
    batcher((batch: In[]) => alone(batch, run), options)
  // Others wait for the product until a hold that is recorded by itself is on record.
  const record = batched((batch: Reserved[]) => recordReserved(pool, batch), { paceMs: 0 })
  const complete = batched(async (batch: Completion[]) => {
    const notify = !relay?.leads()
    const created = await completeAll(pool, batch, notify)
    if (!notify) relay?.wake()
    return created
  })
  const end = batched((batch: Ending[]) => endAll(pool, batch))
  const read = batched((batch: { orderId: number }[]) => readDeliveries(pool, batch))

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
    resume: (orderId) => resume(pool, orderId),
    recordReserved: async (attempt, hold) => (await record({ ...attempt, hold })) !== undefined,
    complete: (attempt, hold) => complete({ ...attempt, hold }),
    end: (attempt, state, rejection) => end({ ...attempt, state, ...rejection }),
    async cancel(orderId, rejection) {
      const cancelled = await end({ orderId, attempt: undefined, state: 'CANCELLED', ...rejection })
      if (cancelled) return cancelled
      const outcome = await readOutcome(pool, orderId)
      if (!outcome) throw new Error(`checkout ${orderId} does not exist`)
      return { outcome, won: false, freed: [] }
    },
    leave: (attempt, fault) => leave(pool, attempt, fault),
  }
}
