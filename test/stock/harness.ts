/**
 * Stock calls of one worker or several on one database: the real statements on a real PostgreSQL, the real client of Catalog, and behind it
 * a Catalog in memory that does what a test tells it, call by call.
 */
import { Client } from 'pg'
import { createCatalog } from '../../src/clients/catalog.ts'
import { type Answer, type Call, NoAnswer } from '../../src/clients/http.ts'
import type { Clock } from '../../src/clock.ts'
import { type CallIds, createCallIds } from '../../src/db/call-ids.ts'
import { type Checkouts, createCheckouts } from '../../src/db/checkouts.ts'
import { createIntents, type Intents, type NewIntent } from '../../src/db/intents.ts'
import { createPayments, type Payments } from '../../src/db/payments.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createProducts, type Products } from '../../src/db/products.ts'
import type { ProductQty } from '../../src/model.ts'
import { leaseFor } from '../../src/stock/lease.ts'
import type { StockDeps } from '../../src/stock/group.ts'
import { createStock, type Stock } from '../../src/stock/stock.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { hostClock } from '../support/clock.ts'
import { createDatabase, query } from '../support/database.ts'
import { demoAddress } from '../support/shop.ts'
import { until } from '../support/until.ts'

/**
 * What one call to Catalog does. `silent`: it acts, and nobody gets the answer. `lost`: neither. `late`: it gets no answer, and acts when
 * {@link TestCatalog.actLate} is called. `error`: a 500, and nothing done. `refuses`: a 409. `unreachable`: no connection.
 */
export type Behaviour = 'acts' | 'silent' | 'lost' | 'late' | 'error' | 'refuses' | 'unauthorized' | 'unreachable'

/** Short, so that a call without an answer is over soon. */
export const CALL_TIMEOUT_MS = 150

export interface Inventory {
  inStock: number
  reserved: number
}

export interface Journalled {
  by: string
  verb: 'reserve' | 'commit' | 'restock' | 'release'
  items: ProductQty[]
  key: string | undefined
}

export interface TestCatalog {
  /** A product that is missing is a 404. */
  inventory: Map<number, Inventory>
  /** Every call that changes something, in the order in which they came. */
  journal: Journalled[]
  /** `reserve 2`: what was asked of a product; what came from a `release` that Catalog does not have is left out. */
  asked(productId: number): string[]
  reads(productId: number): number
  /** What the next calls of a product do; then it acts again. */
  script(productId: number, ...behaviours: Behaviour[]): void
  /** What every call of a product does from now on, reads included where it is `unreachable`. */
  always(productId: number, behaviour: Behaviour | undefined): void
  /** Calls of a product have no answer until the function is called that it gives. */
  stall(productId: number): () => void
  /** Calls of a product that were `late` act now. */
  actLate(productId: number): void
  /** How Catalog takes units back that are held: what today's takes is a reserve of less than nothing. */
  release: { isThere: boolean; negatives: 'takes' | 'refuses' | 'ignores' }
  /** How often a call came for a product while another one was under way on it. */
  overlaps: number
}

/** What our row says of a product. */
export interface ProductRow extends Record<string, unknown> {
  expected: number | null
  held: number
  foreign: number
  hold: number
  stock: number
  call: string | null
}

export interface TestWorker {
  by: string
  stock: Stock
  products: Products
  checkouts: Checkouts
  payments: Payments
  intents: Intents
  callIds: CallIds
  /** Products that the reconciler was told of. */
  woken: number[]
  /** Reserves for a checkout without a lease, and puts the hold on record where that is left to the checkout. */
  reserve(checkout: Checkout): Promise<string>
  /** Commits for a payment. */
  commit(payment: Payment): Promise<string>
}

export interface Checkout {
  id: number
  attempt: number
  products: ProductQty[]
  deadline: number
}
/** `id` is that of the event. */
export type Payment = Checkout & { orderId: number }

export type Harness = Awaited<ReturnType<typeof openHarness>>

