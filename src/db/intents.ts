/** How a checkout begins: the intent is written before anything is done about it, and claims its customer's idempotency key. */
import { sql } from 'slonik'
import { z } from 'zod'
import { batcher } from '../batcher.ts'
import type { Intent, ProductQty } from '../model.ts'
import { productsOf } from '../model.ts'
import { alone, type Pool } from './pool.ts'

/**
 * A product of a new checkout with its epoch when the intent was written; null where somebody has to look first (never met, or
 * waiting to be mended).
 */
export interface ProductAtIntent extends ProductQty {
  epoch: number | null
}

/** The live checkout that has a customer's key. */
export interface Claim {
  orderId: number
  requestHash: string
  state: 'OPEN' | 'CREATED'
  totalCents: number
  currency: string
  deadlineAt: Date
}

export type Intended = { claim: 'new'; orderId: number; deadlineAt: Date; products: ProductAtIntent[] } | ({ claim: 'taken' } & Claim)

const claimFields = {
  order_id: z.int(),
  request_hash: z.string(),
  state: z.enum(['OPEN', 'CREATED']),
  total_cents: z.int(),
  currency: z.string(),
  deadline_at: z.date(),
}
const claimRow = z.object(claimFields)
const intentRow = z.union([
  z.object({ outcome: z.literal('inserted'), order_id: z.int(), deadline_at: z.date() }),
  z.object({ outcome: z.enum(['existing', 'duplicate_in_batch']), ...claimFields }),
  z.object({ outcome: z.literal('raced') }),
])

/** The first row brings, for the whole batch, the epochs of those products that nobody has to look at first. */
const firstRow = z.object({ epochs: z.record(z.string(), z.int()).nullable() })
const insertedRow = intentRow.and(firstRow) // made once: it takes longer than to read a row with it

const claimOf = (row: z.infer<typeof claimRow>): Claim => ({
  orderId: row.order_id,
  requestHash: row.request_hash,
  state: row.state,
  totalCents: row.total_cents,
  currency: row.currency,
  deadlineAt: row.deadline_at,
})

export interface Intents {
  /** Writes the intent down, or says who has its key. Times count from PostgreSQL's clock. */
  intend(intent: Intent): Promise<Intended>
  /** The OPEN or CREATED checkout with this key, if there is one. */
  findClaim(userEmail: string, idempotencyKey: string): Promise<Claim | undefined>
}

/** @param pool intents that come together are written in one statement */
export function createIntents(pool: Pool): Intents {
  const insert = batcher((batch: Intent[]) => alone(batch, (rows) => insertIntents(pool, rows)))

  const findClaim: Intents['findClaim'] = async (userEmail, idempotencyKey) => {
    const row = await pool.maybeOne(sql.prepared('find-claim', claimRow)`
      select order_id, request_hash, state, total_cents, currency, deadline_at
      from order_service.checkouts
      where user_email = ${userEmail} and idempotency_key = ${idempotencyKey}`)
    return row ? claimOf(row) : undefined
  }

  return {
    findClaim,
    async intend(intent) {
      for (;;) {
        const row = await insert(intent)
        if (row.outcome === 'inserted') {
          const products = productsOf(intent.lines).map((product) => ({ ...product, epoch: row.epochs[product.productId] ?? null }))
          return { claim: 'new', orderId: row.order_id, deadlineAt: row.deadline_at, products }
        }
        if (row.outcome !== 'raced') return { claim: 'taken', ...claimOf(row) }
        // Another transaction took the key after this statement's snapshot: its row shows itself to the next one, unless it has ended by then.
        const claim = await findClaim(intent.userEmail, intent.idempotencyKey)
        if (claim) return { claim: 'taken', ...claim }
      }
    },
  }
}

/** Rows are inserted in the order of their keys, so that two batches cannot wait for each other. */
async function insertIntents(pool: Pool, batch: Intent[]) {
  const productIds = [...new Set(batch.flatMap((intent) => intent.lines.map((line) => line.product_id)))]
  const input = JSON.stringify(
    batch.map((intent, ord) => ({
      ord,
      user_email: intent.userEmail,
      idempotency_key: intent.idempotencyKey,
      request_hash: intent.requestHash,
      lines: intent.lines,
      address: intent.address,
      total_cents: intent.totalCents,
      budget_ms: intent.budgetMs,
    })),
  )
  const rows = await pool.any(sql.prepared('intend', insertedRow)`
    with inp as materialized (
      select * from jsonb_to_recordset(${input}::jsonb) as t (
        ord int, user_email text, idempotency_key text, request_hash text, lines jsonb, address jsonb, total_cents bigint, budget_ms int)
    ), old as (
      select i.ord, c.* from inp i cross join lateral (
        select order_id, state, request_hash, total_cents, currency, deadline_at from order_service.checkouts c
        where c.user_email = i.user_email and c.idempotency_key = i.idempotency_key limit 1) c
    ), fresh as materialized (
      select distinct on (user_email, idempotency_key) i.* from inp i
      where not exists (select from old where old.ord = i.ord)
      order by user_email, idempotency_key, ord
    ), num as materialized (
      select f.*, nextval('public.orders_id_seq')::int as order_id from (select * from fresh order by ord) f
    ), ins as (
      insert into order_service.checkouts (order_id, user_email, idempotency_key, request_hash, lines, address, total_cents, deadline_at)
      select order_id, user_email, idempotency_key, request_hash, lines, address, total_cents, clock_timestamp() + budget_ms * interval '1 ms'
      from num order by user_email, idempotency_key
      on conflict (user_email, idempotency_key) do nothing
      returning order_id, user_email, idempotency_key, request_hash, state, total_cents, currency, deadline_at
    ), ready as (
      select p.product_id, p.epoch from order_service.products p
      where p.product_id = any(${sql.array(productIds, 'int4')}) and p.extra_hold = 0 and p.extra_stock = 0
        and not exists (select from order_service.doubts d where d.product_id = p.product_id and d.looked_at is null)
    )
    select
      case when o.order_id is not null then 'existing' when s.order_id is null then 'raced'
        when n.ord = i.ord then 'inserted' else 'duplicate_in_batch' end as outcome,
      coalesce(o.order_id, s.order_id) as order_id, coalesce(o.state, s.state) as state,
      coalesce(o.request_hash, s.request_hash) as request_hash, coalesce(o.total_cents, s.total_cents) as total_cents,
      coalesce(o.currency, s.currency) as currency, coalesce(o.deadline_at, s.deadline_at) as deadline_at,
      case when i.ord = 0 then (select jsonb_object_agg(product_id, epoch) from ready) end as epochs
    from inp i
    left join old o on o.ord = i.ord
    left join ins s on s.user_email = i.user_email and s.idempotency_key = i.idempotency_key
    left join num n on n.order_id = s.order_id
    order by i.ord`)
  const epochs = rows[0]?.epochs ?? {}
  return rows.map((row) => ({ ...row, epochs }))
}
