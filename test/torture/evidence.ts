/** All that can be known of a seed in the end: what customers were told, our rows, and the downstream services' own. */
import { z } from 'zod'
import { compareCounters, type Miscount } from '../../src/db/inventory-view.ts'
import { connectPool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { query } from '../support/database.ts'
import type { Downstreams } from '../support/downstreams/index.ts'
import { type Landed, readTopic } from '../support/topic.ts'
import type { Told } from './customers.ts'
import { products as shelf } from './purchases.ts'
import type { Ending } from './fleet.ts'

export interface OrderRow {
  id: number
  email: string
  status: string
  totalCents: number
  /** Epoch ms. */
  createdAt: number
  items: { productId: number; qty: number }[]
}

export interface Evidence {
  told: readonly Told[]
  orders: readonly OrderRow[]
  /** Catalog's inventory, what it was before the first checkout, and the units that others brought or (below 0) took since. */
  shelf: readonly {
    productId: number
    stockBefore: number
    heldBefore: number
    others: number
    inStock: number
    reserved: number
  }[]
  /** Orders whose payments were, by our rows, in a commit that Catalog carried out. */
  commits: readonly number[]
  /** Orders of the shipments that Shipping has. */
  shipments: readonly number[]
  /** As a consumer of `order.events` saw them. */
  events: readonly Landed[]
  /** Orders that were rightly paid. */
  paid: ReadonlySet<number>
  /** Messages on the payment topic. */
  messages: number
  /** The bridge's totals. */
  totals: { consumed: number; applied: number; duplicate: number; dead: number; waiting: number; ignored: number }
  /** Payment events that paid, by order. */
  paying: readonly number[]
  /** Our rows of products: what Catalog should say. */
  rows: readonly { productId: number; inStock: number | null; reserved: number }[]
  /** Products whose counter is not what their orders and open checkouts add up to. */
  miscounts: readonly Miscount[]
  /**
   * Units that were taken for somebody else's, by product: `followed` is what they changed Catalog's stock by, and so many of them are
   * listed as ambiguous, too many and too few.
   */
  follows: readonly { productId: number; followed: number; tooMany: number; tooFew: number }[]
  /** Calls that change stock, as Catalog saw them: those that were answered before their time was out. */
  calls: readonly { call: string; key: string; products: number[]; from: number; to: number }[]
  /** The rows of these tables, to find the cause of a violation. */
  products: readonly unknown[]
  reconciliations: readonly unknown[]
  ambiguities: readonly unknown[]
  unansweredCalls: readonly unknown[]
  /** Calls by which Catalog's inventory was put right. */
  corrections: number
  /** What is open still. */
  open: readonly string[]
  endings: readonly Ending[]
}

export interface Gathered {
  told: readonly Told[]
  paid: ReadonlySet<number>
  messages: number
  open: readonly string[]
  endings: readonly Ending[]
  /** Units that others brought or (below 0) took, by product. */
  others: ReadonlyMap<number, number>
}

const orderRows = z.array(
  z.object({
    id: z.int(),
    email: z.string(),
    status: z.string(),
    totalCents: z.number(),
    createdAt: z.number(),
    items: z.array(z.object({ productId: z.int(), qty: z.int() })),
  }),
)

export async function gather(
  { dsn, bootstrap, topic, downstreams }: { dsn: string; bootstrap: string; topic: string; downstreams: Downstreams },
  known: Gathered,
): Promise<Evidence> {
  const [orders, totals, paying, rows, follows, [corrections], events, miscounts] = await Promise.all([
    query(
      dsn,
      `select o.id, o.user_email as email, o.status, o.total_cents::float8 as "totalCents",
         extract(epoch from o.created_at at time zone 'utc')::float8 * 1000 as "createdAt",
         coalesce((select json_agg(json_build_object('productId', product_id, 'qty', qty)) from public.order_items where order_id = o.id), '[]') as items
       from public.orders o order by o.id`,
    ),
    query<Evidence['totals']>(
      dsn,
      `select coalesce(sum(consumed), 0)::int as consumed, coalesce(sum(duplicate), 0)::int as duplicate, coalesce(sum(ignored), 0)::int as "ignored",
         (select count(*)::int from order_service.payment_events where state = 'APPLIED') as applied,
         (select count(*)::int from order_service.payment_events where state = 'WAITING') as waiting,
         (select count(*)::int from order_service.payment_events where state = 'DEAD')
           + (select count(*)::int from order_service.dead_letters where event_id is null) as dead
       from order_service.bridge_totals`,
    ),
    query<{ id: number; callId: number }>(
      dsn,
      `select order_id as id, call_id::int as "callId" from order_service.payment_events where result = 'paid' or state = 'WAITING'`,
    ),
    query<Evidence['rows'][number]>(
      dsn,
      `select product_id as "productId", (expected_stock + stock_correction)::int as "inStock",
         (held + foreign_holds + hold_correction)::int as reserved from order_service.products order by 1`,
    ),
    query<Evidence['follows'][number]>(
      dsn,
      `select product_id as "productId", coalesce(followed, 0)::int as followed,
         coalesce(too_many, 0)::int as "tooMany", coalesce(too_few, 0)::int as "tooFew"
       from (select product_id, sum(qty) as followed from order_service.reconciliations where verb = 'follow' group by 1) f
       full join (select product_id, sum(too_many) as too_many, sum(too_few) as too_few from order_service.ambiguities group by 1) u
         using (product_id)
       order by 1`,
    ),
    query<{ calls: number }>(
      dsn,
      `select count(*)::int as calls from order_service.reconciliations where result not in ('seen', 'happened')`,
    ),
    readTopic(bootstrap, topic),
    miscountsOf(dsn),
  ])
  const [products, reconciliations, ambiguities, unansweredCalls] = await Promise.all(
    ['products', 'reconciliations', 'ambiguities', 'unanswered_calls'].map((table) =>
      query(dsn, `select * from order_service.${table} order by 1`),
    ),
  )
  const journal = downstreams.catalog.journal()
  const applied = new Set(
    journal.flatMap(({ call, applied: did, idempotencyKey }) => (call === 'commit' && did ? [callIdOf(idempotencyKey)] : [])),
  )
  return {
    ...known,
    orders: orderRows.parse(orders),
    shelf: shelf.map(({ id, stock, leaked }) => {
      const { in_stock: inStock, reserved } = downstreams.catalog.inventory(id)!
      return { productId: id, stockBefore: stock, heldBefore: leaked, others: known.others.get(id) ?? 0, inStock, reserved }
    }),
    commits: paying.filter(({ callId }) => applied.has(callId)).map(({ id }) => id),
    shipments: downstreams.shipping.shipments().map((one) => one.order_id),
    events,
    totals: totals[0]!,
    paying: paying.map(({ id }) => id),
    rows,
    miscounts,
    follows,
    calls: journal.flatMap(({ call, answer, at, ms, items, idempotencyKey }) =>
      call !== 'read' && answer === 200 && ms < CALL_TIMEOUT_MS
        ? [{ call, key: idempotencyKey ?? '', products: items.map((item) => item.product_id), from: at, to: at + ms }]
        : [],
    ),
    corrections: corrections!.calls,
    products: products!,
    reconciliations: reconciliations!,
    ambiguities: ambiguities!,
    unansweredCalls: unansweredCalls!,
  }
}

/** As the campaign is configured. */
const CALL_TIMEOUT_MS = 1000

const callIdOf = (key = '') => Number(key.split(':')[1])

async function miscountsOf(dsn: string): Promise<Miscount[]> {
  const pool = await connectPool(dsn, { size: 1, logger: createLogger('silent') })
  return compareCounters(pool, { repair: false }).finally(() => pool.end())
}
