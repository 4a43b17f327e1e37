/** What Catalog's books of a product should say: the rows of `products`, `doubts`, `mendings` and `undecided` (docs/stock.md). */
import { type FragmentSqlToken, sql } from 'slonik'
import { z } from 'zod'
import type { ProductQty, StockVerb } from '../model.ts'
import type { Attempt } from './checkout-statements.ts'
import { nothing, type Pool } from './pool.ts'

/** A call that may have happened, or may still happen. */
export interface Doubt {
  id: number
  verb: StockVerb
  qty: number
  since: Date
  /** null: a mending call */
  orderId: number | null
}

/** A mending call that is about to be sent, under the epoch that it was written down with. */
export interface SentDoubt extends Doubt {
  epoch: number
}

/** One product: what our rows hold of it, and what we know Catalog to say beyond that. */
export interface Books {
  productId: number
  /** Orders CREATED and open checkouts whose reserve is on record. */
  held: number
  drift: number
  predictedStock: number
  extraHold: number
  extraStock: number
  epoch: number
  doubts: Doubt[]
}

/** A call on one product that its order's attempt may have sent. */
export interface DoubtfulCall extends Attempt, ProductQty {
  verb: StockVerb
}

/** What a look at Catalog taught us. */
export interface Finding {
  /** Doubts that happened. */
  happened: readonly Doubt[]
  /** What no doubt explains of `reserved`: a call that came late was overwritten, or overwrote. */
  unexplainedHold: number
  /** What somebody else brought (or took): the prediction follows it. */
  followedStock: number
  /** undefined: one story alone fits what Catalog said */
  undecided: Undecided | undefined
}

/** Several stories fitted what Catalog said, and one was taken: if another is true, so many pieces are offered too many since, or too few. */
export interface Undecided {
  tooMany: number
  tooFew: number
  /** Of these it was chosen. */
  doubts: readonly Doubt[]
  /** These were taken to have happened. */
  taken: readonly Doubt[]
}

/** A doubt as it stands in `undecided`. */
export type ToldDoubt = Pick<Doubt, 'verb' | 'qty' | 'orderId' | 'since'>

export type MendingAnswer = 'done' | 'refused' | 'unknown'

/** What a mending call is for: pieces are missing; Catalog holds some for no row of ours, or not what our rows hold; a restock too many. */
export type MendingReason = 'stock-short' | 'hold-of-nobody' | 'hold-missing' | 'stock-extra'

const effects: Record<StockVerb, { hold: -1 | 0 | 1; stock: -1 | 0 | 1 }> = {
  reserve: { hold: 1, stock: 0 },
  release: { hold: -1, stock: 0 },
  commit: { hold: -1, stock: -1 },
  restock: { hold: 0, stock: 1 },
}

/** What a call changes in Catalog's books of a product. */
export function effectOf({ verb, qty }: { verb: StockVerb; qty: number }): { hold: number; stock: number } {
  return { hold: effects[verb].hold * qty, stock: effects[verb].stock * qty }
}

const booksRow = z.object({
  held: z.int(),
  drift: z.int(),
  predicted_stock: z.int(),
  extra_hold: z.int(),
  extra_stock: z.int(),
  epoch: z.int(),
})
export const stockVerb = z.enum(['reserve', 'commit', 'restock', 'release'])
const doubtRow = z.object({ id: z.int(), verb: stockVerb, qty: z.int(), since: z.date(), order_id: z.int().nullable() })
const sendingRow = doubtRow.extend({ epoch: z.int() })
const epochRow = z.object({ product_id: z.int(), epoch: z.int() })

const doubtOf = ({ order_id: orderId, ...rest }: z.infer<typeof doubtRow>): Doubt => ({ ...rest, orderId })
const toldOf = (doubts: readonly Doubt[]): ToldDoubt[] => doubts.map(({ verb, qty, orderId, since }) => ({ verb, qty, orderId, since }))

/** What goes into `undecided`: one row, or none. */
const undecidedInput = (undecided: Undecided | undefined) =>
  JSON.stringify(
    undecided
      ? [{ too_many: undecided.tooMany, too_few: undecided.tooFew, taken: toldOf(undecided.taken), doubts: toldOf(undecided.doubts) }]
      : [],
  )

