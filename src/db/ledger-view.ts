/** The ledger as people and scrapes read it: what we hold and predict of each product, what is in doubt or undecided, what was mended. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { StockVerb } from '../model.ts'
import type { Pool } from './pool.ts'
import { type Books, type Doubt, heldOf, type MendingReason, stockVerb, type ToldDoubt, type Undecided } from './stock-ledger.ts'

/** A doubt as people see it. `attempt` is null for a mending call. */
export interface OpenDoubt extends Omit<Doubt, 'id'> {
  attempt: number | null
  /** Somebody has looked at Catalog since, and did not find it. */
  lookedAt: Date | null
}

/** The books of a product, with what people have to know beside them. */
export interface LedgerEntry extends Omit<Books, 'epoch' | 'doubts'> {
  /** Catalog refused a hold that an order has: sold twice. */
  unsellable: boolean
  /** Since then it is being mended and does not agree yet. */
  mendingSince: Date | null
  doubts: OpenDoubt[]
  /** What several stories fitted, summed up: pieces that may be offered too many, and too few, at the most. */
  undecided: { tooMany: number; tooFew: number }
}

const times = { since: z.coerce.date(), lookedAt: z.coerce.date().nullable() }
const doubt = z.object({ verb: stockVerb, qty: z.int(), orderId: z.int().nullable(), attempt: z.int().nullable(), ...times })
const entryRow = z.object({
  product_id: z.int(),
  held: z.int(),
  drift: z.int(),
  predicted_stock: z.int(),
  extra_hold: z.int(),
  extra_stock: z.int(),
  unsellable: z.boolean(),
  mending_since: z.date().nullable(),
  doubts: z.array(doubt),
  too_many: z.int(),
  too_few: z.int(),
})

/** What our rows hold is summed for so many products in one statement. */
const AT_ONCE = 50

const notable = sql.fragment`(extra_hold <> 0 or extra_stock <> 0 or unsellable
  or exists (select from order_service.doubts d where d.product_id = p.product_id)
  or exists (select from order_service.undecided u where u.product_id = p.product_id))`

/** Products that we have met: the notable ones first. @param onlyNotable with extras, doubts, or something undecided */
export async function listProducts(pool: Pool, { onlyNotable, limit }: { onlyNotable: boolean; limit: number }): Promise<number[]> {
  const rows = await pool.any(sql.type(z.object({ product_id: z.int() }))`
    select product_id from order_service.products p where not ${onlyNotable} or ${notable}
    order by ${notable} desc, product_id limit ${limit}`)
  return rows.map((row) => row.product_id)
}

/** In the order of `productIds`; those that we never met are not among them. */
export async function readLedger(pool: Pool, productIds: readonly number[]): Promise<LedgerEntry[]> {
  const entries = new Map<number, LedgerEntry>()
  for (let first = 0; first < productIds.length; first += AT_ONCE) {
    const rows = await pool.any(sql.type(entryRow)`
      select product_id, ${heldOf(sql.fragment`p.product_id`)} as held, drift, predicted_stock, extra_hold, extra_stock, unsellable, mending_since,
        (select coalesce(jsonb_agg(jsonb_build_object('verb', verb, 'qty', qty, 'orderId', order_id, 'attempt', attempt, 'since', since,
          'lookedAt', looked_at) order by id), '[]') from order_service.doubts d where d.product_id = p.product_id) as doubts,
        coalesce(u.too_many, 0)::bigint as too_many, coalesce(u.too_few, 0)::bigint as too_few
      from order_service.products p
      left join lateral (select sum(too_many) as too_many, sum(too_few) as too_few from order_service.undecided u
        where u.product_id = p.product_id) u on true
      where product_id = any(${sql.array(productIds.slice(first, first + AT_ONCE), 'int4')})`)
    for (const row of rows) entries.set(row.product_id, entryOf(row))
  }
  return productIds.map((id) => entries.get(id)).filter((entry) => entry !== undefined)
}

const entryOf = (row: z.infer<typeof entryRow>): LedgerEntry => ({
  productId: row.product_id,
  held: row.held,
  drift: row.drift,
  predictedStock: row.predicted_stock,
  extraHold: row.extra_hold,
  extraStock: row.extra_stock,
  unsellable: row.unsellable,
  mendingSince: row.mending_since,
  doubts: row.doubts,
  undecided: { tooMany: row.too_many, tooFew: row.too_few },
})

/**
 * One line of the history. `answer`: `happened` is a doubt that turned out to have happened; `seen` what nobody of ours did (`follow`,
 * `unexplained-hold`); the others are what came of a mending call, `refused` also where it was never sent.
 */
export interface Mending {
  at: Date
  verb: StockVerb | 'follow' | 'unexplained-hold'
  qty: number
  answer: 'done' | 'refused' | 'unknown' | 'seen' | 'happened'
  why: MendingReason | null
  orderId: number | null
}

