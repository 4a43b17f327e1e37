/**
 * Queues the waiters of this process by product, and requests leases from PostgreSQL. Waiters for the same products share a call, so that
 * a popular product is sold in calls of 64 instead of one by one.
 */
import type { Fault } from '../causes.ts'
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { Products } from '../db/products.ts'
import type { AcquiredCall, WantedCall } from '../db/acquire-calls.ts'
import { type CallVerb, firstOf, type Kind, type LongWait, MOST_CALLS, type Waiter, type WaitQueue, WaitQueues } from './wait-queues.ts'

/** A waiter reached its deadline before it got its products. */
export class StockWaitTimeout extends Error {
  override name = 'StockWaitTimeout'
  readonly fault: Fault

  constructor({ productIds, isLocked }: Pick<WaitQueue<unknown>, 'productIds' | 'isLocked'>) {
    super(`waited for product ${productIds.join(', ')} until the deadline${isLocked ? '; another session has locked its row' : ''}`)
    this.fault = { cause: isLocked ? 'row-locked' : 'product-contended' }
  }
}

/** Products that this process has leased for one call. The call has no members while its products must be checked first. */
export interface Group<Settled> {
  verb: CallVerb
  callId: number
  productIds: readonly number[]
  waiters: Waiter<Settled>[]
  expiresAt: number
  checks: readonly number[]
}

/** Members of one call, at most. */
export const MOST_IN_A_CALL = 64
/** Pause between requests: no signal tells when another process's call ends. */
const RETRY_MS = 25

export interface SchedulerDeps<Settled> {
  products: Pick<Products, 'acquireCalls' | 'addProducts' | 'releaseCalls'>
  callIds: CallIds
  clock: Clock
  /** Makes the call of a group; it never rejects. The products stay engaged until it resolves. */
  run(group: Group<Settled>): Promise<void>
  /** Results for a waiter whose hold is already on record, and for a waiter that no longer needs a call. */
  outcomes: { recorded: Settled; ended: Settled }
}

/** A queue whose leases are requested, and the waiters for its call. */
interface Requested<Settled> {
  queue: WaitQueue<Settled>
  callId: number
  waiters: Waiter<Settled>[]
}

const wanted = <Settled>({ queue, callId, waiters }: Requested<Settled>): WantedCall => ({
  callId,
  verb: queue.verb,
  productIds: queue.productIds,
  members: queue.verb === 'check' ? [] : waiters,
  more: queue.waiters.length > waiters.length,
})

export class CallScheduler<Settled> {
  readonly #deps: SchedulerDeps<Settled>
  readonly #queues = new WaitQueues<Settled>()
  /** Products that are requested, or in a call of this process. */
  readonly #engaged = new Set<number>()
  readonly #requesting = new Set<Kind>()
  /** Kinds whose request had to wait for the previous statement. */
  readonly #overdue = new Set<Kind>()
  #isPlanned = false
  #isTicking = false

  constructor(deps: SchedulerDeps<Settled>) {
    this.#deps = deps
  }

  enter(verb: CallVerb, waiter: Waiter<Settled>, atFront = false): void {
    this.#queues.add(verb, waiter, atFront)
    this.#plan()
    if (!this.#isTicking) void this.#tick()
  }

  /** Puts waiters back to the front of their queue. */
  putBack(verb: CallVerb, waiters: readonly Waiter<Settled>[]): void {
    for (const waiter of waiters.toReversed()) this.enter(verb, waiter, true)
  }

  takeAll: WaitQueues<Settled>['takeAll'] = (...those) => this.#queues.takeAll(...those)
  takeSameOrLarger: WaitQueues<Settled>['takeSameOrLarger'] = (...those) => this.#queues.takeSameOrLarger(...those)
  isWanted: WaitQueues<Settled>['isWanted'] = (productIds) => this.#queues.isWanted(productIds)

  longWaits(ms: number): LongWait[] {
    return this.#queues.longWaits(ms, this.#deps.clock.now())
  }

  /** @returns the number of waiters for exactly these products */
  waiting(verb: CallVerb, productIds: readonly number[]): number {
    return this.#queues.find(verb, productIds)?.waiters.length ?? 0
  }

  /** Engages products for a call outside the wait queues, until the returned function is called. */
  engage(productIds: readonly number[]): () => void {
    for (const id of productIds) this.#engaged.add(id)
    return () => {
      this.#free(productIds)
      this.#plan()
    }
  }

  /**
   * Starts the group's next call under the lease that it has, with waiters that want the same products.
   * @param most the most waiters to include
   */
  async fill(group: Group<Settled>, most: number): Promise<void> {
    const { products, callIds } = this.#deps
    const queue = this.#queues.find(group.verb, group.productIds)
    if (!queue) return
    const waiters = firstOf(queue, most)
    const callId = await callIds()
    const call = { ...wanted({ queue, callId, waiters }), holds: group.callId }
    const [acquired] = await products.acquireCalls([call]).catch(async (error: unknown) => {
      await products.releaseCalls([call]).catch(() => {})
      throw error
    })
    const inside = this.#sort(queue, waiters, acquired!)
    if (!acquired!.isAcquired || acquired!.checks.length > 0) return
    this.#queues.remove(queue, inside)
    Object.assign(group, { callId, waiters: inside, expiresAt: acquired!.expiresAt })
  }

  #free(productIds: readonly number[]): void {
    for (const id of productIds) this.#engaged.delete(id)
  }

