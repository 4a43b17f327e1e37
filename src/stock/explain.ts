/**
 * What Catalog's answer means: a pure function of the product's row, the calls without an answer and what Catalog says.
 *
 * Nobody but us touches `reserved`, so it alone tells what became of reserves, commits and releases. What of `in_stock` they do not
 * account for, others brought or took. Worked examples; the row is `held 4, expected_stock 10`, everything else 0:
 *
 * | unanswered                    | Catalog says            | means |
 * | ---                           | ---                     | --- |
 * | reserve 2                     | reserved 4, in stock 10 | it did not happen (yet) |
 * | reserve 2                     | reserved 6, in stock 10 | it happened |
 * | commit 1                      | reserved 3, in stock 9  | it happened |
 * | commit 1                      | reserved 3, in stock 14 | it happened, and others brought 5 |
 * | commit 1                      | reserved 4, in stock 9  | it did not happen; others took 1. Listed: at 0 a late commit would hide |
 * | commit 1, release 1           | reserved 3, in stock 9  | the commit happened. Listed: a release, while others took 1, fits too |
 * | commit 1, release 1           | reserved 3, in stock 10 | the release happened |
 * | commit 1; release 1, checked  | reserved 3, in stock 10 | the commit happened, and others brought 1. Listed |
 * | restock 1 (1 is missing)      | reserved 4, in stock 10 | it happened: that others brought 1 would offer more. Listed |
 * | none                          | reserved 5, in stock 10 | 1 is unexplained: held for nobody |
 */
import type { CatalogInventory } from '../clients/catalog.ts'
import { effects, type Explanation, type ProductCounters, type UnansweredCall } from '../db/reconciliation.ts'
import type { StockVerb } from '../model.ts'

const holdOf = ({ verb, qty }: UnansweredCall) => effects[verb].hold * qty
const stockOf = ({ verb, qty }: UnansweredCall) => effects[verb].stock * qty
const sumOf = (calls: readonly UnansweredCall[], effect: (call: UnansweredCall) => number) =>
  calls.reduce((sum, call) => sum + effect(call), 0)

interface Difference {
  /** What `reserved` says beyond what we know. */
  hold: number
  /** What `in_stock` says beyond what we know. */
  stock: number
  reservedBefore: number
}

/** @param calls those of the last ten minutes that did not happen as far as we know, the oldest first */
export function explain(row: ProductCounters, calls: readonly UnansweredCall[], says: CatalogInventory): Explanation {
  if (row.expectedStock === null) return { isFirst: true, ...says }
  const reservedBefore = row.held + row.foreignHolds + row.holdCorrection
  const hold = says.reserved - reservedBefore
  const stock = says.inStock - row.expectedStock - row.stockCorrection
  const touching = happenedOf(calls, { hold, stock, reservedBefore })
  const unexplained = hold - sumOf(touching, holdOf) - notLowered(touching, reservedBefore)
  const restocks = restocksOf(calls, stock - sumOf(touching, stockOf))
  const happened = [...touching, ...restocks]
  const followed = stock - sumOf(happened, stockOf)
  return { isFirst: false, happened, unexplained, followed, ambiguities: ambiguitiesOf(calls, happened, followed, reservedBefore) }
}

/**
 * Normally one call has no answer, the one whose lease expired last. Older ones may act late; one of them is matched by quantity, several
 * the oldest first. Where commits and releases both fit, `in_stock` tells them apart.
 */
function happenedOf(calls: readonly UnansweredCall[], { hold, stock, reservedBefore }: Difference): UnansweredCall[] {
  const touching = calls.filter((call) => holdOf(call) !== 0)
  const fitsAmong = (others: readonly UnansweredCall[]) => {
    const hasRelease = others.some(({ verb }) => verb === 'release')
    const isCommit = others.some(({ verb, qty }) => verb === 'commit' && hold === -qty && stock <= -qty)
    return ({ verb, qty }: UnansweredCall) => (verb === 'release' ? !isCommit : verb === 'reserve' || !hasRelease || stock <= -qty)
  }
  const unchecked = touching.filter(({ isChecked }) => !isChecked)
  // One that nobody has checked yet is likelier than one that acts after it was found not to have happened.
  const fitsUnchecked = fitsAmong(unchecked)
  const latest = unchecked.findLast((call) => holdOf(call) === hold && fitsUnchecked(call))
  if (latest) return [latest]
  // With fewer held than a commit takes, Catalog stops at 0: then only the stock says that it happened.
  const clamped = unchecked.findLast(({ verb, qty }) => verb === 'commit' && qty > reservedBefore && stock <= -qty)
  if (clamped && hold === -Math.max(0, reservedBefore)) return [clamped]
  if (hold === 0) return []
  const fits = fitsAmong(touching)
  const checked = touching.filter(({ isChecked }) => isChecked)
  // One acted late, by itself or beside the one that nobody has checked yet: where several would do, the stock tells.
  const exact = [...checked.map((call) => [call]), ...unchecked.flatMap((call) => checked.map((lateOne) => [call, lateOne]))].filter(
    (some) => sumOf(some, holdOf) === hold,
  )
  const likely = exact.find((some) => sumOf(some, stockOf) === stock) ?? exact.find((some) => some.every(fits))
  if (likely) return likely
  const happened: UnansweredCall[] = []
  let left = hold
  for (const call of [...unchecked, ...checked]) {
    const effect = holdOf(call)
    if (Math.sign(effect) !== Math.sign(left) || Math.abs(effect) > Math.abs(left) || !fits(call)) continue
    happened.push(call)
    left -= effect
  }
  return happened
}

