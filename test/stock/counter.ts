/** One product at a time: our rows of it in PostgreSQL, a Catalog in memory that does what it is told call by call, and a clock that the test moves. */
import type { Catalog, CatalogBooks } from '../../src/clients/catalog.ts'
import { NoAnswer } from '../../src/clients/http.ts'
import { readUndecided, type UndecidedPieces } from '../../src/db/ledger-view.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createStockLedger, type DoubtfulCall } from '../../src/db/stock-ledger.ts'
import type { StockVerb } from '../../src/model.ts'
import type { Leases } from '../../src/stock/leases.ts'
import type { Clock, MendingParts } from '../../src/stock/mending.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createDatabase, query } from '../support/database.ts'

/** `silent`: acts without an answer. `lost`: neither acts nor answers. `late`: acts a minute later, without an answer. `error`: 500, and nothing done. */
export type Behaviour = 'acts' | 'silent' | 'lost' | 'late' | 'error' | 'refuses' | 'unauthorized' | 'unreachable'

export const CALL_TIMEOUT_MS = 5000
export const LATE_MS = 60_000
/** On the clock that the tests move. */
export const FOREVER = Number.MAX_SAFE_INTEGER

export interface Counter extends MendingParts {
  dsn: string
  pool: Pool
  clock: Clock & { pass(ms: number): void }
  /** What Catalog says of each product; one that is missing is a 404. */
  shelf: Map<number, CatalogBooks>
  /** Every call in its order: `reserve 2`, or `look`, and when it came. */
  journal: { productId: number; call: string; at: number }[]
  /** What the ledger lists of a product as undecided, the latest first. */
  undecided(productId: number): Promise<UndecidedPieces[]>
  /** What the next calls of a product do, looks aside; then it acts again. */
  script(productId: number, ...behaviours: Behaviour[]): void
  /** Every call of a product does so from now on. */
  always(productId: number, behaviour: Behaviour | undefined): void
  /** Whether Catalog has a release, and whether we have found out that it has not. */
  release: { isThere: boolean; isKnownMissing: boolean }
  /** What was asked of a product, looks aside. */
  asked(productId: number): string[]
  /** A product that we have met, with `drift` holds of others. Catalog says what we expect. */
  product(more?: { inStock?: number; drift?: number }): Promise<number>
  /** An order that stands. */
  order(productId: number, qty: number): Promise<void>
  row(productId: number): Promise<{ drift: number; predicted: number; hold: number; stock: number; epoch: number; unsellable: boolean }>
  /** `verb qty` of each doubt, and whether somebody has looked since. */
  doubts(productId: number): Promise<{ call: string; looked: boolean }[]>
  close(): Promise<void>
}