  /** Waiters that arrive in one turn of the event loop are requested together. */
  #plan(): void {
    if (this.#isPlanned) return
    this.#isPlanned = true
    void this.#requestSoon()
  }

  async #requestSoon(): Promise<void> {
    await this.#deps.clock.turn()
    this.#isPlanned = false
    for (const kind of ['reserve', 'commit'] as const) this.#request(kind)
  }

  async #tick(): Promise<void> {
    const { clock } = this.#deps
    this.#isTicking = true
    while (!this.#queues.isEmpty) {
      await clock.sleep(RETRY_MS)
      for (const { queue, waiter } of this.#queues.removeLate(clock.databaseTime())) {
        waiter.hasGivenUp = true
        waiter.fail(new StockWaitTimeout(queue))
      }
      this.#plan()
    }
    this.#isTicking = false
  }

  /** One statement of a kind at a time: more would take the connections that others need, and share less. */
  #request(kind: Kind): void {
    if (this.#requesting.has(kind)) {
      this.#overdue.add(kind)
      return
    }
    const chosen = this.#queues.choose(kind, this.#engaged, this.#deps.clock.now())
    if (chosen.length === 0) return
    this.#overdue.delete(kind)
    for (const { productIds } of chosen) for (const id of productIds) this.#engaged.add(id)
    this.#requesting.add(kind)
    void this.#acquire(chosen).finally(() => {
      this.#requesting.delete(kind)
      if (this.#overdue.has(kind) || chosen.length === MOST_CALLS) this.#plan()
    })
  }

  async #acquire(chosen: readonly WaitQueue<Settled>[]): Promise<void> {
    const { products, callIds } = this.#deps
    const numbered = chosen.map(async (queue) => ({ queue, callId: await callIds(), waiters: firstOf(queue, MOST_IN_A_CALL) }))
    const requested = await Promise.all(numbered).catch((error: unknown) => {
      for (const queue of chosen) this.#fail(queue, queue.waiters, error)
    })
    if (!requested) return
    const calls = requested.map(wanted)
    try {
      const acquired = await products.acquireCalls(calls)
      const unknown = acquired.flatMap((one) => one.unknown)
      if (unknown.length > 0) await products.addProducts([...new Set(unknown)])
      requested.forEach((one, i) => this.#answer(one, acquired[i]!))
      if (unknown.length > 0) this.#plan()
    } catch (error) {
      // The statement may have been carried out. No call was sent under its leases.
      void products.releaseCalls(calls).catch(() => {})
      for (const { queue, waiters } of requested) this.#fail(queue, waiters, error)
    }
  }

  #fail(queue: WaitQueue<Settled>, waiters: readonly Waiter<Settled>[], error: unknown): void {
    const those = waiters.filter((waiter) => queue.waiters.includes(waiter))
    this.#queues.remove(queue, those)
    for (const waiter of those) waiter.fail(error)
    this.#free(queue.productIds)
  }

  #answer({ queue, callId, waiters }: Requested<Settled>, acquired: AcquiredCall): void {
    const { verb, productIds } = queue
    queue.isLocked = acquired.isLocked
    const inside = verb === 'check' ? [...waiters] : this.#sort(queue, waiters, acquired)
    if (!acquired.isAcquired) return this.#free(productIds)
    const { checks, expiresAt } = acquired
    // Where products have to be checked first, the call has no members yet. They are chosen after the check.
    const inCall = checks.length > 0 && verb !== 'check' ? [] : inside
    this.#queues.remove(queue, inCall)
    const free = this.engage(productIds)
    void this.#deps.run({ verb, callId, productIds, expiresAt, checks, waiters: inCall }).then(free)
  }

  /** Settles the waiters that are done. @returns those that are in the call */
  #sort(queue: WaitQueue<Settled>, waiters: readonly Waiter<Settled>[], { members }: AcquiredCall): Waiter<Settled>[] {
    const { outcomes } = this.#deps
    const inside: Waiter<Settled>[] = []
    const deferred: Waiter<Settled>[] = []
    const done: Waiter<Settled>[] = []
    for (const [i, waiter] of waiters.entries()) {
      const state = members[i]
      // Also a waiter that has given up: its units are part of the call's quantity, and are given back.
      if (state === 'ready') inside.push(waiter)
      else if (state !== 'recorded' && state !== 'ended' && queue.waiters.includes(waiter)) deferred.push(waiter)
      else {
        done.push(waiter)
        if (state === 'recorded' || state === 'ended') waiter.settle(outcomes[state])
      }
    }
    this.#queues.remove(queue, done)
    // A waiter that cannot join a call yet does not block others.
    if (deferred.length > 0) queue.waiters = [...queue.waiters.filter((waiter) => !deferred.includes(waiter)), ...deferred]
    return inside
  }
}
