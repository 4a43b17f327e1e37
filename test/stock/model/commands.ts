/** The commands of a history: what customers, others and faults do to the simulated shop, and how often. */
import * as fc from 'fast-check'
import { CALL_TIMEOUT_MS } from './catalog.ts'
import type { CallFault } from './faults.ts'
import { type Knobs, NEW_PRODUCTS, type PerMinute, PRODUCTS } from './knobs.ts'
import type { Purchase } from './shipping.ts'
import { type Simulation, STATEMENTS, type Totals } from './simulation.ts'
import { TABLES } from './tables.ts'

/** Something that happens to the shop at a time of its own. If one is left out, the others keep their times. */
class Command implements fc.AsyncCommand<Totals, Simulation> {
  readonly #atMs: number
  readonly #what: string
  readonly #act: (shop: Simulation) => void

  constructor(atMs: number, what: string, act: (shop: Simulation) => void) {
    this.#atMs = atMs
    this.#what = what
    this.#act = act
  }

  check(): boolean {
    return true
  }

  async run(_: Totals, shop: Simulation): Promise<void> {
    shop.world.after(this.#atMs, () => this.#act(shop))
  }

  toString(): string {
    return `${(this.#atMs / 1000).toFixed(3).padStart(8)} s  ${this.#what}`
  }
}

/** One kind of command: what is drawn and shrunk, how it reads, and what it does. */
interface Kind {
  of(atMs: fc.Arbitrary<number>): fc.Arbitrary<Command>
}

const kind = <Data>(data: fc.Arbitrary<Data>, tell: (data: Data) => string, act: (shop: Simulation, data: Data) => void): Kind => ({
  of: (atMs) => fc.tuple(atMs, data).map(([ms, drawn]) => new Command(ms, tell(drawn), (shop) => act(shop, drawn))),
})

const anyProduct = fc.constantFrom(...PRODUCTS)
const between = (min: number, max: number) => fc.integer({ min, max })
/** The likelier choice is the simpler one. */
const unless = <Usual, Other>(share: number, usual: fc.Arbitrary<Usual>, other: fc.Arbitrary<Other>) =>
  fc.oneof({ withCrossShrink: true }, { weight: 1000 - share * 1000, arbitrary: usual }, { weight: share * 1000, arbitrary: other })
const sometimes = (share: number) => unless(share, fc.constant(false), fc.constant(true))
const next = (what: string, skips: number) => `the next ${what}${skips > 0 ? ` but ${skips}` : ''}`

/** @param productIds may name one product twice */
function purchase(productIds: fc.Arbitrary<readonly number[]>, qty: fc.Arbitrary<number>): fc.Arbitrary<Purchase> {
  const payment = fc.tuple(between(100, 4000), fc.constantFrom(0, 0, 500)).map(([ms, more]) => ms + more)
  const lines = fc
    .tuple(productIds, fc.array(qty, { minLength: 4, maxLength: 4 }))
    .map(([ids, qtys]) => [...new Set(ids)].sort((a, b) => a - b).map((productId, i) => ({ productId, qty: qtys[i]! })))
  return fc.record({
    lines,
    isQueued: sometimes(0.002).map((isLost) => !isLost),
    shipping: fc.oneof(
      { withCrossShrink: true },
      { weight: 790, arbitrary: fc.constant('accepts' as const) },
      { weight: 200, arbitrary: fc.constant('refuses' as const) },
      { weight: 10, arbitrary: fc.constantFrom('silent' as const, 'silent, but done' as const) },
    ),
    paysAfterMs: fc.oneof(
      { withCrossShrink: true },
      { weight: 30, arbitrary: fc.constant([]) },
      { weight: 67, arbitrary: fc.tuple(payment) },
      { weight: 3, arbitrary: fc.tuple(payment, payment) },
    ),
  })
}

function readPurchase({ lines, isQueued, shipping, paysAfterMs }: Purchase): string {
  const said = [lines.map(({ productId, qty }) => `${qty} of ${productId}`).join(' and ')]
  if (!isQueued) said.push('the job is not queued')
  if (shipping !== 'accepts') said.push(`Shipping ${shipping.startsWith('silent') ? `is ${shipping}` : shipping}`)
  for (const ms of paysAfterMs) said.push(`pays after ${ms} ms`)
  return said.join(', ')
}

const buy = (hot: number): Kind => {
  const also = (share: number, ids: fc.Arbitrary<number>) => unless(share, fc.constant([]), fc.tuple(ids))
  const ids = fc
    .tuple(
      unless(1 - hot, fc.constant(PRODUCTS[0]!), anyProduct),
      also(0.33, anyProduct),
      also(0.1, anyProduct),
      also(0.03, fc.constantFrom(...NEW_PRODUCTS)),
    )
    .map(([id, ...others]) => [id, ...others.flat()])
  return kind(
    purchase(ids, fc.constantFrom(1, 1, 2, 3)),
    (bought) => `a customer buys ${readPurchase(bought)}`,
    (shop, bought) => shop.buy(bought),
  )
}

/** Customers of one product, some of whom also want another one. */
const crowd = kind(
  fc.tuple(unless(0.2, anyProduct, fc.constantFrom(...NEW_PRODUCTS)), anyProduct, sometimes(0.25)).chain(([id, other, wantsOther]) => {
    const ids = sometimes(wantsOther ? 0.2 : 0).map((both) => (both ? [id, other] : [id]))
    const customer = fc.tuple(between(0, 20), purchase(ids, fc.constantFrom(1, 1, 1, 2)))
    return fc.array(customer, { minLength: 1, maxLength: 80, size: 'max' })
  }),
  (customers) => `a crowd buys: ${customers.map(([ms, bought]) => `after ${ms} ms ${readPurchase(bought)}`).join('; ')}`,
  (shop, customers) => {
    shop.world.count('crowd')
    for (const [ms, bought] of customers) shop.world.after(ms, () => shop.buy(bought))
  },
)

/** Mostly in the middle of the process's work, which takes but a small part of its time. */
const strike = kind(
  fc.record({
    process: between(0, 1),
    after: unless(
      0.8,
      fc.constant(undefined),
      fc.record({ on: fc.constantFrom(...STATEMENTS, 'call to Catalog'), skips: fc.nat({ max: 2 }) }),
    ),
    stopsMs: unless(0.4, fc.constant(undefined), between(3000, 15_000)),
    flushes: sometimes(0.1),
  }),
  ({ process, after, stopsMs, flushes }) =>
    `process ${process} is ${stopsMs === undefined ? 'killed' : `stopped for ${stopsMs} ms`}` +
    `${after ? ` in ${next(after.on, after.skips)}` : ''}${flushes ? '; FLUSHALL' : ''}`,
  (shop, { process, after, stopsMs, flushes }) => {
    shop.strike(process, after, stopsMs)
    if (flushes) shop.flush()
  },
)

const lock = kind(
  fc.record({
    productId: anyProduct,
    last: fc.constantFrom(undefined, 'checkouts' as const, 'events' as const),
    ms: fc.constantFrom(50, 500, 5000),
  }),
  ({ productId, last, ms }) => `somebody locks ${last ? `the last of the open ${last}, or ` : ''}product ${productId} for ${ms} ms`,
  (shop, { productId, last, ms }) => shop.lock(productId, last, ms),
)

const busyRow = kind(
  fc.record({ table: fc.constantFrom(...TABLES), skips: fc.nat({ max: 10 }) }),
  ({ table, skips }) => `another statement has ${next(`row of ${table}`, skips)} that is asked for`,
  (shop, { table, skips }) => shop.busyRows.add(true, table, skips),
)

const others = kind(
  fc.record({ productId: anyProduct, qty: fc.constantFrom(1, 5, 10, 20, -1, -1, -2, -3) }),
  ({ productId, qty }) => `somebody ${qty > 0 ? 'brings' : 'takes'} ${Math.abs(qty)} of ${productId}`,
  (shop, { productId, qty }) => shop.bring(productId, qty),
)

const callFault = (actLateMs: number): Kind => {
  const fault: fc.Arbitrary<CallFault> = fc
    .constantFrom('drop' as const, 'late' as const, 'late' as const, 'unsent' as const, 'lose' as const, 'error' as const)
    .chain((of) =>
      fc.record({
        kind: fc.constant(of),
        actsAfterMs: of === 'late' ? between(1000, actLateMs - 10) : fc.constant(0),
        resetsAfterMs: ['unsent', 'error'].includes(of)
          ? fc.constant(undefined)
          : unless(0.3, fc.constant(undefined), between(1, CALL_TIMEOUT_MS - 1)),
        isDone: fc.boolean(),
      }),
    )
  return kind(
    fc.tuple(fault, anyProduct, fc.nat({ max: 2 })),
    ([{ kind: of, actsAfterMs, resetsAfterMs, isDone }, productId, skips]) =>
      `${next(`call to Catalog with ${productId}`, skips)} meets a fault: ${of}${of === 'late' ? ` by ${actsAfterMs} ms` : ''}` +
      `${of === 'error' ? (isDone ? ', done' : ', not done') : ''}${resetsAfterMs === undefined ? '' : `, reset after ${resetsAfterMs} ms`}`,
    (shop, [drawn, productId, skips]) => shop.callFaults.add(drawn, productId, skips),
  )
}

const unanswered = kind(
  fc.record({ isDone: fc.boolean(), name: fc.constantFrom(...STATEMENTS), skips: fc.nat({ max: 2 }) }),
  ({ isDone, name, skips }) => `PostgreSQL does not answer ${next(name, skips)}, ${isDone ? 'done' : 'not done'}`,
  (shop, { isDone, name, skips }) => shop.unanswered.add({ isDone }, name, skips),
)

/** Commands at random times. Each kind has the share that a row gives it. */
export function commands(
  { minutes, perMinute, hot, actLateMs }: Knobs,
  replayPath?: string,
): fc.Arbitrary<Iterable<fc.AsyncCommand<Totals, Simulation>>> {
  const kinds: Record<keyof PerMinute, Kind> = {
    buy: buy(hot),
    crowd,
    strike,
    lock,
    busyRow,
    others,
    callFault: callFault(actLateMs),
    unanswered,
  }
  const lastsMs = minutes * 60_000
  const total = Object.values(perMinute).reduce((sum, times) => sum + times, 0)
  const weighted = Object.entries(perMinute).map(([name, weight]) => ({
    weight,
    arbitrary: kinds[name as keyof PerMinute].of(fc.nat({ max: lastsMs })),
  }))
  return fc.commands([fc.oneof(...weighted)], { maxCommands: Math.round(2 * minutes * total), size: 'max', replayPath })
}
