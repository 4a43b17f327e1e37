/**
 * Those of this process that wait for products. Whoever waits for the same products travels in one call: Catalog takes many items in a
 * call, all or none, and a product that everybody buys is sold by calls of 64 instead of one by one.
 */
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { Products } from '../db/products.ts'
import type { Member, TakenCall, WantedCall } from '../db/stock-calls.ts'
import { MAX_INTEGER, type ProductQty } from '../model.ts'

/** Thrown to one that has waited until its deadline. */
export class WaitedInVain extends Error {
  override name = 'WaitedInVain'
}

export type CallVerb = WantedCall['verb']

/** One that waits. `Settled` is what it gets. */
export interface Waiter<Settled> extends Member {
  /** Epoch ms, by PostgreSQL's clock: nobody is in a call after it. */
  deadline: number
  since: number
  /** It was refused once, and what was held for nobody has been given back since. */
  isSecondTry: boolean
  /** After a refusal of many it asks by itself: what it is told is then in Catalog's own words. */
  isAlone?: boolean
  /** Its deadline came while it was asked for: it hears of nothing any more. */
  hasGivenUp?: boolean
  settle: (settled: Settled) => void
  fail: (error: unknown) => void
}

/** Products that are ours for one call. Nobody is in it yet where some have to be checked first. */
export interface Group<Settled> {
  verb: CallVerb
  callId: number
  productIds: readonly number[]
  waiters: Waiter<Settled>[]
  expiresAt: number
  checks: readonly number[]
}

/** Those that wait for the same products. */
interface Line<Settled> {
  verb: CallVerb
  productIds: readonly number[]
  waiters: Waiter<Settled>[]
  /** Somebody keeps a row of theirs locked: they keep nobody else from their other products. */
  isLocked: boolean
}

/** Payments and checkouts are asked for in statements of their own. */
type Kind = 'reserve' | 'commit'
const kindOf = (verb: CallVerb): Kind => (verb === 'commit' ? 'commit' : 'reserve')

/** So many travel in one call at the most. */
export const MOST_IN_A_CALL = 64
/** So many calls are asked for in one statement. */
const MOST_CALLS = 128
/** Somebody else's call ends unheard. */
const ASK_AGAIN_MS = 25
/** One that has waited so long comes first on all its products. */
const ELDER_MS = 500

export interface LineDeps<Settled> {
  products: Pick<Products, 'takeCalls' | 'addProducts' | 'releaseCalls'>
  callIds: CallIds
  clock: Clock
  /** Makes the call of a group; it never rejects. The products are taken until it resolves. */
  run(group: Group<Settled>): Promise<void>
  /** What one gets whose hold is on record already, and what one that need not be called for any more. */
  outcomes: { recorded: Settled; ended: Settled }
}

const productIdsOf = (products: readonly ProductQty[]) => products.map(({ productId }) => productId)
const keyOf = (verb: CallVerb, productIds: readonly number[]) => `${verb} ${productIds.join()}`

