/** What came of many histories. */
import { type End, type Knobs, trial } from './trial.ts'

export interface Figures {
  seeds: number
  orders: number
  /** Pieces paid for. */
  sold: number
  /** Seeds in which something was not brought to its end. */
  unfinished: number[]
  /** Seeds in which Catalog holds other pieces than our rows do. */
  wrongHolds: number[]
  /** Pieces that Catalog has too many, and too few. */
  tooMany: number
  tooFew: number
  /** Seeds with a wrong piece of which our records do not say so, or for which there is no reason but a fault of ours. */
  unexplained: number[]
  /** Seeds with a wrong piece that the ledger does not list as undecided, save where Catalog itself lost a call that came late. */
  unlisted: number[]
  /** Pieces that it lists. */
  undecided: number
  /** Seeds in which two calls were at one product at once, both of them in their time. */
  overlaps: number[]
  /** How often what happened. */
  tally: Record<string, number>
}

/** The same seeds and knobs give the same figures. */
export async function figuresOf(from: number, seeds: number, changed: Partial<Knobs>): Promise<Figures> {
  const figures: Figures = {
    seeds,
    orders: 0,
    sold: 0,
    unfinished: [],
    wrongHolds: [],
    tooMany: 0,
    tooFew: 0,
    unexplained: [],
    unlisted: [],
    undecided: 0,
    overlaps: [],
    tally: {},
  }
  for (let seed = from; seed < from + seeds; seed += 1) {
    add(figures, await trial(seed, changed))
    await new Promise((resolve) => setImmediate(resolve))
  }
  return figures
}

function add(figures: Figures, end: End): void {
  const { seed, orders, sold, unfinished, products, misreadings, tally } = end
  figures.orders += orders
  figures.sold += sold
  for (const { wrongStock } of products) {
    if (wrongStock > 0) figures.tooMany += wrongStock
    else figures.tooFew -= wrongStock
  }
  if (unfinished > 0) figures.unfinished.push(seed)
  if (products.some(({ wrongHold }) => wrongHold !== 0)) figures.wrongHolds.push(seed)
  const noted = (id: number) => misreadings.filter(({ productId }) => productId === id).reduce((sum, { pieces }) => sum + pieces, 0)
  const isExplained =
    products.every(({ productId, wrongStock }) => wrongStock === noted(productId)) && misreadings.every(({ why }) => why !== 'none')
  if (!isExplained) figures.unexplained.push(seed)
  for (const { undecided } of products) figures.undecided += Math.max(undecided.tooMany, undecided.tooFew)
  const wasOverwritten = (id: number) => misreadings.some(({ productId, why }) => productId === id && why === 'overwritten')
  const isListed = ({ productId, wrongStock, undecided }: End['products'][number]) =>
    wasOverwritten(productId) || (wrongStock <= undecided.tooMany && -wrongStock <= undecided.tooFew)
  if (!products.every(isListed)) figures.unlisted.push(seed)
  if (tally.overlaps) figures.overlaps.push(seed)
  for (const [what, times] of Object.entries(tally)) figures.tally[what] = (figures.tally[what] ?? 0) + times
}
