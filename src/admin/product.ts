/** How a product of the inventory is shown: as a row of a list, whole, or as JSON. */
import type { CatalogInventory } from '../clients/catalog.ts'
import type { Ambiguity, InventoryEntry, OpenCall, Reconciliation } from '../db/inventory-view.ts'
import { missingHolds } from '../stock/explain.ts'
import type { CatalogSays } from './read-catalog.ts'
import { shownTime, table } from './shown.ts'

export interface Product {
  entry: InventoryEntry
  /** undefined: Catalog was not read */
  says: CatalogSays | undefined
  /** The latest first. */
  ambiguities: readonly Ambiguity[]
  /** Orders that hold the product, where it is oversold. */
  holders: readonly { orderId: number; qty: number; createdAt: Date }[]
  /** The latest first. */
  reconciliations: readonly Reconciliation[]
}

/**
 * What Catalog should say: corrections that are still to be made are in it, calls without an answer are not.
 * @returns undefined where Catalog has not been read yet
 */
function expected(entry: InventoryEntry): CatalogInventory | undefined {
  const { held, foreignHolds, holdCorrection, expectedStock, stockCorrection } = entry
  if (expectedStock === null) return undefined
  return { inStock: expectedStock + stockCorrection, reserved: held + foreignHolds + holdCorrection }
}

/** What Catalog says beyond what it should. */
function difference({ entry, says }: Product): CatalogInventory | undefined {
  const known = expected(entry)
  if (!known || !says || 'noAnswer' in says) return undefined
  return { inStock: says.inStock - known.inStock, reserved: says.reserved - known.reserved }
}

const signed = (units: number) => (units > 0 ? `+${units}` : String(units))
const upTo = ({ tooMany, tooFew }: { tooMany: number; tooFew: number }) =>
  [tooMany > 0 ? `up to ${tooMany} too many` : '', tooFew > 0 ? `up to ${tooFew} too few` : ''].filter(Boolean).join(', ') || 'none'
const shownInventory = ({ reserved, inStock }: CatalogInventory) => `reserved ${reserved}, in_stock ${inStock}`

/** Units that our orders hold and Catalog does not. Before Catalog was read, nothing is known of it. */
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

/** Its line in the list. */
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
  const { says } = product
  if (!says) return '-'
  if ('noAnswer' in says) return 'no answer'
  const differs = difference(product)
  if (!differs) return shownInventory(says)
  if (differs.inStock === 0 && differs.reserved === 0) return 'agrees'
  return `${signed(differs.reserved)} reserved, ${signed(differs.inStock)} in_stock`
}

/** All about it, line by line. */
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
    ['Catalog should say', known ? shownInventory(known) : 'unknown'],
    ...catalogLines(product),
    ['call under way', entry.call ? shownCall(entry.call) : 'none'],
    ...entry.unanswered.map((call) => ['unanswered call', shownUnanswered(call)]),
    ['ambiguous', upTo(entry.ambiguous)],
    ...ambiguities.map((one) => ['ambiguous', `${shownTime(one.at)} ${upTo(one)}: ${one.explanation}`]),
    ...holders.map(({ orderId, qty, createdAt }) => ['held for', `order ${orderId}: ${qty}, since ${shownTime(createdAt)}`]),
    ...reconciliations.map((one) => ['history', shownReconciliation(one)]),
  ])
}

function catalogLines(product: Product): string[][] {
  const { says } = product
  if (!says) return []
  if ('noAnswer' in says) return [['Catalog says', says.noAnswer]]
  const differs = difference(product)
  if (!differs) return [['Catalog says', shownInventory(says)]]
  const { reserved, inStock } = says
  return [['Catalog says', `reserved ${reserved} (${signed(differs.reserved)}), in_stock ${inStock} (${signed(differs.inStock)})`]]
}

const shownCall = ({ callId, verb, qty, expiresAt }: NonNullable<InventoryEntry['call']>) =>
  `${verb} ${qty} (call ${callId}), its lease ends ${shownTime(expiresAt)}`

const shownUnanswered = ({ callId, verb, qty, since, checkedAt }: OpenCall) =>
  `${verb} ${qty} (call ${callId}), since ${shownTime(since)}, ${
    checkedAt ? `had not happened at ${shownTime(checkedAt)}` : 'Catalog not read since'
  }`

const shownReconciliation = ({ at, verb, qty, result, reason }: Reconciliation) =>
  `${shownTime(at)} ${verb} ${qty} ${result} ${reason ?? ''}`.trimEnd()

/** As `--json` prints it. */
export function forJson(product: Product) {
  const { entry, says, ambiguities, holders, reconciliations } = product
  return {
    ...entry,
    oversold: oversoldUnits(entry),
    expected: expected(entry) ?? null,
    ...(says === undefined ? {} : { catalog: says, difference: difference(product) ?? null }),
    ambiguities,
    holders,
    reconciliations,
  }
}
