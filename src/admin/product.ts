/** Formats a product of the inventory as a row of a list, in full, or as JSON. */
import type { CatalogInventory } from '../clients/catalog.ts'
import type { InventoryEntry, OpenCall, Reconciliation } from '../db/inventory-view.ts'
import { difference, expected, oversoldUnits, type Product } from '../operators/inventory.ts'
import { shownTime, table } from './shown.ts'

const signed = (units: number) => (units > 0 ? `+${units}` : String(units))
const upTo = ({ tooMany, tooFew }: { tooMany: number; tooFew: number }) =>
  [tooMany > 0 ? `up to ${tooMany} too many` : '', tooFew > 0 ? `up to ${tooFew} too few` : ''].filter(Boolean).join(', ') || 'none'
const shownInventory = ({ reserved, inStock }: CatalogInventory) => `reserved ${reserved}, in_stock ${inStock}`

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
    ...ambiguities.map((one) => [one.acceptedAt ? 'was ambiguous' : 'ambiguous', shownAmbiguity(one)]),
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

const shownAmbiguity = (one: Product['ambiguities'][number]) =>
  `${shownTime(one.at)} ${upTo(one)}: ${one.explanation}${one.acceptedAt ? `, accepted ${shownTime(one.acceptedAt)}` : ''}`

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
