/** How a product of the ledger is shown: as a row of a list, whole, or as JSON. */
import type { CatalogBooks } from '../clients/catalog.ts'
import type { LedgerEntry, Mending, OpenDoubt, UndecidedPieces } from '../db/ledger-view.ts'
import { shownTime, table } from './shown.ts'

/** What Catalog says of a product, or why it did not say anything. */
export type CatalogSays = CatalogBooks | { noAnswer: string }

export interface Product {
  entry: LedgerEntry
  /** undefined: it was not asked */
  says: CatalogSays | undefined
  undecided: readonly UndecidedPieces[]
  holders: readonly { orderId: number; qty: number; createdAt: Date }[]
  /** The latest first. */
  mendings: readonly Mending[]
}

/** What Catalog should say, as far as we know: extras that are still to be mended are in it, doubts are not. */
const expected = ({ held, drift, extraHold, predictedStock, extraStock }: LedgerEntry) => ({
  inStock: predictedStock + extraStock,
  reserved: held + drift + extraHold,
})

function difference({ entry, says }: Product): CatalogBooks | undefined {
  if (!says || 'noAnswer' in says) return undefined
  const known = expected(entry)
  return { inStock: says.inStock - known.inStock, reserved: says.reserved - known.reserved }
}

const signed = (pieces: number) => (pieces > 0 ? `+${pieces}` : String(pieces))
const upTo = ({ tooMany, tooFew }: { tooMany: number; tooFew: number }) =>
  [tooMany > 0 ? `up to ${tooMany} too many` : '', tooFew > 0 ? `up to ${tooFew} too few` : ''].filter(Boolean).join(', ') || 'none'

export const rowHeading = [
  'PRODUCT',
  'HELD',
  'PREDICTED',
  'DRIFT',
  'EXTRA_HOLD',
  'EXTRA_STOCK',
  'DOUBTS',
  'OLDEST',
  'UNDECIDED',
  'CATALOG',
  'STATE',
]
/** Its line in the list. */
export function row(product: Product): string[] {
  const { entry } = product
  const differs = difference(product)
  const oldest = entry.doubts.reduce<Date | undefined>((first, { since }) => (first && first < since ? first : since), undefined)
  return [
    String(entry.productId),
    String(entry.held),
    String(entry.predictedStock),
    String(entry.drift),
    signed(entry.extraHold),
    signed(entry.extraStock),
    String(entry.doubts.length),
    oldest ? shownTime(oldest) : '-',
    String(Math.max(entry.undecided.tooMany, entry.undecided.tooFew)),
    differs
      ? differs.inStock === 0 && differs.reserved === 0
        ? 'agrees'
        : `${signed(differs.reserved)} held, ${signed(differs.inStock)} in stock`
      : '-',
    stateOf(entry),
  ]
}

function stateOf({ unsellable, mendingSince }: LedgerEntry): string {
  if (unsellable) return 'sold twice'
  return mendingSince ? `being mended since ${shownTime(mendingSince)}` : 'fine'
}

const shownDoubt = ({ verb, qty, orderId }: Pick<OpenDoubt, 'verb' | 'qty' | 'orderId'>) =>
  `${verb} ${qty} ${orderId === null ? 'by mending' : `for order ${orderId}`}`

/** All about it, line by line. */
export function shown(product: Product): string {
  const { entry, says, undecided, holders, mendings } = product
  const differs = difference(product)
  const rows: [string, string][] = [
    ['product', String(entry.productId)],
    ['state', stateOf(entry)],
    ['we hold', String(entry.held)],
    ['drift', String(entry.drift)],
    ['predicted stock', String(entry.predictedStock)],
    ['extras', `${signed(entry.extraHold)} held, ${signed(entry.extraStock)} in stock`],
    ['Catalog should say', `reserved ${expected(entry).reserved}, in_stock ${expected(entry).inStock}`],
  ]
  if (says && 'noAnswer' in says) rows.push(['Catalog says', says.noAnswer])
  if (differs) {
    const { inStock, reserved } = says as CatalogBooks
    rows.push(['Catalog says', `reserved ${reserved} (${signed(differs.reserved)}), in_stock ${inStock} (${signed(differs.inStock)})`])
  }
  rows.push(['undecided', upTo(entry.undecided)])
  for (const doubt of entry.doubts) {
    const looked = doubt.lookedAt ? `not found at ${shownTime(doubt.lookedAt)}` : 'nobody has looked since'
    rows.push(['doubt', `${shownDoubt(doubt)}, since ${shownTime(doubt.since)}, ${looked}`])
  }
  for (const { at, why, tooMany, tooFew, taken, doubts } of undecided) {
    const story =
      why === 'sold'
        ? 'restocked too many, and sold before they could be taken back'
        : `taken to have happened: ${taken.map(shownDoubt).join(', ') || 'nothing'}; of: ${doubts.map(shownDoubt).join(', ')}`
    rows.push(['undecided', `${shownTime(at)} ${upTo({ tooMany, tooFew })}; ${story}`])
  }
  for (const { orderId, qty, createdAt } of holders) rows.push(['held for', `order ${orderId}, ${qty}, since ${shownTime(createdAt)}`])
  for (const { at, verb, qty, answer, why, orderId } of mendings) {
    const reason = why ?? (orderId === null ? '' : `order ${orderId}`)
    rows.push(['mended', `${shownTime(at)} ${verb} ${qty} ${answer} ${reason}`.trimEnd()])
  }
  return table(rows)
}

/** As `--json` prints it. */
export function forJson(product: Product) {
  const { entry, says, undecided, holders, mendings } = product
  const { undecided: pieces, ...rest } = entry
  return {
    ...rest,
    expected: expected(entry),
    ...(says === undefined ? {} : { catalog: says, difference: difference(product) ?? null }),
    undecided: { ...pieces, stories: undecided },
    holders,
    mendings,
  }
}
