/**
 * One history: fast-check draws its commands from a seed, and shrinks them if it fails. After the last command it is quiet until nothing
 * is left to do. Then Catalog's inventory is compared with the model and our rows.
 *
 * fast-check runs commands one after another, and a shop does not: so to run a command is to plan it for its time, and the simulation
 * carries them out together.
 */
import * as fc from 'fast-check'
import { commands } from './commands.ts'
import { type Knobs, knobsOf, NEW_PRODUCTS, PRODUCTS, type Row } from './knobs.ts'
import { Simulation, type Totals } from './simulation.ts'
import { heldOf } from './tables.ts'

export interface ProductEnd {
  productId: number
  /** Units held at Catalog and by no row of ours; below 0: missing there. */
  wrongHold: number
  /** Units promised that are not there: Catalog has none to hold for them, and the row says how many are missing. */
  oversold: number
  /** Units that the product's row counts too many as held. */
  wrongCount: number
  /** Units that Catalog has too many; below 0: too few. */
  wrongStock: number
  /** What the ambiguities say of it: at the most so many too many, and too few. */
  listed: { tooMany: number; tooFew: number }
  /** A call that acted late met another one at Catalog. */
  wasOverwritten: boolean
}

export interface End {
  seed: number
  orders: number
  created: number
  /** Units paid for. */
  sold: number
  /** What {@link Simulation.unfinished} counts. */
  unfinished: number
  products: ProductEnd[]
  tally: Record<string, number>
}

/** What is wrong at the end of a history; nothing in a good one. */
export type Complaints = (end: End) => string[]

export interface HistoryOptions {
  /** A history with complaints fails, and is shrunk if {@link shrinkMs} allows it. */
  complaints?: Complaints
  /** For so long at the most. */
  shrinkMs?: number
  /** Of an earlier failure: runs the shrunk history alone. */
  replay?: Replay | undefined
  /** Is told the history, line by line. */
  hear?: (line: string) => void
}

export interface Replay {
  path: string
  replayPath: string
}

export interface Failure extends Replay {
  complaints: string[]
  /** How many commands the history had before it was shrunk. */
  before: number
  commands: string[]
}

/** @returns the end of the history that was drawn, and what it shrinks to if it fails */
export async function history(seed: number, row: Row, options: HistoryOptions = {}): Promise<{ end: End; failure?: Failure }> {
  const { complaints = () => [], shrinkMs = 0, replay, hear } = options
  const on = knobsOf(row)
  let first: { end: End; commands: number } | undefined
  let failed: Pick<Failure, 'complaints' | 'commands'> | undefined
  const property = fc.asyncProperty(commands(on, replay?.replayPath), async (drawn) => {
    // A run leaves the event loop no time for timers.
    await new Promise((resolve) => setImmediate(resolve))
    const end = await run(seed, on, drawn, hear)
    const wrong = complaints(end)
    first ??= { end, commands: [...drawn].length }
    if (wrong.length === 0) return
    failed = { complaints: wrong, commands: Array.from(drawn, String).sort() }
    throw new Error(wrong.join('; '))
  })
  const shrinks = shrinkMs > 0 ? { interruptAfterTimeLimit: shrinkMs } : { endOnFailure: true }
  const { counterexample, counterexamplePath, errorInstance } = await fc.check(property, {
    seed,
    numRuns: 1,
    unbiased: true,
    path: replay?.path ?? '',
    ...shrinks,
  })
  if (!first) throw errorInstance
  const { end, commands: before } = first
  if (!failed) return { end }
  const [, replayPath = ''] = /replayPath="(.*)"/.exec(String(counterexample?.[0])) ?? []
  return { end, failure: { ...failed, before, path: counterexamplePath!, replayPath } }
}

async function run(
  seed: number,
  on: Knobs,
  drawn: Iterable<fc.AsyncCommand<Totals, Simulation>>,
  hear?: (line: string) => void,
): Promise<End> {
  const shop = new Simulation(seed, on, hear)
  await fc.asyncModelRun(() => ({ model: shop.totals, real: shop }), drawn)
  await shop.settle()
  const products = [...PRODUCTS, ...NEW_PRODUCTS].map((id) => endOf(shop, id))
  return {
    seed,
    orders: shop.tables.checkouts.size,
    created: shop.tables.orders.size,
    sold: [...shop.totals.paid.values()].reduce((sum, qty) => sum + qty, 0),
    // An oversold product is checked until a person has put it right.
    unfinished: shop.unfinished() - products.filter(({ oversold }) => oversold > 0).length,
    products,
    tally: shop.world.tally,
  }
}

function endOf({ tables, totals, catalog }: Simulation, productId: number): ProductEnd {
  const { inStock, reserved } = catalog.inventory.get(productId)!
  const leaked = totals.leaked.get(productId)!
  const held = heldOf(tables, productId)
  const row = tables.products.get(productId)
  const wrongHold = reserved - leaked - held
  const known = row ? row.foreignHolds + row.holdCorrection - leaked : 0
  const isOversold = wrongHold < 0 && known === wrongHold && inStock <= reserved
  const ambiguities = tables.ambiguities.filter((one) => one.productId === productId)
  return {
    productId,
    wrongHold: isOversold ? 0 : wrongHold,
    oversold: isOversold ? -wrongHold : 0,
    wrongCount: (row?.held ?? 0) - held,
    wrongStock: inStock - (totals.arrived.get(productId)! - (totals.paid.get(productId) ?? 0)),
    listed: {
      tooMany: ambiguities.reduce((sum, { tooMany }) => sum + tooMany, 0),
      tooFew: ambiguities.reduce((sum, { tooFew }) => sum + tooFew, 0),
    },
    wasOverwritten: catalog.overwritten.has(productId),
  }
}
