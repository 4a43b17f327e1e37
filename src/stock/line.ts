/**
 * Queues the waiters of this process by product, and requests leases from PostgreSQL. Waiters for the same products share a call, so that
 * a popular product is sold in calls of 64 instead of one by one.
 */
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { Products } from '../db/products.ts'
import type { AcquiredCall, WantedCall } from '../db/acquire-calls.ts'
import { type CallVerb, firstOf, type Kind, type Line, MOST_CALLS, type Waiter, WaitingLines } from './waiting.ts'

/** A waiter reached its deadline before it got its products. */
export class StockWaitTimeout extends Error {
  override name = 'StockWaitTimeout'
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

export interface LineDeps<Settled> {
  products: Pick<Products, 'acquireCalls' | 'addProducts' | 'releaseCalls'>
  callIds: CallIds
  clock: Clock
  /** Makes the call of a group; it never rejects. The products stay engaged until it resolves. */
  run(group: Group<Settled>): Promise<void>
  /** Results for a waiter whose hold is already on record, and for a waiter that no longer needs a call. */
  outcomes: { recorded: Settled; ended: Settled }
}

/** A requested line, and the waiters for its call. */
interface Requested<Settled> {
  line: Line<Settled>
  callId: number
  waiters: Waiter<Settled>[]
}

const wanted = <Settled>({ line, callId, waiters }: Requested<Settled>): WantedCall => ({
  callId,
  verb: line.verb,
  productIds: line.productIds,
  members: line.verb === 'check' ? [] : waiters,
  more: line.waiters.length > waiters.length,
})

export class StockLine<Settled> {
  readonly #deps: LineDeps<Settled>
  readonly #lines = new WaitingLines<Settled>()
  /** Products that are requested, or in a call of this process. */
  readonly #engaged = new Set<number>()
  readonly #requesting = new Set<Kind>()
  /** Kinds whose request had to wait for the previous statement. */
  readonly #overdue = new Set<Kind>()
  #isPlanned = false
  #isTicking = false

  constructor(deps: LineDeps<Settled>) {
    this.#deps = deps
  }

  enter(verb: CallVerb, waiter: Waiter<Settled>, atFront = false): void {
    this.#lines.add(verb, waiter, atFront)
    this.#plan()
    if (!this.#isTicking) void this.#tick()
  }

  /** Puts waiters back to the front of their line. */
  putBack(verb: CallVerb, waiters: readonly Waiter<Settled>[]): void {
    for (const waiter of waiters.toReversed()) this.enter(verb, waiter, true)
  }

  takeAll: WaitingLines<Settled>['takeAll'] = (...those) => this.#lines.takeAll(...those)
  takeSameOrLarger: WaitingLines<Settled>['takeSameOrLarger'] = (...those) => this.#lines.takeSameOrLarger(...those)
  isWanted: WaitingLines<Settled>['isWanted'] = (productIds) => this.#lines.isWanted(productIds)

  /** @returns the number of waiters for exactly these products */
  waiting(verb: CallVerb, productIds: readonly number[]): number {
    return this.#lines.find(verb, productIds)?.waiters.length ?? 0
  }

  /** Engages products for a call outside the line, until the returned function is called. */
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
    const line = this.#lines.find(group.verb, group.productIds)
    if (!line) return
    const waiters = firstOf(line, most)
    const callId = await callIds()
    const call = { ...wanted({ line, callId, waiters }), holds: group.callId }
    const [acquired] = await products.acquireCalls([call]).catch(async (error: unknown) => {
      await products.releaseCalls([call]).catch(() => {})
      throw error
    })
    const inside = this.#sort(line, waiters, acquired!)
    if (!acquired!.isAcquired || acquired!.checks.length > 0) return
    this.#lines.remove(line, inside)
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
    while (!this.#lines.isEmpty) {
      await clock.sleep(RETRY_MS)
      for (const { line, waiter } of this.#lines.removeLate(clock.wallTime())) {
        waiter.hasGivenUp = true
        waiter.fail(new StockWaitTimeout(`waited for product ${line.productIds.join(', ')} until the deadline`))
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
    const chosen = this.#lines.choose(kind, this.#engaged, this.#deps.clock.now())
    if (chosen.length === 0) return
    this.#overdue.delete(kind)
    for (const { productIds } of chosen) for (const id of productIds) this.#engaged.add(id)
    this.#requesting.add(kind)
    void this.#take(chosen).finally(() => {
      this.#requesting.delete(kind)
      if (this.#overdue.has(kind) || chosen.length === MOST_CALLS) this.#plan()
    })
  }

  async #take(chosen: readonly Line<Settled>[]): Promise<void> {
    const { products, callIds } = this.#deps
    const numbered = chosen.map(async (line) => ({ line, callId: await callIds(), waiters: firstOf(line, MOST_IN_A_CALL) }))
    const requested = await Promise.all(numbered).catch((error: unknown) => {
      for (const line of chosen) this.#fail(line, line.waiters, error)
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
      for (const { line, waiters } of requested) this.#fail(line, waiters, error)
    }
  }

  #fail(line: Line<Settled>, waiters: readonly Waiter<Settled>[], error: unknown): void {
    const those = waiters.filter((waiter) => line.waiters.includes(waiter))
    this.#lines.remove(line, those)
    for (const waiter of those) waiter.fail(error)
    this.#free(line.productIds)
  }

  #answer({ line, callId, waiters }: Requested<Settled>, acquired: AcquiredCall): void {
    const { verb, productIds } = line
    line.isLocked = acquired.isLocked
    const inside = verb === 'check' ? [...waiters] : this.#sort(line, waiters, acquired)
    if (!acquired.isAcquired) return this.#free(productIds)
    const { checks, expiresAt } = acquired
    // Where products have to be checked first, the call has no members yet. They are chosen after the check.
    const inCall = checks.length > 0 && verb !== 'check' ? [] : inside
    this.#lines.remove(line, inCall)
    const free = this.engage(productIds)
    void this.#deps.run({ verb, callId, productIds, expiresAt, checks, waiters: inCall }).then(free)
  }

  /** Settles the waiters that are done. @returns those that are in the call */
  #sort(line: Line<Settled>, waiters: readonly Waiter<Settled>[], { members }: AcquiredCall): Waiter<Settled>[] {
    const { outcomes } = this.#deps
    const inside: Waiter<Settled>[] = []
    const deferred: Waiter<Settled>[] = []
    const done: Waiter<Settled>[] = []
    for (const [i, waiter] of waiters.entries()) {
      const state = members[i]
      // Also a waiter that has given up: its units are part of the call's quantity, and are given back.
      if (state === 'ready') inside.push(waiter)
      else if (state !== 'recorded' && state !== 'ended' && line.waiters.includes(waiter)) deferred.push(waiter)
      else {
        done.push(waiter)
        if (state === 'recorded' || state === 'ended') waiter.settle(outcomes[state])
      }
    }
    this.#lines.remove(line, done)
    // A waiter that cannot join a call yet does not block others.
    if (deferred.length > 0) line.waiters = [...line.waiters.filter((waiter) => !deferred.includes(waiter)), ...deferred]
    return inside
  }
}