/** What commits did not take from `reserved`, since Catalog stops at 0. */
function notLowered(happened: readonly UnansweredCall[], reservedBefore: number): number {
  const committed = sumOf(happened, ({ verb, qty }) => (verb === 'commit' ? qty : 0))
  return committed === 0 ? 0 : Math.max(0, committed - Math.max(0, reservedBefore))
}

/** Units that came may be our own restock: that others brought them would offer more. @param came units of `in_stock` nothing else accounts for */
function restocksOf(calls: readonly UnansweredCall[], came: number): UnansweredCall[] {
  const happened: UnansweredCall[] = []
  let left = came
  for (const call of calls) {
    if (call.verb !== 'restock' || call.qty > left) continue
    happened.push(call)
    left -= call.qty
  }
  return happened
}

function ambiguitiesOf(calls: readonly UnansweredCall[], happened: readonly UnansweredCall[], followed: number, reservedBefore: number) {
  const found: { tooMany: number; tooFew: number; explanation: string }[] = []
  const others = calls.filter((call) => !happened.includes(call))
  for (const { verb, qty } of happened) {
    if (verb === 'restock') found.push({ tooMany: 0, tooFew: qty, explanation: `our restock of ${qty} happened, or others brought them` })
    if (verb !== 'commit') continue
    if (others.some((call) => call.verb === 'release' && call.qty === qty))
      found.push({ tooMany: qty, tooFew: 0, explanation: `our commit of ${qty} happened, or our release did and others took them` })
    if (reservedBefore < qty)
      found.push({ tooMany: qty, tooFew: 0, explanation: `our commit of ${qty} happened while fewer were held, or others took them` })
  }
  const hidden = others.find(({ verb, qty }) => verb === 'commit' && qty <= -followed)
  if (hidden)
    found.push({ tooMany: 0, tooFew: hidden.qty, explanation: `others took ${-followed}, or our commit of ${hidden.qty} acted late` })
  return found
}

/** A call that brings Catalog closer to what our rows say, and what it is for. */
export interface Correction {
  verb: StockVerb
  qty: number
  reason: 'stock-missing' | 'held-for-nobody' | 'hold-missing' | 'stock-extra'
}

/** Units of orders and open checkouts that Catalog does not hold. */
export const missingHolds = ({ holdCorrection, foreignHolds }: ProductCounters): number =>
  Math.max(0, -holdCorrection) + Math.max(0, -foreignHolds)

/**
 * One call at a time; after it Catalog is read again. What is missing in stock comes first: until it is back it is offered to nobody.
 * @param free units that Catalog would give
 * @param canRelease whether it takes a release, or a reserve of less than nothing
 * @returns undefined where there is nothing that a call could put right now
 */
export function nextCorrection(row: ProductCounters, { free, canRelease }: { free: number; canRelease: boolean }): Correction | undefined {
  const { holdCorrection, stockCorrection } = row
  if (stockCorrection < 0) return { verb: 'restock', qty: -stockCorrection, reason: 'stock-missing' }
  if (holdCorrection > 0) {
    // A commit takes a unit too many with its hold; what it takes beyond those is restocked in the next round.
    if (stockCorrection > 0) return { verb: 'commit', qty: Math.min(holdCorrection, stockCorrection), reason: 'stock-extra' }
    return { verb: canRelease ? 'release' : 'commit', qty: holdCorrection, reason: 'held-for-nobody' }
  }
  const missing = Math.min(missingHolds(row), Math.max(0, free))
  if (missing > 0) return { verb: 'reserve', qty: missing, reason: 'hold-missing' }
  if (stockCorrection > 0) return { verb: 'reserve', qty: Math.min(stockCorrection, Math.max(free, 1)), reason: 'stock-extra' }
  return undefined
}
