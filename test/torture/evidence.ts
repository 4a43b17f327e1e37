/** All that can be known of a seed in the end: what customers were told, our rows, and the neighbours' own books. */
import { z } from 'zod'
import { query } from '../support/database.ts'
import type { Neighbours } from '../support/neighbours/index.ts'
import { type Landed, readTopic } from '../support/topic.ts'
import type { Told } from './customers.ts'
import { products } from './errands.ts'
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
  /** Catalog's books, and what they were before the first checkout. */
  shelf: readonly { productId: number; stockBefore: number; heldBefore: number; inStock: number; reserved: number }[]
  /** Orders of the commits that Catalog carried out, a call each. */
  commits: readonly number[]
  /** Orders of the shipments that Shipping has. */
  shipments: readonly number[]
  /** As a consumer of `order.events` saw them. */
  events: readonly Landed[]
  /** Orders that were rightly paid. */
  paid: ReadonlySet<number>
  /** Messages on the payment topic. */
  messages: number
  /** The bridge's own books. */
  books: { consumed: number; applied: number; duplicate: number; dead: number; waiting: number; passedBy: number }
  /** Payment events that paid, by order. */
  paying: readonly number[]
  /** Our ledger, of the products that it has met. */
  ledger: readonly { productId: number; predicted: number }[]
  /**
   * Pieces that our ledger took for somebody else's, by product: `followed` is what they changed Catalog's stock by, and so many of them
   * it lists as undecided, too many and too few.
   */
  follows: readonly { productId: number; followed: number; tooMany: number; tooFew: number }[]
  /** The rows of these three tables of the ledger, for whoever looks for the cause of a violation. */
  mendings: readonly unknown[]
  undecided: readonly unknown[]
  doubts: readonly unknown[]
  /** Calls by which Catalog's books were mended. */
  mendingCalls: number
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
  { dsn, bootstrap, topic, neighbours }: { dsn: string; bootstrap: string; topic: string; neighbours: Neighbours },
  known: Gathered,
): Promise<Evidence> {
  const [orders, books, paying, ledger, follows, mendingCalls, [mendings, undecided, doubts], events] = await Promise.all([
    query(
      dsn,
      `select o.id, o.user_email as email, o.status, o.total_cents::float8 as "totalCents",
         extract(epoch from o.created_at at time zone 'utc')::float8 * 1000 as "createdAt",
         coalesce((select json_agg(json_build_object('productId', product_id, 'qty', qty)) from public.order_items where order_id = o.id), '[]') as items
       from public.orders o order by o.id`,
    ),
    query<Evidence['books']>(
      dsn,
      `select coalesce(sum(consumed), 0)::int as consumed, coalesce(sum(duplicate), 0)::int as duplicate, coalesce(sum(passed_by), 0)::int as "passedBy",
         (select count(*)::int from order_service.payment_events where state = 'APPLIED') as applied,
         (select count(*)::int from order_service.payment_events where state = 'WAITING') as waiting,
         (select count(*)::int from order_service.payment_events where state = 'DEAD')
           + (select count(*)::int from order_service.dead_letters where event_id is null) as dead
       from order_service.bridge_books`,
    ),
    query<{ id: number }>(dsn, `select order_id as id from order_service.payment_events where result = 'paid'`),
    query<Evidence['ledger'][number]>(
      dsn,
      'select product_id as "productId", predicted_stock::int as predicted from order_service.products order by 1',
    ),
    // Nobody else brings stock here: what is followed is a doubt that fitted two stories (docs/stock.md), or was sold before it was taken back.
    query<Evidence['follows'][number]>(
      dsn,
      `select product_id as "productId", coalesce(followed, 0)::int as followed,
         coalesce(too_many, 0)::int as "tooMany", coalesce(too_few, 0)::int as "tooFew"
       from (select product_id, sum(qty) as followed from order_service.mendings where verb = 'follow' group by 1) f
       full join (select product_id, sum(too_many) as too_many, sum(too_few) as too_few from order_service.undecided group by 1) u
         using (product_id)
       order by 1`,
    ),
    query<{ calls: number }>(dsn, `select count(*)::int as calls from order_service.mendings where answer not in ('seen', 'happened')`),
    Promise.all(['mendings', 'undecided', 'doubts'].map((table) => query(dsn, `select * from order_service.${table} order by id`))),
    readTopic(bootstrap, topic),
  ])
  const commits = neighbours.catalog
    .journal({ call: 'commit' })
    .flatMap(({ applied, idempotencyKey }) =>
      applied && idempotencyKey?.startsWith('order:') ? [Number(idempotencyKey.split(':')[1])] : [],
    )
  return {
    ...known,
    orders: orderRows.parse(orders),
    shelf: products.map(({ id, stock, leaked }) => {
      const { in_stock: inStock, reserved } = neighbours.catalog.books(id)!
      return { productId: id, stockBefore: stock, heldBefore: leaked, inStock, reserved }
    }),
    commits,
    shipments: neighbours.shipping.shipments().map((one) => one.order_id),
    events,
    books: books[0]!,
    paying: paying.map(({ id }) => id),
    ledger,
    follows,
    mendingCalls: mendingCalls[0]!.calls,
    mendings: mendings!,
    undecided: undecided!,
    doubts: doubts!,
  }
}
