/** Keeps the waiters of this process by products, and chooses which are requested next. It does not use PostgreSQL or Catalog. */
import type { Member, WantedCall } from '../db/acquire-calls.ts'
import { MAX_INTEGER, type ProductQty } from '../model.ts'

export type CallVerb = WantedCall['verb']

/** A waiting checkout, payment or check. `Settled` is the type of its result. */
export interface Waiter<Settled> extends Member {
  /** The waiter joins no call after this. Epoch ms, by PostgreSQL's clock. */
  deadline: number
  since: number
  /** It was refused once, and holds without an order were given back after that. */
  isSecondTry: boolean
  /** After a call with several members was refused, the waiter gets its own call, so that Catalog's answer concerns it alone. */
  isAlone?: boolean
  /** Its deadline passed while it was requested, and it has failed already. */
  hasGivenUp?: boolean
  settle: (settled: Settled) => void
  fail: (error: unknown) => void
}

/** The waiters for the same call verb and products. */
export interface WaitQueue<Settled> {
  verb: CallVerb
  productIds: readonly number[]
  waiters: Waiter<Settled>[]
  /** Another session has locked a product's row. The queue then does not block its other products. */
  isLocked: boolean
}

/** A product whose first waiter has waited for long; `ms`: how long. */
export interface LongWait {
  productId: number
  waiting: number
  ms: number
  isLocked: boolean
}

/** Payments and checkouts are requested in separate statements. */
export type Kind = 'reserve' | 'commit'
export const kindOf = (verb: CallVerb): Kind => (verb === 'commit' ? 'commit' : 'reserve')

/** Calls requested in one statement, at most. */
export const MOST_CALLS = 128
/** After this wait of its first waiter, a queue goes first on all its products. */
const ELDER_MS = 500

const keyOf = (verb: CallVerb, productIds: readonly number[]) => `${verb} ${productIds.join()}`

/** @returns the first waiters of a queue that fit into one call. The sum of their quantities must be a valid quantity */
export function firstOf<Settled>(queue: WaitQueue<Settled>, most: number): Waiter<Settled>[] {
  const sums = queue.productIds.map(() => 0)
  const first: Waiter<Settled>[] = []
  for (const waiter of queue.waiters.slice(0, queue.verb === 'check' ? 1 : most)) {
    if (first.length > 0 && (waiter.isAlone || first[0]!.isAlone)) break
    for (const [i, { qty }] of waiter.products.entries()) sums[i]! += qty
    if (first.length > 0 && sums.some((sum) => sum > MAX_INTEGER)) break
    first.push(waiter)
  }
  return first
}

/** The wait queues of this process, one for each call verb and set of products. */
export class WaitQueues<Settled> {
  readonly #queues = new Map<string, WaitQueue<Settled>>()

  get isEmpty(): boolean {
    return this.#queues.size === 0
  }

  find(verb: CallVerb, productIds: readonly number[]): WaitQueue<Settled> | undefined {
    return this.#queues.get(keyOf(verb, productIds))
  }

  add(verb: CallVerb, waiter: Waiter<Settled>, atFront: boolean): void {
    const productIds = waiter.products.map(({ productId }) => productId)
    const queue = this.find(verb, productIds) ?? { verb, productIds, waiters: [], isLocked: false }
    this.#queues.set(keyOf(verb, productIds), queue)
    if (atFront) queue.waiters.unshift(waiter)
    else queue.waiters.push(waiter)
  }

  remove(queue: WaitQueue<Settled>, gone: readonly Waiter<Settled>[]): void {
    const those = new Set(gone)
    queue.waiters = queue.waiters.filter((waiter) => !those.has(waiter))
    if (queue.waiters.length === 0 && this.find(queue.verb, queue.productIds) === queue)
      this.#queues.delete(keyOf(queue.verb, queue.productIds))
  }

  /** Removes the waiters whose deadline has passed. @param now epoch ms, by PostgreSQL's clock */
  removeLate(now: number): { queue: WaitQueue<Settled>; waiter: Waiter<Settled> }[] {
    const gone: { queue: WaitQueue<Settled>; waiter: Waiter<Settled> }[] = []
    for (const queue of this.#queues.values()) {
      const late = queue.waiters.filter(({ deadline }) => deadline <= now)
      if (late.length > 0) this.remove(queue, late)
      for (const waiter of late) gone.push({ queue, waiter })
    }
    return gone
  }

  /** The products whose first waiter has waited for at least so long. @param now by the clock of `since` */
  longWaits(ms: number, now: number): LongWait[] {
    const waits: LongWait[] = []
    for (const { verb, productIds, waiters, isLocked } of this.#queues.values()) {
      const waited = now - Math.min(...waiters.map(({ since }) => since))
      if (verb === 'check' || waited < ms) continue
      for (const productId of productIds) waits.push({ productId, waiting: waiters.length, ms: waited, isLocked })
    }
    return waits
  }

  /**
   * Chooses the queues to request: elders first, then the queues requested longest ago. So no queue starves another.
   * @param now by the clock of `since`
   */
  choose(kind: Kind, engaged: ReadonlySet<number>, now: number): WaitQueue<Settled>[] {
    const elders: WaitQueue<Settled>[] = []
    const others: WaitQueue<Settled>[] = []
    for (const queue of this.#queues.values()) {
      const isElder = queue.productIds.length > 1 && !queue.isLocked && now - queue.waiters[0]!.since > ELDER_MS
      if (kindOf(queue.verb) === kind) (isElder ? elders : others).push(queue)
    }
    const chosen: WaitQueue<Settled>[] = []
    const spokenFor = new Set<number>()
    for (const [i, queue] of [...elders, ...others].entries()) {
      if (chosen.length === MOST_CALLS) break
      const isFree = queue.productIds.every((id) => !engaged.has(id) && !spokenFor.has(id))
      if (isFree) chosen.push(queue)
      if (isFree || i < elders.length) for (const id of queue.productIds) spokenFor.add(id)
    }
    for (const queue of chosen) this.#toTheEnd(queue)
    return chosen
  }

  /** Moves a queue behind those that were requested longer ago. */
  #toTheEnd(queue: WaitQueue<Settled>): void {
    const key = keyOf(queue.verb, queue.productIds)
    this.#queues.delete(key)
    this.#queues.set(key, queue)
  }

  /** Removes and returns all waiters for these products. */
  takeAll(verb: CallVerb, productIds: readonly number[]): Waiter<Settled>[] {
    return this.#takeWhere(verb, productIds, () => true)
  }

  /** Removes and returns the waiters for these products that want as many units, or more. */
  takeSameOrLarger(verb: CallVerb, asked: readonly ProductQty[]): Waiter<Settled>[] {
    const productIds = asked.map(({ productId }) => productId)
    return this.#takeWhere(verb, productIds, ({ products }) => products.every(({ qty }, i) => qty >= asked[i]!.qty))
  }

  #takeWhere(verb: CallVerb, productIds: readonly number[], isWanted: (waiter: Waiter<Settled>) => boolean): Waiter<Settled>[] {
    const queue = this.find(verb, productIds)
    if (!queue) return []
    const taken = queue.waiters.filter(isWanted)
    this.remove(queue, taken)
    return taken
  }

  isWanted(productIds: readonly number[]): boolean {
    for (const queue of this.#queues.values()) if (queue.productIds.some((id) => productIds.includes(id))) return true
    return false
  }
}
