/** Formats a product of the inventory as a row of a list, in full, or as JSON. */
import type { CatalogInventory } from '../clients/catalog.ts'
import type { Ambiguity, InventoryEntry, OpenCall, Reconciliation } from '../db/inventory-view.ts'
import { missingHolds } from '../stock/explain.ts'
import type { CatalogReading } from './read-catalog.ts'
import { shownTime, table } from './shown.ts'

export interface Product {
  entry: InventoryEntry
  /** undefined if Catalog was not read */
  inCatalog: CatalogReading | undefined
  /** Latest first. */
  ambiguities: readonly Ambiguity[]
  /** The orders that hold the product, if it is oversold. */
  holders: readonly { orderId: number; qty: number; createdAt: Date }[]
  /** Latest first. */
  reconciliations: readonly Reconciliation[]
}

/**
 * What Catalog should have, including pending corrections and excluding unanswered calls.
 * @returns undefined if Catalog has not been read yet
 */
function expected(entry: InventoryEntry): CatalogInventory | undefined {
  const { held, foreignHolds, holdCorrection, expectedStock, stockCorrection } = entry
  if (expectedStock === null) return undefined
  return { inStock: expectedStock + stockCorrection, reserved: held + foreignHolds + holdCorrection }
}

/** What Catalog has, less what it should have. */
function difference({ entry, inCatalog }: Product): CatalogInventory | undefined {
  const known = expected(entry)
  if (!known || !inCatalog || 'noAnswer' in inCatalog) return undefined
  return { inStock: inCatalog.inStock - known.inStock, reserved: inCatalog.reserved - known.reserved }
}

const signed = (units: number) => (units > 0 ? `+${units}` : String(units))
const upTo = ({ tooMany, tooFew }: { tooMany: number; tooFew: number }) =>
  [tooMany > 0 ? `up to ${tooMany} too many` : '', tooFew > 0 ? `up to ${tooFew} too few` : ''].filter(Boolean).join(', ') || 'none'
const shownInventory = ({ reserved, inStock }: CatalogInventory) => `reserved ${reserved}, in_stock ${inStock}`

/** Units that our orders hold and Catalog does not; 0 until Catalog has been read. */
export const oversoldUnits = (entry: InventoryEntry): number => (entry.expectedStock === null ? 0 : missingHolds(entry))

function stateOf(entry: InventoryEntry): string {
  const states = []
  const oversold = oversoldUnits(entry)
  if (oversold > 0) states.push(`oversold by ${oversold}`)
  if (entry.expectedStock === null) states.push('Catalog not read yet')
  if (entry.reconcilingSince) states.push(`reconciling since ${shownTime(entry.reconcilingSince)}`)
  return states.join(', ') || 'ok'
}

export const rowHeading = [
  'PRODUCT',
  'HELD',
  'EXPECTED_STOCK',
  'FOREIGN_HOLDS',
  'HOLD_CORRECTION',
  'STOCK_CORRECTION',
  'CALL',
  'UNANSWERED',
  'OLDEST',
  'AMBIGUOUS',
  'CATALOG',
  'STATE',
]

/** The product's row in the list. */
export function row(product: Product): string[] {
  const { entry } = product
  const [oldest] = entry.unanswered
  return [
    String(entry.productId),
    String(entry.held),
    String(entry.expectedStock ?? '-'),
    String(entry.foreignHolds),
    signed(entry.holdCorrection),
    signed(entry.stockCorrection),
    entry.call ? `${entry.call.verb} ${entry.call.qty}` : '-',
    String(entry.unanswered.length),
    oldest ? shownTime(oldest.since) : '-',
    String(Math.max(entry.ambiguous.tooMany, entry.ambiguous.tooFew)),
    besideCatalog(product),
    stateOf(entry),
  ]
}

function besideCatalog(product: Product): string {
  const { inCatalog } = product
  if (!inCatalog) return '-'
  if ('noAnswer' in inCatalog) return 'no answer'
  const differs = difference(product)
  if (!differs) return shownInventory(inCatalog)
  if (differs.inStock === 0 && differs.reserved === 0) return 'agrees'
  return `${signed(differs.reserved)} reserved, ${signed(differs.inStock)} in_stock`
}

/** The product in full, one property a line. */
export function shown(product: Product): string {
  const { entry, ambiguities, holders, reconciliations } = product
  const known = expected(entry)
  return table([
    ['product', String(entry.productId)],
    ['state', stateOf(entry)],
    ['held', String(entry.held)],
    ['expected stock', String(entry.expectedStock ?? 'unknown')],
    ['foreign holds', String(entry.foreignHolds)],
    ['hold correction', signed(entry.holdCorrection)],
    ['stock correction', signed(entry.stockCorrection)],
    ['Catalog should have', known ? shownInventory(known) : 'unknown'],
    ...catalogLines(product),
    ['call in flight', entry.call ? shownCall(entry.call) : 'none'],
    ...entry.unanswered.map((call) => ['unanswered call', shownUnanswered(call)]),
    ['ambiguous', upTo(entry.ambiguous)],
    ...ambiguities.map((one) => ['ambiguous', `${shownTime(one.at)} ${upTo(one)}: ${one.explanation}`]),
    ...holders.map(({ orderId, qty, createdAt }) => ['held for', `order ${orderId}: ${qty}, since ${shownTime(createdAt)}`]),
    ...reconciliations.map((one) => ['history', shownReconciliation(one)]),
  ])
}

function catalogLines(product: Product): string[][] {
  const { inCatalog } = product
  if (!inCatalog) return []
  if ('noAnswer' in inCatalog) return [['Catalog has', inCatalog.noAnswer]]
  const differs = difference(product)
  if (!differs) return [['Catalog has', shownInventory(inCatalog)]]
  const { reserved, inStock } = inCatalog
  return [['Catalog has', `reserved ${reserved} (${signed(differs.reserved)}), in_stock ${inStock} (${signed(differs.inStock)})`]]
}

const shownCall = ({ callId, verb, qty, expiresAt }: NonNullable<InventoryEntry['call']>) =>
  `${verb} ${qty} (call ${callId}), its lease ends ${shownTime(expiresAt)}`

const shownUnanswered = ({ callId, verb, qty, since, checkedAt }: OpenCall) =>
  `${verb} ${qty} (call ${callId}), since ${shownTime(since)}, ${
    checkedAt ? `not carried out by ${shownTime(checkedAt)}` : 'Catalog not read since'
  }`

const shownReconciliation = ({ at, verb, qty, result, reason }: Reconciliation) =>
  `${shownTime(at)} ${verb} ${qty} ${result} ${reason ?? ''}`.trimEnd()

/** As `--json` prints it. */
export function forJson(product: Product) {
  const { entry, inCatalog, ambiguities, holders, reconciliations } = product
  return {
    ...entry,
    oversold: oversoldUnits(entry),
    expected: expected(entry) ?? null,
    ...(inCatalog === undefined ? {} : { catalog: inCatalog, difference: difference(product) ?? null }),
    ambiguities,
    holders,
    reconciliations,
  }
}