export function createLine<Settled>({ products, callIds, clock, run, outcomes }: LineDeps<Settled>) {
  const lines = new Map<string, Line<Settled>>()
  /** Products that are asked for, or in a call of ours. */
  const engaged = new Set<number>()
  const asking = new Set<Kind>()
  /** Kinds that had to wait for the statement before. */
  const overdue = new Set<Kind>()
  let isPlanned = false
  let isTicking = false

  function enter(verb: CallVerb, waiter: Waiter<Settled>, atFront = false): void {
    const productIds = productIdsOf(waiter.products)
    const key = keyOf(verb, productIds)
    const line = lines.get(key) ?? { verb, productIds, waiters: [], isLocked: false }
    lines.set(key, line)
    if (atFront) line.waiters.unshift(waiter)
    else line.waiters.push(waiter)
    plan()
    if (!isTicking) void tick()
  }

  function remove(line: Line<Settled>, gone: readonly Waiter<Settled>[]): void {
    const those = new Set(gone)
    line.waiters = line.waiters.filter((waiter) => !those.has(waiter))
    const key = keyOf(line.verb, line.productIds)
    if (line.waiters.length === 0 && lines.get(key) === line) lines.delete(key)
  }

  /** The first of them that fit into one call: their quantities summed have to be a quantity, too. */
  function firstOf(line: Line<Settled>, most: number): Waiter<Settled>[] {
    const sums = line.productIds.map(() => 0)
    const first: Waiter<Settled>[] = []
    for (const waiter of line.waiters.slice(0, line.verb === 'check' ? 1 : most)) {
      if (first.length > 0 && (waiter.isAlone || first[0]!.isAlone)) break
      for (const [i, { qty }] of waiter.products.entries()) sums[i]! += qty
      if (first.length > 0 && sums.some((sum) => sum > MAX_INTEGER)) break
      first.push(waiter)
    }
    return first
  }

  /** Those that come in one turn are asked for together. */
  function plan(): void {
    if (isPlanned) return
    isPlanned = true
    void askSoon()
  }

  async function askSoon(): Promise<void> {
    await clock.turn()
    isPlanned = false
    for (const kind of ['reserve', 'commit'] as const) ask(kind)
  }

  async function tick(): Promise<void> {
    isTicking = true
    while (lines.size > 0) {
      await clock.sleep(ASK_AGAIN_MS)
      const now = clock.wallTime()
      for (const line of lines.values()) {
        const late = line.waiters.filter(({ deadline }) => deadline <= now)
        if (late.length > 0) remove(line, late)
        for (const waiter of late) {
          waiter.hasGivenUp = true
          waiter.fail(new WaitedInVain(`waited for product ${line.productIds.join(', ')} until the deadline`))
        }
      }
      plan()
    }
    isTicking = false
  }

  /** Elders first, then those that were asked for the longest ago: no line keeps another one from a product for good. */
  function choose(kind: Kind): Line<Settled>[] {
    const elders: Line<Settled>[] = []
    const others: Line<Settled>[] = []
    for (const line of lines.values()) {
      const isElder = line.productIds.length > 1 && !line.isLocked && clock.now() - line.waiters[0]!.since > ELDER_MS
      if (kindOf(line.verb) === kind) (isElder ? elders : others).push(line)
    }
    const chosen: Line<Settled>[] = []
    const spokenFor = new Set<number>()
    for (const [i, line] of [...elders, ...others].entries()) {
      if (chosen.length === MOST_CALLS) break
      const isFree = line.productIds.every((id) => !engaged.has(id) && !spokenFor.has(id))
      if (isFree) chosen.push(line)
      if (isFree || i < elders.length) for (const id of line.productIds) spokenFor.add(id)
    }
    return chosen
  }

  /** One statement of a kind at a time: more would take the connections that others need, and share less. */
  function ask(kind: Kind): void {
    if (asking.has(kind)) {
      overdue.add(kind)
      return
    }
    const chosen = choose(kind)
    if (chosen.length === 0) return
    overdue.delete(kind)
    for (const line of chosen) {
      const key = keyOf(line.verb, line.productIds)
      lines.delete(key)
      lines.set(key, line) // behind those that were asked for longer ago
      for (const id of line.productIds) engaged.add(id)
    }
    asking.add(kind)
    void take(chosen).finally(() => {
      asking.delete(kind)
      if (overdue.has(kind) || chosen.length === MOST_CALLS) plan()
    })
  }

  async function take(chosen: readonly Line<Settled>[]): Promise<void> {
    const asked = await Promise.all(
      chosen.map(async (line) => ({
        line,
        callId: await callIds(),
        waiters: firstOf(line, MOST_IN_A_CALL),
      })),
    ).catch((error: unknown) => fail(chosen, error))
    if (!asked) return
    const calls = asked.map(({ line, callId, waiters }): WantedCall => wanted(line, callId, waiters))
    try {
      const taken = await products.takeCalls(calls)
      const unknown = taken.flatMap((one) => one.unknown)
      if (unknown.length > 0) await products.addProducts([...new Set(unknown)])
      asked.forEach(({ line, callId, waiters }, i) => answer(line, callId, waiters, taken[i]!))
      if (unknown.length > 0) plan()
    } catch (error) {
      // It may have been carried out; what it took was never sent.
      void products.releaseCalls(calls).catch(() => {})
      fail(
        chosen,
        error,
        asked.flatMap(({ waiters }) => waiters),
      )
    }
  }

  const wanted = (line: Line<Settled>, callId: number, waiters: readonly Waiter<Settled>[]): WantedCall => ({
    callId,
    verb: line.verb,
    productIds: line.productIds,
    members: line.verb === 'check' ? [] : waiters,
    more: line.waiters.length > waiters.length,
  })

  function fail(chosen: readonly Line<Settled>[], error: unknown, waiters: readonly Waiter<Settled>[] = []): undefined {
    for (const line of chosen) {
      const those = (waiters.length > 0 ? waiters : line.waiters).filter((waiter) => line.waiters.includes(waiter))
      remove(line, those)
      for (const waiter of those) waiter.fail(error)
      for (const id of line.productIds) engaged.delete(id)
    }
    return undefined
  }

  function answer(line: Line<Settled>, callId: number, waiters: readonly Waiter<Settled>[], taken: TakenCall): void {
    line.isLocked = taken.isLocked
    const inside = line.verb === 'check' ? [...waiters] : sort(line, waiters, taken)
    if (!taken.isTaken) {
      for (const id of line.productIds) engaged.delete(id)
      return
    }
    const { checks, expiresAt } = taken
    // Where something has to be checked first, nobody is in the call yet: who waits by then is chosen after it.
    const inCall = checks.length > 0 && line.verb !== 'check' ? [] : inside
    remove(line, inCall)
    const { verb, productIds } = line
    void start({ verb, callId, productIds, expiresAt, checks, waiters: inCall })
  }

  async function start(group: Group<Settled>): Promise<void> {
    await run(group)
    for (const id of group.productIds) engaged.delete(id)
    plan()
  }

  /** Tells those that are done. @returns those that are in the call */
  function sort(line: Line<Settled>, waiters: readonly Waiter<Settled>[], { members }: TakenCall): Waiter<Settled>[] {
    const inside: Waiter<Settled>[] = []
    const deferred: Waiter<Settled>[] = []
    for (const [i, waiter] of waiters.entries()) {
      const state = members[i]
      // Also one that gave up meanwhile: its units are in the call's quantity, and go back.
      if (state === 'ready') inside.push(waiter)
      else if (state === 'recorded' || state === 'ended') waiter.settle(outcomes[state])
      else if (line.waiters.includes(waiter)) deferred.push(waiter)
    }
    remove(
      line,
      waiters.filter((waiter) => !inside.includes(waiter) && !deferred.includes(waiter)),
    )
    // Who cannot be in a call yet keeps nobody else from it.
    if (deferred.length > 0) line.waiters = [...line.waiters.filter((waiter) => !deferred.includes(waiter)), ...deferred]
    return inside
  }

  return {
    enter,
    /**
     * The next call under a lease that a group has, for those that wait for the same products by now.
     * @param most as many of them at the most
     */
    async fill(group: Group<Settled>, most: number): Promise<void> {
      const line = lines.get(keyOf(group.verb, group.productIds))
      if (!line) return
      const waiters = firstOf(line, most)
      const callId = await callIds()
      const call = { ...wanted(line, callId, waiters), holds: group.callId }
      const [taken] = await products.takeCalls([call]).catch(async (error: unknown) => {
        await products.releaseCalls([call]).catch(() => {})
        throw error
      })
      const inside = sort(line, waiters, taken!)
      if (!taken!.isTaken || taken!.checks.length > 0) return
      remove(line, inside)
      Object.assign(group, { callId, waiters: inside, expiresAt: taken!.expiresAt })
    },
    /** A call of ours that did not wait in line has these products until `free` is called. */
    engage(productIds: readonly number[]): () => void {
      for (const id of productIds) engaged.add(id)
      return () => {
        for (const id of productIds) engaged.delete(id)
        plan()
      }
    },
    /** Back to where they were: they are asked for first. */
    putBack(verb: CallVerb, waiters: readonly Waiter<Settled>[]): void {
      for (const waiter of waiters.toReversed()) enter(verb, waiter, true)
    },
    /** Takes all out of the line. */
    takeAll(verb: CallVerb, productIds: readonly number[]): Waiter<Settled>[] {
      const line = lines.get(keyOf(verb, productIds))
      const waiters = line?.waiters ?? []
      if (line) remove(line, waiters)
      return waiters
    },
    /** Takes those out of the line that ask for as many as this one, or more. */
    takeLikewise(verb: CallVerb, { products: asked }: Member): Waiter<Settled>[] {
      const line = lines.get(keyOf(verb, productIdsOf(asked)))
      const likewise = line?.waiters.filter((waiter) => waiter.products.every(({ qty }, i) => qty >= asked[i]!.qty)) ?? []
      if (line) remove(line, likewise)
      return likewise
    },
    /** How many wait for just these products. */
    waiting: (verb: CallVerb, productIds: readonly number[]): number => lines.get(keyOf(verb, productIds))?.waiters.length ?? 0,
    isWanted: (productIds: readonly number[]): boolean => {
      for (const line of lines.values()) if (line.productIds.some((id) => productIds.includes(id))) return true
      return false
    },
  }
}