const mendingRow = z.object({
  at: z.date(),
  verb: z.enum([...stockVerb.options, 'follow', 'unexplained-hold']),
  qty: z.int(),
  answer: z.enum(['done', 'refused', 'unknown', 'seen', 'happened']),
  why: z.enum(['stock-short', 'hold-of-nobody', 'hold-missing', 'stock-extra']).nullable(),
  order_id: z.int().nullable(),
})

/** The latest first. */
export async function readMendings(pool: Pool, productId: number, limit: number): Promise<Mending[]> {
  const rows = await pool.any(sql.type(mendingRow)`
    select at, verb, qty, answer, why, order_id from order_service.mendings where product_id = ${productId} order by at desc, id desc limit ${limit}`)
  return rows.map(({ order_id: orderId, ...rest }) => ({ ...rest, orderId }))
}

/** An {@link Undecided} as it stands on record. `sold`: nobody chose; pieces restocked too many were sold before they could be taken back. */
export interface UndecidedPieces extends Pick<Undecided, 'tooMany' | 'tooFew'> {
  productId: number
  why: 'two-stories' | 'sold'
  taken: ToldDoubt[]
  doubts: ToldDoubt[]
  at: Date
}

const told = z.array(z.object({ verb: stockVerb, qty: z.int(), orderId: z.int().nullable(), since: z.coerce.date() }))
const undecidedRow = z.object({
  product_id: z.int(),
  why: z.enum(['two-stories', 'sold']),
  too_many: z.int(),
  too_few: z.int(),
  taken: told,
  doubts: told,
  at: z.date(),
})

/**
 * What several stories fitted, the latest first, for as long as the reaper keeps it: a piece that Catalog offers too many or too few
 * after faults is among these.
 */
export async function readUndecided(pool: Pool, productIds: readonly number[]): Promise<UndecidedPieces[]> {
  const rows = await pool.any(sql.type(undecidedRow)`
    select product_id, why, too_many, too_few, taken, doubts, at from order_service.undecided
    where product_id = any(${sql.array(productIds, 'int4')}) order by id desc`)
  return rows.map(({ product_id: productId, too_many: tooMany, too_few: tooFew, ...rest }) => ({ productId, tooMany, tooFew, ...rest }))
}

/** Orders that hold a product and are not paid, the latest first: sold twice, one of them has to be told. */
export async function readHolders(
  pool: Pool,
  productId: number,
  limit: number,
): Promise<{ orderId: number; qty: number; createdAt: Date }[]> {
  const rows = await pool.any(sql.type(z.object({ id: z.int(), qty: z.int(), created_at: z.date() }))`
    with lines as materialized (  -- first: PostgreSQL does not know how rare the product is, and might go through all orders
      select order_id, sum(qty) as qty from public.order_items where product_id = ${productId} group by order_id
    )
    select o.id, l.qty, o.created_at from lines l join public.orders o on o.id = l.order_id
    where o.status = 'CREATED' order by o.id desc limit ${limit}`)
  return rows.map(({ id: orderId, created_at: createdAt, qty }) => ({ orderId, qty, createdAt }))
}

/** The ledger in sums, for gauges. Extras and drift in pieces, ages in seconds, 0 where there are none. */
export interface LedgerSums {
  drift: number
  extraHold: number
  extraStock: number
  doubts: number
  oldestDoubtSeconds: number
  /** How long the product that has been mended for the longest has not agreed. */
  longestMendingSeconds: number
  undecided: number
}

const sumsRow = z.object({
  drift: z.int(),
  extra_hold: z.int(),
  extra_stock: z.int(),
  doubts: z.int(),
  oldest_doubt: z.number(),
  longest_mending: z.number(),
  undecided: z.int(),
})

/** One statement, asked at each scrape. */
export async function readLedgerSums(pool: Pool): Promise<LedgerSums> {
  const row = await pool.one(sql.prepared('ledger-sums', sumsRow)`
    select coalesce(sum(drift), 0)::bigint as drift, coalesce(sum(abs(extra_hold)), 0)::bigint as extra_hold,
      coalesce(sum(abs(extra_stock)), 0)::bigint as extra_stock,
      greatest(coalesce(extract(epoch from now() - min(mending_since)), 0), 0)::float8 as longest_mending,
      (select count(*) from order_service.doubts) as doubts,
      (select greatest(coalesce(extract(epoch from now() - min(since)), 0), 0)::float8 from order_service.doubts) as oldest_doubt,
      (select coalesce(sum(greatest(too_many, too_few)), 0)::bigint from order_service.undecided) as undecided
    from order_service.products`)
  return {
    drift: row.drift,
    extraHold: row.extra_hold,
    extraStock: row.extra_stock,
    doubts: row.doubts,
    oldestDoubtSeconds: row.oldest_doubt,
    longestMendingSeconds: row.longest_mending,
    undecided: row.undecided,
  }
}