/** Pieces that our rows hold of a product. @param productId its id, or a column that has it */
export const heldOf = (productId: number | FragmentSqlToken) => sql.fragment`
  coalesce((select sum(i.qty) from public.order_items i join public.orders o on o.id = i.order_id
    where i.product_id = ${productId} and o.status = 'CREATED'), 0)
  + coalesce((select sum(l.qty) from order_service.checkouts c cross join lateral jsonb_to_recordset(c.lines) as l (product_id int, qty int)
    where c.state = 'OPEN' and c.recovery_point = 'reserve-stock' and l.product_id = ${productId}), 0)`

export type StockLedger = ReturnType<typeof createStockLedger>

/** Whoever calls the verbs that change books holds the product's lease; `doubt` and `ready` need none. */
export function createStockLedger(pool: Pool) {
  return {
    /** Epochs of those products whose books nobody has to look at first; the others (never met, in doubt, with extras) are not in it. */
    async ready(productIds: readonly number[]): Promise<Map<number, number>> {
      const rows = await pool.any(sql.prepared('ready-products', epochRow)`
        select p.product_id, p.epoch from order_service.products p
        where p.product_id = any(${sql.array(productIds, 'int4')}) and p.extra_hold = 0 and p.extra_stock = 0
          and not exists (select from order_service.doubts d where d.product_id = p.product_id and d.looked_at is null)`)
      return new Map(rows.map((row) => [row.product_id, row.epoch]))
    },

    /** First sight of a product. Holds that are nobody's are drift; those of ours that are missing are owed, and reserved by mending. */
    async meet(productId: number, { inStock, reserved }: { inStock: number; reserved: number }): Promise<void> {
      await pool.query(sql.prepared('meet-product', nothing)`
        insert into order_service.products (product_id, drift, predicted_stock, extra_hold)
        select ${productId}, greatest(0, ${reserved}::bigint - held), ${inStock}::bigint, least(0, ${reserved}::bigint - held)
        from (select ${heldOf(productId)} as held) h
        on conflict do nothing`)
    },

    /** Records, and mending, under the epoch before are refused from now on. @returns the new one; undefined where the product was never met */
    async raiseEpoch(productId: number): Promise<number | undefined> {
      const row = await pool.maybeOne(sql.prepared('raise-epoch', epochRow)`
        update order_service.products set epoch = epoch + 1, mending_since = coalesce(mending_since, now()), updated_at = now()
        where product_id = ${productId} returning product_id, epoch`)
      return row?.epoch
    },

    async read(productId: number): Promise<Books> {
      return pool.transaction(async (tx) => {
        await tx.query(sql.unsafe`set transaction isolation level repeatable read read only`)
        const row = await tx.one(sql.prepared('read-books', booksRow)`
          select ${heldOf(productId)} as held, drift, predicted_stock, extra_hold, extra_stock, epoch
          from order_service.products where product_id = ${productId}`)
        const doubts = await tx.any(sql.prepared('read-doubts', doubtRow)`
          select id, verb, qty, since, order_id from order_service.doubts where product_id = ${productId} order by id`)
        return {
          productId,
          held: row.held,
          drift: row.drift,
          predictedStock: row.predicted_stock,
          extraHold: row.extra_hold,
          extraStock: row.extra_stock,
          epoch: row.epoch,
          doubts: doubts.map(doubtOf),
        }
      })
    },

    /** Writes down calls that got no answer. One that stands there already stays as it is. */
    async doubt(calls: readonly DoubtfulCall[]): Promise<void> {
      const input = JSON.stringify(
        calls.map(({ orderId: order_id, attempt, productId: product_id, verb, qty }) => ({ order_id, attempt, product_id, verb, qty })),
      )
      await pool.query(sql.prepared('doubt', nothing)`
        insert into order_service.doubts (product_id, verb, qty, order_id, attempt)
        select product_id, verb, qty, order_id, attempt
        from jsonb_to_recordset(${input}::jsonb) as t (order_id int, attempt int, product_id int, verb text, qty int)
        join order_service.products using (product_id)  -- one without a row was never asked for
        order by product_id  -- two that write down one call do not wait for each other
        on conflict do nothing`)
    },

    /**
     * Writes down every call on the product of which our rows do not say what became of it, whether it was sent or not: its lease would
     * have told, but leases may be lost with Redis.
     * @returns whether there was one that stood nowhere among the doubts
     */
    async doubtUnsettled(productId: number): Promise<boolean> {
      const { rowCount } = await pool.query(sql.prepared('doubt-unsettled', nothing)`
        insert into order_service.doubts (product_id, verb, qty, order_id, attempt)
        select ${productId}, verb, sum(qty), order_id, attempt from (
          select 'reserve' as verb, l.qty, c.order_id, c.attempt
          from (
            select order_id, attempt, lines from order_service.checkouts
            where state = 'OPEN' and recovery_point = 'intent' and reserve_call = 'unknown'
            union all
            select order_id, attempt, lines from order_service.checkouts
            where state = 'CANCELLED' and reserve_call = 'unknown' and recovery_point = 'intent'
          ) c cross join lateral jsonb_to_recordset(c.lines) as l (product_id int, qty int)
          where l.product_id = ${productId}
          union all
          select 'commit', i.qty, e.order_id, e.attempt
          from order_service.payment_events e join public.order_items i on i.order_id = e.order_id
          where e.state = 'WAITING' and e.commit_call = 'unknown' and i.product_id = ${productId}
        ) calls
        where exists (select from order_service.products where product_id = ${productId})  -- one without a row was never asked for
        group by verb, order_id, attempt
        on conflict do nothing`)
      return rowCount > 0
    },

    /**
     * Brings what we know to what Catalog said, and writes down what nobody of ours did. A doubt that is no longer there has been
     * understood by others, and its effect stands there already.
     * @returns false where somebody else mends the product since: what was seen is old, and nothing is written
     */
    async settle(productId: number, epoch: number, { happened, unexplainedHold, followedStock, undecided }: Finding): Promise<boolean> {
      const understood = JSON.stringify(happened.map((doubt) => ({ id: doubt.id, ...effectOf(doubt) })))
      // The changes are relative: a checkout that is cancelled at this moment adds its hold without asking for the lease.
      const { rowCount } = await pool.query(sql.prepared('settle', nothing)`
        with mine as materialized (
          select product_id from order_service.products where product_id = ${productId} and epoch = ${epoch} for update
        ), gone as (
          delete from order_service.doubts d using mine, jsonb_to_recordset(${understood}::jsonb) as e (id bigint, hold bigint, stock bigint)
          where d.id = e.id and d.product_id = mine.product_id
          returning d.product_id, d.verb, d.qty, d.order_id, e.hold, e.stock
        ), noted as (
          insert into order_service.mendings (product_id, verb, qty, answer, order_id)
          select product_id, verb, qty, 'happened', order_id from gone
          union all
          select mine.product_id, t.verb, t.qty, 'seen', null
          from mine, (values ('unexplained-hold', ${unexplainedHold}::bigint), ('follow', ${followedStock}::bigint)) t (verb, qty)
          where t.qty <> 0
        ), open as (
          insert into order_service.undecided (product_id, why, too_many, too_few, taken, doubts)
          select mine.product_id, 'two-stories', u.too_many, u.too_few, u.taken, u.doubts
          from mine, jsonb_to_recordset(${undecidedInput(undecided)}::jsonb) as u (too_many bigint, too_few bigint, taken jsonb, doubts jsonb)
        )
        update order_service.products p
        set extra_hold = extra_hold + ${unexplainedHold}::bigint + coalesce((select sum(hold) from gone), 0)::bigint,
          extra_stock = extra_stock + coalesce((select sum(stock) from gone), 0)::bigint,
          predicted_stock = predicted_stock + ${followedStock}::bigint, updated_at = now()
        from mine where p.product_id = mine.product_id`)
      return rowCount > 0
    },

    /** Before a mending call is sent it stands among the doubts, under a new epoch. @returns undefined where somebody else mends the product since */
    async sending(productId: number, epoch: number, verb: StockVerb, qty: number): Promise<SentDoubt | undefined> {
      const row = await pool.maybeOne(sql.prepared('sending', sendingRow)`
        with raised as (
          update order_service.products set epoch = epoch + 1, updated_at = now()
          where product_id = ${productId} and epoch = ${epoch} returning product_id, epoch
        )
        insert into order_service.doubts (product_id, verb, qty) select product_id, ${verb}, ${qty} from raised
        returning id, verb, qty, since, order_id, (select epoch from raised) as epoch`)
      return row ? { ...doubtOf(row), epoch: row.epoch } : undefined
    },

    /**
     * What came of a mending call. One without an answer stays a doubt; one that was never sent counts as refused. So does one that was done
     * stay a doubt where somebody else mends the product since: he may have counted what he saw of it under the name of another doubt.
     */
    async answered(productId: number, doubt: SentDoubt, answer: MendingAnswer, why: MendingReason): Promise<void> {
      const { hold, stock } = answer === 'done' ? effectOf(doubt) : { hold: 0, stock: 0 }
      await pool.query(sql.prepared('answered', nothing)`
        with noted as (
          insert into order_service.mendings (product_id, verb, qty, answer, why)
          values (${productId}, ${doubt.verb}, ${doubt.qty}, ${answer}, ${why})
        ), mine as materialized (
          select product_id from order_service.products
          where product_id = ${productId} and (epoch = ${doubt.epoch} or ${answer} = 'refused') for update
        ), gone as (
          delete from order_service.doubts d using mine
          where d.id = ${doubt.id} and d.product_id = mine.product_id and ${answer} <> 'unknown' returning d.product_id
        )
        update order_service.products p
        set extra_hold = extra_hold + ${hold}::bigint, extra_stock = extra_stock + ${stock}::bigint, updated_at = now()
        from gone where p.product_id = gone.product_id`)
    },

    /** A hold that mending needs was refused. Pieces restocked too many are then sold: followed. A hold that is missing is sold twice. */
    async cannotHold(productId: number, epoch: number): Promise<void> {
      await pool.query(sql.prepared('cannot-hold', nothing)`
        with mine as materialized (
          select product_id, greatest(0, extra_stock) as sold from order_service.products
          where product_id = ${productId} and epoch = ${epoch} for update
        ), noted as (
          insert into order_service.mendings (product_id, verb, qty, answer) select product_id, 'follow', sold, 'seen' from mine where sold > 0
        ), open as (
          insert into order_service.undecided (product_id, why, too_many, too_few, taken, doubts)
          select product_id, 'sold', sold, 0, '[]', '[]' from mine where sold > 0
        )
        update order_service.products p
        set predicted_stock = predicted_stock + mine.sold, extra_stock = least(0, extra_stock), unsellable = extra_hold < 0, updated_at = now()
        from mine where p.product_id = mine.product_id`)
    },

    /** The product's books at Catalog and ours agree, whatever came of these doubts. @returns false where somebody else mends it since */
    async agreed(productId: number, epoch: number, doubts: readonly Doubt[]): Promise<boolean> {
      const { rowCount } = await pool.query(sql.prepared('agreed', nothing)`
        with mine as (
          update order_service.products set unsellable = false, mending_since = null
          where product_id = ${productId} and epoch = ${epoch} returning product_id
        ), looked as (
          update order_service.doubts d set looked_at = clock_timestamp() from mine
          where d.product_id = mine.product_id and d.looked_at is null and d.id = any(${sql.array(
            doubts.map(({ id }) => id),
            'int8',
          )})
        )
        select from mine`)
      return rowCount > 0
    },

    /** Doubts of this age and above can no longer happen: no neighbour acts so late. */
    async forgetOld(productId: number, ageMs: number): Promise<void> {
      await pool.query(sql.prepared('forget-old-doubts', nothing)`
        delete from order_service.doubts
        where product_id = ${productId} and looked_at is not null and since < clock_timestamp() - ${ageMs}::float8 * interval '1 ms'`)
    },

    /** Neither extras nor doubts: nothing is left for the mender. */
    async isAtPeace(productId: number): Promise<boolean> {
      return pool.exists(sql.prepared('is-at-peace', nothing)`
        select from order_service.products p where product_id = ${productId} and extra_hold = 0 and extra_stock = 0 and mending_since is null
          and not exists (select from order_service.doubts d where d.product_id = p.product_id)`)
    },

    /** Products with extras or doubts, and those that somebody began to mend and left: what the mender works on. */
    async inDoubt(): Promise<number[]> {
      const rows = await pool.any(sql.prepared('products-in-doubt', z.object({ product_id: z.int() }))`
        select product_id from order_service.products where extra_hold <> 0 or extra_stock <> 0 or mending_since < now() - interval '1 minute'
        union select product_id from order_service.doubts order by product_id`)
      return rows.map((row) => row.product_id)
    },

    /** How many products are in doubt (extras, or doubts), and how many cannot be mended since they were sold twice. */
    async count(): Promise<{ inDoubt: number; unsellable: number }> {
      const row = await pool.one(sql.prepared('count-products-in-doubt', z.object({ in_doubt: z.int(), unsellable: z.int() }))`
        select count(*) as in_doubt, count(*) filter (where unsellable) as unsellable from order_service.products p
        where extra_hold <> 0 or extra_stock <> 0 or exists (select from order_service.doubts d where d.product_id = p.product_id)`)
      return { inDoubt: row.in_doubt, unsellable: row.unsellable }
    },
  }
}
