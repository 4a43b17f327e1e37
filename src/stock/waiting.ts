/** Who waits for which products, in this process, and who is asked for next. It knows nothing of PostgreSQL or of Catalog. */
import type { Member, WantedCall } from '../db/acquire-calls.ts'
import { MAX_INTEGER, type ProductQty } from '../model.ts'

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

/** Those that wait for the same products. */
export interface Line<Settled> {
  verb: CallVerb
  productIds: readonly number[]
  waiters: Waiter<Settled>[]
  /** Somebody keeps a row of theirs locked: they keep nobody else from their other products. */
  isLocked: boolean
}

/** Payments and checkouts are asked for in statements of their own. */
export type Kind = 'reserve' | 'commit'
export const kindOf = (verb: CallVerb): Kind => (verb === 'commit' ? 'commit' : 'reserve')

/** So many calls are asked for in one statement. */
export const MOST_CALLS = 128
/** One that has waited so long comes first on all its products. */
const ELDER_MS = 500

const keyOf = (verb: CallVerb, productIds: readonly number[]) => `${verb} ${productIds.join()}`

/** The first of a line that fit into one call: their quantities summed have to be a quantity, too. */
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

  /** Takes those out whose deadline has come. @param now epoch ms, by PostgreSQL's clock */
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
   * Elders first, then those that were asked for the longest ago: no line keeps another one from a product for good.
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

  /** Behind those that were asked for longer ago. */
  #toTheEnd(line: Line<Settled>): void {
    const key = keyOf(line.verb, line.productIds)
    this.#lines.delete(key)
    this.#lines.set(key, line)
  }

  /** Takes all out of the line of these products. */
  takeAll(verb: CallVerb, productIds: readonly number[]): Waiter<Settled>[] {
    return this.#takeWhere(verb, productIds, () => true)
  }

  /** Takes those out of the line that ask for as many as this one, or more. */
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
