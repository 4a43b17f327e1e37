/** What came of many histories. */
import { type Complaints, type End, type Failure, history } from './history.ts'
import type { Row } from './knobs.ts'

export interface Figures {
  seeds: number
  orders: number
  created: number
  /** Units paid for. */
  sold: number
  /** Seeds in which something was not brought to its end. */
  unfinished: number[]
  /** Seeds in which Catalog holds other units than our rows do, or a product's row counts others. */
  wrongHolds: number[]
  /** Units promised that are not there, as the service knows: a call that acted late had given them back. */
  oversold: number
  /** Units that Catalog has too many, and too few. */
  tooMany: number
  tooFew: number
  /** Seeds with a wrong unit. */
  wrongStock: number[]
  /** Seeds with a wrong unit that the service does not list as ambiguous, save where Catalog itself lost a call that acted late. */
  unlisted: number[]
  /** Units that it lists. */
  listed: number
  /** Seeds in which two calls were at one product at once, both of them in their time. */
  overlaps: number[]
  /** How often what happened. */
  tally: Record<string, number>
  /** The first history that fails, shrunk. */
  failure: (Failure & { seed: number }) | undefined
}

export interface FiguresOptions {
  complaints?: Complaints
  shrinkMs?: number
}

/** The same seeds and row give the same figures. */
export async function figuresOf(
  from: number,
  seeds: number,
  row: Row,
  { complaints, shrinkMs = 60_000 }: FiguresOptions = {},
): Promise<Figures> {
  const figures: Figures = {
    seeds,
    orders: 0,
    created: 0,
    sold: 0,
    unfinished: [],
    wrongHolds: [],
    oversold: 0,
    tooMany: 0,
    tooFew: 0,
    wrongStock: [],
    unlisted: [],
    listed: 0,
    overlaps: [],
    tally: {},
    failure: undefined,
  }
  for (let seed = from; seed < from + seeds; seed += 1) {
    const { end, failure } = await history(seed, row, complaints && !figures.failure ? { complaints, shrinkMs } : {})
    add(figures, end)
    if (failure) figures.failure = { ...failure, seed }
  }
  return figures
}

function add(figures: Figures, { seed, orders, created, sold, unfinished, products, tally }: End): void {
  figures.orders += orders
  figures.created += created
  figures.sold += sold
  for (const { wrongStock, listed, oversold } of products) {
    figures.oversold += oversold
    if (wrongStock > 0) figures.tooMany += wrongStock
    else figures.tooFew -= wrongStock
    figures.listed += Math.max(listed.tooMany, listed.tooFew)
  }
  if (unfinished > 0) figures.unfinished.push(seed)
  if (products.some(({ wrongHold, wrongCount }) => wrongHold !== 0 || wrongCount !== 0)) figures.wrongHolds.push(seed)
  if (products.some(({ wrongStock }) => wrongStock !== 0)) figures.wrongStock.push(seed)
  const isListed = ({ wrongStock, listed, wasOverwritten }: End['products'][number]) =>
    wasOverwritten || (wrongStock <= listed.tooMany && -wrongStock <= listed.tooFew)
  if (!products.every(isListed)) figures.unlisted.push(seed)
  if (tally.overlaps) figures.overlaps.push(seed)
  for (const [what, times] of Object.entries(tally)) figures.tally[what] = (figures.tally[what] ?? 0) + times
}

/** Faults that a history must not have: calls that overlap, holds that differ from our rows, checkouts or payments that never end. */
export const inOrder: Complaints = ({ unfinished, products, tally }) => [
  ...(unfinished > 0 ? [`${unfinished} unfinished`] : []),
  ...(tally.overlaps ? [`calls overlapped ${tally.overlaps} times`] : []),
  ...products.flatMap(({ productId, wrongHold, wrongCount }) => [
    ...(wrongHold !== 0 ? [`product ${productId}: Catalog holds ${wrongHold} too many`] : []),
    ...(wrongCount !== 0 ? [`product ${productId}: its row counts ${wrongCount} too many`] : []),
  ]),
]

/** Where nothing acts late, stock is exact as well. */
export const inOrderAndExact: Complaints = (end) => [
  ...inOrder(end),
  ...(end.tally['sent without a lease'] ? ['a call was sent without a lease'] : []),
  ...end.products.flatMap(({ productId, wrongStock, oversold }) => [
    ...(wrongStock !== 0 ? [`product ${productId}: Catalog has ${wrongStock} too many`] : []),
    ...(oversold !== 0 ? [`product ${productId}: ${oversold} oversold`] : []),
  ]),
]

/** For whoever has to find the cause: the shortest history that was found, and how to run it again. */
export function reportOf(name: string, { seed, complaints, commands, before, path, replayPath }: NonNullable<Figures['failure']>): string {
  return [
    `seed ${seed} of: ${name}: ${complaints.join('; ')}`,
    `${before} commands, shrunk to ${commands.length}:`,
    ...commands.map((command) => `  ${command}`),
    `replay: bin/model --only '${name}' --tell ${seed} --path ${path} --replay-path '${replayPath}'`,
  ].join('\n')
}
