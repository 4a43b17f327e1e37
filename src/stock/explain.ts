/**
 * Explains Catalog's answer: a pure function of the product's row, the unanswered calls and Catalog's inventory.
 *
 * Only this service changes `reserved`, so `reserved` shows which reserves, commits and releases happened. Others brought or took the part
 * of `in_stock` that these calls do not account for. Examples, where the row is `held 4, expected_stock 10` and everything else is 0:
 *
 * | unanswered                    | Catalog says            | means |
 * | ---                           | ---                     | --- |
 * | reserve 2                     | reserved 4, in stock 10 | it did not happen (yet) |
 * | reserve 2                     | reserved 6, in stock 10 | it happened |
 * | commit 1                      | reserved 3, in stock 9  | it happened |
 * | commit 1                      | reserved 3, in stock 14 | it happened, and others brought 5 |
 * | commit 1                      | reserved 4, in stock 9  | it did not happen; others took 1. Listed: reserved 0 hides a late commit |
 * | commit 1, release 1           | reserved 3, in stock 9  | the commit happened. Listed: the release may have, and others took 1 |
 * | commit 1, release 1           | reserved 3, in stock 10 | the release happened |
 * | commit 1; release 1, checked  | reserved 3, in stock 10 | the commit happened, and others brought 1. Listed |
 * | commit 1, reserve 1           | reserved 4, in stock 12 | neither happened, others brought 2. Listed: or both did, and they brought 3 |
 * | restock 1 (1 is missing)      | reserved 4, in stock 10 | it happened. Listed: others may have brought 1, but that would offer more |
 * | restock 2 (2 are missing)     | reserved 4, in stock 9  | it did not happen; others brought 1. Listed: or it did; others took 1 |
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
  /** `reserved` at Catalog, minus its expected value. */
  hold: number
  /** `in_stock` at Catalog, minus its expected value. */
  stock: number
  reservedBefore: number
}

/** @param calls the calls of the last ten minutes that are not known to have happened, the oldest first */
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
 * Normally one call has no answer: the one whose lease expired last. Older calls may act late. One late call is matched by quantity,
 * several are matched from the oldest. If commits and releases both fit, `in_stock` tells them apart.
 */
function happenedOf(calls: readonly UnansweredCall[], { hold, stock, reservedBefore }: Difference): UnansweredCall[] {
  const touching = calls.filter((call) => holdOf(call) !== 0)
  const fitsAmong = (others: readonly UnansweredCall[]) => {
    const hasRelease = others.some(({ verb }) => verb === 'release')
    const isCommit = others.some(({ verb, qty }) => verb === 'commit' && hold === -qty && stock <= -qty)
    return ({ verb, qty }: UnansweredCall) => (verb === 'release' ? !isCommit : verb === 'reserve' || !hasRelease || stock <= -qty)
  }
  const unchecked = touching.filter(({ isChecked }) => !isChecked)
  // A checked call had not happened at its check. So an unchecked call is likelier than a late checked call.
  const fitsUnchecked = fitsAmong(unchecked)
  const latest = unchecked.findLast((call) => holdOf(call) === hold && fitsUnchecked(call))
  if (latest) return [latest]
  // If a commit takes more than is held, Catalog stops at 0. Then only the stock shows that the commit happened.
  const clamped = unchecked.findLast(({ verb, qty }) => verb === 'commit' && qty > reservedBefore && stock <= -qty)
  if (clamped && hold === -Math.max(0, reservedBefore)) return [clamped]
  if (hold === 0) return []
  const fits = fitsAmong(touching)
  const checked = touching.filter(({ isChecked }) => isChecked)
  // One checked call acted late, alone or together with an unchecked call. If several combinations fit, the stock decides.
  const exact = [
    // A call is unchecked again once another of its products shows that it happened.
    ...unchecked.flatMap((call, i) => unchecked.slice(i + 1).map((other) => [call, other])),
    ...checked.map((call) => [call]),
    ...unchecked.flatMap((call) => checked.map((lateOne) => [call, lateOne])),
  ].filter((some) => sumOf(some, holdOf) === hold)
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

/** Units that commits did not take from `reserved`, because Catalog stops at 0. */
function notLowered(happened: readonly UnansweredCall[], reservedBefore: number): number {
  const committed = sumOf(happened, ({ verb, qty }) => (verb === 'commit' ? qty : 0))
  return committed === 0 ? 0 : Math.max(0, committed - Math.max(0, reservedBefore))
}

/**
 * Treats new units as our own restock where one fits, because the assumption that others brought them would offer more units.
 * @param came units of `in_stock` that nothing else accounts for
 */
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
  const isUnchecked = (verb: StockVerb) => (call: UnansweredCall) => call.verb === verb && !call.isChecked
  const pair = others
    .filter(isUnchecked('commit'))
    .find(({ qty }) => others.some((call) => isUnchecked('reserve')(call) && call.qty === qty))
  if (pair && pair !== hidden && followed !== 0)
    found.push({
      tooMany: 0,
      tooFew: pair.qty,
      explanation: `neither our reserve nor our commit of ${pair.qty} happened, or both did and others brought ${followed + pair.qty}`,
    })
  const unseen = followed === 0 ? undefined : others.find(isUnchecked('restock'))
  if (unseen)
    found.push({
      tooMany: unseen.qty,
      tooFew: 0,
      explanation: `our restock of ${unseen.qty} did not happen, or it did and others took ${unseen.qty - followed}`,
    })
  return found
}

/** A call that brings Catalog closer to our rows, and its reason. */
export interface Correction {
  verb: StockVerb
  qty: number
  reason: 'stock-missing' | 'held-for-nobody' | 'hold-missing' | 'stock-extra'
}

/** Units of orders and open checkouts that Catalog does not hold. */
export const missingHolds = ({ holdCorrection, foreignHolds }: ProductCounters): number =>
  Math.max(0, -holdCorrection) + Math.max(0, -foreignHolds)

/**
 * Corrections are made one call at a time, and Catalog is read again after each. Missing stock comes first, because nobody can buy it
 * until it is restored.
 * @param free units that Catalog can still reserve
 * @param canRelease whether Catalog accepts a release, or a reserve of a negative quantity
 * @returns undefined if no call can correct anything now
 */
export function nextCorrection(row: ProductCounters, { free, canRelease }: { free: number; canRelease: boolean }): Correction | undefined {
  const { holdCorrection, stockCorrection } = row
  if (stockCorrection < 0) return { verb: 'restock', qty: -stockCorrection, reason: 'stock-missing' }
  if (holdCorrection > 0) {
    // A commit removes excess units together with their holds. If it removes too many, the next round restocks them.
    if (stockCorrection > 0) return { verb: 'commit', qty: Math.min(holdCorrection, stockCorrection), reason: 'stock-extra' }
    return { verb: canRelease ? 'release' : 'commit', qty: holdCorrection, reason: 'held-for-nobody' }
  }
  const missing = Math.min(missingHolds(row), Math.max(0, free))
  if (missing > 0) return { verb: 'reserve', qty: missing, reason: 'hold-missing' }
  if (stockCorrection > 0) return { verb: 'reserve', qty: Math.min(stockCorrection, Math.max(free, 1)), reason: 'stock-extra' }
  return undefined
}