function createTestCatalog() {
  const scripts = new Map<number, Behaviour[]>()
  const constant = new Map<number, Behaviour>()
  const stalled = new Map<number, Promise<void>>()
  const underWay = new Map<number, number>()
  const reads = new Map<number, number>()
  const late: { productId: number; act: () => void }[] = []

  const catalog: TestCatalog = {
    inventory: new Map(),
    journal: [],
    asked: (productId) =>
      catalog.journal.flatMap(({ verb, items }) => items.filter((item) => item.productId === productId).map(({ qty }) => `${verb} ${qty}`)),
    reads: (productId) => reads.get(productId) ?? 0,
    script: (productId, ...behaviours) => void scripts.set(productId, behaviours),
    always: (productId, behaviour) => void (behaviour ? constant.set(productId, behaviour) : constant.delete(productId)),
    stall(productId) {
      const { promise, resolve } = Promise.withResolvers<void>()
      stalled.set(productId, promise)
      return () => {
        stalled.delete(productId)
        resolve()
      }
    },
    actLate(productId) {
      for (const one of late.filter((call) => call.productId === productId)) {
        late.splice(late.indexOf(one), 1)
        one.act()
      }
    },
    release: { isThere: false, negatives: 'takes' },
    overlaps: 0,
  }

  function act(verb: Journalled['verb'], items: readonly ProductQty[]): Answer {
    for (const { productId, qty } of items) {
      const inventory = catalog.inventory.get(productId)
      if (!inventory) return refusal(404, `Inventory missing for product_id ${productId}`)
      if (verb === 'reserve' && inventory.inStock - inventory.reserved < qty)
        return refusal(409, `Insufficient stock for product_id ${productId}`)
    }
    for (const { productId, qty } of items) {
      const inventory = catalog.inventory.get(productId)!
      if (verb === 'reserve' && !(qty < 0 && catalog.release.negatives === 'ignores')) inventory.reserved += qty
      if (verb === 'commit') inventory.inStock -= qty
      if (verb === 'commit' || verb === 'release') inventory.reserved = Math.max(0, inventory.reserved - qty)
      if (verb === 'restock') inventory.inStock += Math.max(0, qty)
    }
    return { status: 200, body: {}, settlesAt: 0 }
  }

  async function change(by: string, verb: Journalled['verb'], items: ProductQty[], key: string | undefined): Promise<Answer> {
    if (verb === 'release' && !catalog.release.isThere) return refusal(404, 'Not Found')
    if (catalog.release.negatives === 'refuses' && items.some(({ qty }) => qty < 0)) return refusal(422, 'qty must be greater than 0')
    catalog.journal.push({ by, verb, items, key })
    const ids = items.map(({ productId }) => productId)
    if (ids.some((id) => (underWay.get(id) ?? 0) > 0)) catalog.overlaps += 1
    for (const id of ids) underWay.set(id, (underWay.get(id) ?? 0) + 1)
    try {
      await new Promise(setImmediate)
      for (const id of ids) await stalled.get(id)
      return answerOf(verb, items)
    } finally {
      for (const id of ids) underWay.set(id, underWay.get(id)! - 1)
    }
  }

  function answerOf(verb: Journalled['verb'], items: ProductQty[]): Answer {
    const does = items
      .map(({ productId }) => constant.get(productId) ?? scripts.get(productId)?.shift() ?? 'acts')
      .find((one) => one !== 'acts')
    if (does === undefined) return act(verb, items)
    if (does === 'refuses') return refusal(409, `Insufficient stock for product_id ${items[0]!.productId}`)
    if (does === 'unauthorized') return refusal(401, 'Not authenticated')
    if (does === 'error') return refusal(500, 'Internal Server Error')
    if (does === 'unreachable') throw new NoAnswer('ECONNREFUSED', { sent: false, settlesAt: performance.now() })
    if (does === 'silent') act(verb, items)
    if (does === 'late') late.push({ productId: items[0]!.productId, act: () => act(verb, items) })
    throw new NoAnswer('ECONNRESET', { sent: true, settlesAt: performance.now() + CALL_TIMEOUT_MS })
  }

  return {
    catalog,
    /** As one process reaches it. */
    async call(by: string, { method, path, body, idempotencyKey, mayGo }: Call): Promise<Answer> {
      if (mayGo && !(await mayGo())) throw new NoAnswer('not sent', { sent: false, settlesAt: performance.now() })
      const last = path.split('/').at(-1)!
      if (method === 'GET') {
        const productId = Number(last)
        await new Promise(setImmediate)
        if (constant.get(productId) === 'unreachable') throw new NoAnswer('ECONNREFUSED', { sent: false, settlesAt: performance.now() })
        reads.set(productId, (reads.get(productId) ?? 0) + 1)
        const inventory = catalog.inventory.get(productId)
        if (!inventory) return refusal(404, 'Not Found')
        return { status: 200, body: { inventory: { in_stock: inventory.inStock, reserved: inventory.reserved } }, settlesAt: 0 }
      }
      const { items } = body as { items: { product_id: number; qty: number }[] }
      return change(
        by,
        last as Journalled['verb'],
        items.map(({ product_id: productId, qty }) => ({ productId, qty })),
        idempotencyKey,
      )
    },
  }
}