export async function openCounter(): Promise<Counter> {
  const database = await createDatabase()
  const pool = await connectPool(database.dsn, { size: 4, logger: createLogger('silent') })
  const shelf: Counter['shelf'] = new Map()
  const journal: Counter['journal'] = []
  const scripts = new Map<number, Behaviour[]>()
  const constant = new Map<number, Behaviour>()
  let now = 1000
  let due: { at: number; act: () => void }[] = []
  const release = { isThere: false, isKnownMissing: true }

  function pass(ms: number): void {
    now += ms
    const ripe = due.filter(({ at }) => at <= now)
    due = due.filter(({ at }) => at > now)
    for (const call of ripe) call.act()
  }

  function act(productId: number, verb: StockVerb, qty: number): boolean {
    const books = shelf.get(productId)
    if (!books || (verb === 'reserve' && books.inStock - books.reserved < qty)) return false
    if (verb === 'reserve') books.reserved += qty
    if (verb === 'commit') Object.assign(books, { inStock: books.inStock - qty, reserved: Math.max(0, books.reserved - qty) })
    if (verb === 'restock') books.inStock += qty
    if (verb === 'release') books.reserved = Math.max(0, books.reserved - qty)
    return true
  }

  const catalog: Catalog = {
    mayRelease: () => !release.isKnownMissing,
    async change({ verb, items, mayGo }) {
      const { productId, qty } = items[0]!
      if (mayGo && !(await mayGo())) throw new NoAnswer('not sent', { sent: false, settlesAt: now })
      journal.push({ productId, call: `${verb} ${qty}`, at: now })
      if (verb === 'release' && !release.isThere) {
        release.isKnownMissing = true
        return { answer: 'refused', status: 404, detail: 'Not Found' }
      }
      const does = constant.get(productId) ?? scripts.get(productId)?.shift() ?? 'acts'
      if (does === 'refuses') return { answer: 'refused', status: 409, detail: 'Insufficient stock' }
      if (does === 'unauthorized') return { answer: 'refused', status: 401, detail: 'Not authenticated' }
      if (does === 'unreachable') throw new NoAnswer('ECONNREFUSED', { sent: false, settlesAt: now })
      if (does === 'error') throw new NoAnswer('status 500', { sent: true, settlesAt: now })
      if (does === 'late') due.push({ at: now + LATE_MS, act: () => act(productId, verb, qty) })
      if (does === 'late' || does === 'lost') throw new NoAnswer('ECONNRESET', { sent: true, settlesAt: now + CALL_TIMEOUT_MS })
      const done = act(productId, verb, qty)
      if (does === 'silent') throw new NoAnswer('ECONNRESET', { sent: true, settlesAt: now + CALL_TIMEOUT_MS })
      return done ? { answer: 'done' } : { answer: 'refused', status: 409, detail: 'Insufficient stock' }
    },
    async look(productId) {
      journal.push({ productId, call: 'look', at: now })
      if (constant.get(productId) === 'unreachable') throw new NoAnswer('ECONNREFUSED', { sent: false, settlesAt: now })
      return { ...(shelf.get(productId) ?? { inStock: 0, reserved: 0 }) }
    },
  }

  let products = 0
  return {
    dsn: database.dsn,
    catalog,
    pool,
    ledger: createStockLedger(pool),
    undecided: (productId) => readUndecided(pool, [productId]),
    clock: {
      now: () => now,
      wallTime: () => now,
      async sleep(ms) {
        pass(ms)
      },
      pass,
    },
    callTimeoutMs: CALL_TIMEOUT_MS,
    metrics: createMetrics(),
    shelf,
    journal,
    release,
    script: (productId, ...behaviours) => void scripts.set(productId, behaviours),
    always: (productId, behaviour) => void (behaviour ? constant.set(productId, behaviour) : constant.delete(productId)),
    asked: (productId) => journal.filter((one) => one.productId === productId && one.call !== 'look').map(({ call }) => call),
    async product({ inStock = 10, drift = 0 } = {}) {
      products += 1
      shelf.set(products, { inStock, reserved: drift })
      const row = [products, drift, inStock]
      await query(database.dsn, 'insert into order_service.products (product_id, drift, predicted_stock) values ($1, $2, $3)', row)
      return products
    },
    async order(productId, qty) {
      await query(
        database.dsn,
        `with made as (insert into public.orders (user_email, total_cents) values ('c@example.com', 100) returning id)
         insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
         select id, $1, $2, 100, 'Air Zoom' from made`,
        [productId, qty],
      )
    },
    async row(productId) {
      const [row] = await query<Awaited<ReturnType<Counter['row']>>>(
        database.dsn,
        `select drift, predicted_stock::int as predicted, extra_hold::int as hold, extra_stock::int as stock, epoch, unsellable
         from order_service.products where product_id = $1`,
        [productId],
      )
      return row!
    },
    doubts: (productId) =>
      query(
        database.dsn,
        `select verb || ' ' || qty as call, looked_at is not null as looked from order_service.doubts where product_id = $1 order by id`,
        [productId],
      ),
    async close() {
      await pool.end()
      await database.drop()
    },
  }
}

/** Leases that come at once and last. @param expired what they tell of those before them. @returns with them what they were told */
export function leasesAtOnce(expired: DoubtfulCall[] = []) {
  const told = { onRecord: false, ranOut: false, letGo: 0, deadline: 0 }
  const leases: Leases = {
    async take({ deadline }) {
      told.deadline = deadline
      return {
        expired,
        expiredOnRecord() {
          told.onRecord = true
        },
        waited: false as const,
        wanted: () => false,
        keep: async () => true,
        runOut() {
          told.ranOut = true
        },
        letGo() {
          told.letGo += 1
        },
      }
    },
    waiting: () => 0,
    close: async () => {},
  }
  return { leases, told }
}
