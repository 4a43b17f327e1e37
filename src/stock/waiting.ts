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

/** The waiters for the same products. */
export interface Line<Settled> {
  verb: CallVerb
  productIds: readonly number[]
  waiters: Waiter<Settled>[]
  /** Another session has locked a product's row. The line then does not block its other products. */
  isLocked: boolean
}

/** Payments and checkouts are requested in separate statements. */
export type Kind = 'reserve' | 'commit'
export const kindOf = (verb: CallVerb): Kind => (verb === 'commit' ? 'commit' : 'reserve')

/** Calls requested in one statement, at most. */
export const MOST_CALLS = 128
/** After this wait of its first waiter, a line goes first on all its products. */
const ELDER_MS = 500

const keyOf = (verb: CallVerb, productIds: readonly number[]) => `${verb} ${productIds.join()}`

/** @returns the first waiters of a line that fit into one call. The sum of their quantities must be a valid quantity */
export function firstOf<Settled>(line: Line<Settled>, most: number): Waiter<Settled>[] {
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

export class WaitingLines<Settled> {
  readonly #lines = new Map<string, Line<Settled>>()

  get isEmpty(): boolean {
    return this.#lines.size === 0
  }

  find(verb: CallVerb, productIds: readonly number[]): Line<Settled> | undefined {
    return this.#lines.get(keyOf(verb, productIds))
  }

  add(verb: CallVerb, waiter: Waiter<Settled>, atFront: boolean): void {
    const productIds = waiter.products.map(({ productId }) => productId)
    const line = this.find(verb, productIds) ?? { verb, productIds, waiters: [], isLocked: false }
    this.#lines.set(keyOf(verb, productIds), line)
    if (atFront) line.waiters.unshift(waiter)
    else line.waiters.push(waiter)
  }

  remove(line: Line<Settled>, gone: readonly Waiter<Settled>[]): void {
    const those = new Set(gone)
    line.waiters = line.waiters.filter((waiter) => !those.has(waiter))
    if (line.waiters.length === 0 && this.find(line.verb, line.productIds) === line) this.#lines.delete(keyOf(line.verb, line.productIds))
  }

  /** Removes the waiters whose deadline has passed. @param now epoch ms, by PostgreSQL's clock */
  removeLate(now: number): { line: Line<Settled>; waiter: Waiter<Settled> }[] {
    const gone: { line: Line<Settled>; waiter: Waiter<Settled> }[] = []
    for (const line of this.#lines.values()) {
      const late = line.waiters.filter(({ deadline }) => deadline <= now)
      if (late.length > 0) this.remove(line, late)
      for (const waiter of late) gone.push({ line, waiter })
    }
    return gone
  }

  /**
   * Chooses the lines to request: elders first, then the lines requested longest ago. So no line starves another.
   * @param now by the clock of `since`
   */
  choose(kind: Kind, engaged: ReadonlySet<number>, now: number): Line<Settled>[] {
    const elders: Line<Settled>[] = []
    const others: Line<Settled>[] = []
    for (const line of this.#lines.values()) {
      const isElder = line.productIds.length > 1 && !line.isLocked && now - line.waiters[0]!.since > ELDER_MS
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
    for (const line of chosen) this.#toTheEnd(line)
    return chosen
  }

  /** Moves a line behind those that were requested longer ago. */
  #toTheEnd(line: Line<Settled>): void {
    const key = keyOf(line.verb, line.productIds)
    this.#lines.delete(key)
    this.#lines.set(key, line)
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
    const line = this.find(verb, productIds)
    if (!line) return []
    const taken = line.waiters.filter(isWanted)
    this.remove(line, taken)
    return taken
  }

  isWanted(productIds: readonly number[]): boolean {
    for (const line of this.#lines.values()) if (line.productIds.some((id) => productIds.includes(id))) return true
    return false
  }
}