const refusal = (status: number, detail: string): Answer => ({ status, body: { detail }, settlesAt: 0 })

const perProduct = (products: readonly ProductQty[]) => products.toSorted((a, b) => a.productId - b.productId)

export async function openHarness({ budgetMs = 8000 } = {}) {
  const database = await createDatabase()
  const logger = createLogger('silent')
  const pool = await connectPool(database.dsn, { size: 10, logger })
  const { catalog, call } = createTestCatalog()
  const ask = <Row extends Record<string, unknown>>(text: string, values: unknown[] = []) => query<Row>(database.dsn, text, values)
  let products = 0
  let customers = 0
  const leaseMs = leaseFor(CALL_TIMEOUT_MS)

  const linesOf = (wanted: readonly ProductQty[]) =>
    wanted.map(({ productId, qty }) => ({ product_id: productId, qty, unit_price_cents: 100, title_snapshot: 'Air Zoom' }))
  const totalOf = (wanted: readonly ProductQty[]) => wanted.reduce((sum, { qty }) => sum + 100 * qty, 0)

  /** A process of its own: another name, wait queues of its own. `deps` replaces some of its parts. */
  function worker(
    by = 'worker-1',
    deps: (made: StockDeps & { pool: Pool }) => Partial<StockDeps> = () => ({}),
    clock: Clock = hostClock,
  ): TestWorker {
    const callIds = createCallIds(pool)
    const made = createProducts(pool, { by, leaseMs, emitPaid: true })
    const checkouts = createCheckouts(pool, clock)
    const payments = createPayments(pool, { clock, emitPaid: true, relay: undefined })
    const woken: number[] = []
    const all: StockDeps = {
      products: made,
      catalog: createCatalog({ call: (one) => call(by, one), close: async () => {} }),
      clock,
      callIds,
      callTimeoutMs: CALL_TIMEOUT_MS,
      metrics: createMetrics(),
      recordHolds: checkouts.recordHolds,
      recordPaid: payments.recordPaid,
      wakeReconciler: (ids) => void woken.push(...ids),
    }
    const stock = createStock({ ...all, ...deps({ ...all, pool }) })
    return {
      by,
      stock,
      products: made,
      checkouts,
      payments,
      intents: createIntents(pool, { callIds, leaseMs, clock, duplicateWindowMs: 0 }),
      callIds,
      woken,
      async reserve(checkout) {
        const told = await stock.reserve(checkout)
        if (told.result === 'done') await told.hold?.record()
        return told.result === 'refused' ? `${told.status} ${told.detail}` : told.result
      },
      async commit(payment) {
        const told = await stock.commit(payment)
        return told.result === 'refused' ? `${told.status} ${told.detail}` : told.result
      },
    }
  }

  return {
    dsn: database.dsn,
    pool,
    ask,
    catalog,
    leaseMs,
    worker,
    /** A product that Catalog has. Unless it is `isNew`, we have met it and agree with Catalog; `foreign` units are held for others. */
    async product({ inStock = 10, foreign = 0, isNew = false } = {}): Promise<number> {
      products += 1
      const id = products
      catalog.inventory.set(id, { inStock, reserved: foreign })
      if (!isNew)
        await ask('insert into order_service.products (product_id, expected_stock, foreign_holds) values ($1, $2, $3)', [
          id,
          inStock,
          foreign,
        ])
      return id
    },
    /** An open checkout, with no lease: it waits for its products. */
    async checkout(...wanted: ProductQty[]): Promise<Checkout> {
      customers += 1
      const [row] = await ask<{ order_id: number; deadline: number }>(
        `insert into order_service.checkouts (order_id, user_email, request_hash, lines, address, total_cents, deadline_at)
         values (nextval('public.orders_id_seq'), $1, 'hash', $2, $3, $4, clock_timestamp() + $5 * interval '1 ms')
         returning order_id, floor(extract(epoch from deadline_at) * 1000)::float8 as deadline`,
        [`c${customers}@example.com`, JSON.stringify(linesOf(wanted)), JSON.stringify(demoAddress), totalOf(wanted), budgetMs],
      )
      return { id: row!.order_id, attempt: 1, products: perProduct(wanted), deadline: row!.deadline }
    },
    /** An intent as a request writes it: with the leases of its products, where they are free. */
    async intent({ intents }: Pick<TestWorker, 'intents'>, ...wanted: ProductQty[]): Promise<NewIntent> {
      customers += 1
      const intended = await intents.intend({
        userEmail: `i${customers}@example.com`,
        idempotencyKey: 'key',
        requestHash: 'hash',
        lines: linesOf(wanted),
        address: demoAddress,
        totalCents: totalOf(wanted),
        budgetMs,
      })
      if (intended.claim !== 'new') throw new Error('not a new one')
      return intended
    },
    /** An order CREATED, inserted with SQL as the predecessor did. Catalog is not told of its holds. */
    async order(...wanted: ProductQty[]): Promise<number> {
      const [row] = await ask<{ id: number }>(
        `with made as (insert into public.orders (user_email, total_cents) values ('before@example.com', $1) returning id)
         select id from made`,
        [totalOf(wanted)],
      )
      await ask(
        `insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
         select $1, product_id, qty, 100, '' from jsonb_to_recordset($2) as t (product_id int, qty int)`,
        [row!.id, JSON.stringify(linesOf(wanted))],
      )
      return row!.id
    },
    /** A payment of an order that waits. */
    async payment(orderId: number, paymentId = 'p'): Promise<Payment> {
      const [row] = await ask<{ id: number }>(
        `insert into order_service.payment_events
           (identity, type, order_id, amount_cents, currency, payment_id, topic, partition, kafka_offset, value, headers, sent_at)
         values ('paid ' || $1::int || ' ' || $2::text, 'payment.succeeded', $1, 100, 'USD', $2, 'payment.events', 0, 0, '{}', '[]', now())
         returning id::int`,
        [orderId, paymentId],
      )
      const items = await ask<{ productId: number; qty: number }>(
        `select product_id as "productId", sum(qty)::int as qty from public.order_items where order_id = $1 group by 1 order by 1`,
        [orderId],
      )
      return { id: row!.id, orderId, attempt: 1, products: items, deadline: Date.now() + 20_000 }
    },
    /** What our row says, with what is kept in `product_changes` for it. */
    async row(productId: number): Promise<ProductRow> {
      const [row] = await ask<ProductRow>(
        `select expected_stock::int as expected, (p.held + coalesce(c.held, 0))::int as held, foreign_holds::int as foreign,
           (hold_correction - coalesce(c.held, 0))::int as hold, stock_correction::int as stock, call_verb as call
         from order_service.products p
         left join lateral (select sum(held) as held from order_service.product_changes c where c.product_id = p.product_id) c on true
         where product_id = $1`,
        [productId],
      )
      return row!
    },
    /** `verb qty` and what was found, of each call without an answer. */
    unanswered: (productId: number) =>
      ask<{ call: string; found: string | null }>(
        `select verb || ' ' || qty as call, found from order_service.unanswered_calls where product_id = $1 order by since, call_id`,
        [productId],
      ),
    ambiguities: (productId: number) =>
      ask<{ tooMany: number; tooFew: number }>(
        `select too_many::int as "tooMany", too_few::int as "tooFew" from order_service.ambiguities where product_id = $1 order by id`,
        [productId],
      ),
    /** `verb qty result reason` of what was found and put right. */
    reconciliations: async (productId: number) =>
      (
        await ask<{ line: string }>(
          `select concat_ws(' ', verb, qty, result, reason) as line from order_service.reconciliations where product_id = $1 order by id`,
          [productId],
        )
      ).map(({ line }) => line),
    statusOf: async (orderIds: readonly number[]) =>
      (await ask<{ status: string }>('select status from public.orders where id = any($1) order by id', [orderIds])).map(
        ({ status }) => status,
      ),
    /** The lease of a product ran out: whoever had it is gone. */
    async expire(productId: number): Promise<void> {
      await ask(`update order_service.products set call_expires_at = now() - interval '1 ms' where product_id = $1`, [productId])
    },
    /** Calls without an answer are older than ten minutes now: no service has been seen to act later. */
    async age(productId: number): Promise<void> {
      await ask(`update order_service.unanswered_calls set since = since - interval '11 minutes' where product_id = $1`, [productId])
    },
    async close(): Promise<void> {
      await pool.end()
      await database.drop()
    },
  }
}

/** A session of somebody else with an open transaction, as a person leaves it. @returns what ends it */
export async function keepLocked(dsn: string, text: string, values: unknown[] = []): Promise<() => Promise<void>> {
  const client = new Client({ connectionString: dsn })
  await client.connect()
  await client.query('begin')
  await client.query(text, values)
  return async () => {
    await client.query('rollback')
    await client.end()
  }
}

/** A product's row once no call is under way on it: whoever was in one is told before the lease is released. */
export const freeRow = (harness: Pick<Harness, 'row'>, productId: number): Promise<ProductRow> =>
  until(
    () => harness.row(productId),
    ({ call }) => call === null,
  )
