/** Finds the products that operators should see first, and the checkouts that wait for one, by indexes alone. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Pool } from './pool.ts'
import { mayAct } from './reconciliation.ts'

/** Open checkouts that are read to find the products that they wait for. */
const OPEN_READ = 1000

/** Products with corrections or a reconciliation, with ambiguities, with calls that may still act, and those that checkouts wait for. */
export interface Notable {
  productId: number
  /** Another process waits for the product. */
  isContended: boolean
}

const open = sql.fragment`
  select order_id, lines, recovery_point, created_at from order_service.checkouts where state = 'OPEN' order by order_id limit ${OPEN_READ}`

/** In the order of product ids, those with a correction first. */
export async function listNotable(pool: Pool, limit: number): Promise<Notable[]> {
  const rows = await pool.any(sql.type(z.object({ product_id: z.int(), is_contended: z.boolean() }))`
    with corrected as (
      select product_id, 0 as rank from order_service.products
      where hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null
      order by product_id limit ${limit}
    ), contended as materialized (
      select distinct l.product_id, 3 as rank from (${open}) c
      cross join lateral jsonb_to_recordset(c.lines) as l (product_id int)
      cross join lateral (
        select from order_service.products p where p.product_id = l.product_id and p.call_id is not null and p.wanted_until > now() limit 1) w
      where c.recovery_point = 'intent'
    )
    select product_id, bool_or(rank = 3) as is_contended from (
      select * from corrected
      union all (select distinct product_id, 1 from order_service.ambiguities where accepted_at is null)
      union all (select distinct product_id, 2 from order_service.unanswered_calls u where ${mayAct})
      union all select * from contended
    ) found group by product_id order by min(rank), product_id limit ${limit}`)
  return rows.map((row) => ({ productId: row.product_id, isContended: row.is_contended }))
}

/** Who gets the product next: the process that asked for it, and until when that counts. */
export interface Wanted {
  by: string
  until: Date
}

export interface Waiting {
  wanted: Wanted | null
  /** Among the oldest open checkouts, those that have not reserved the product yet. */
  checkouts: readonly { orderId: number; createdAt: Date }[]
}

export async function readWaiting(pool: Pool, productId: number, limit: number): Promise<Waiting> {
  const wanted = await pool.maybeOne(sql.type(z.object({ wanted_by: z.string(), wanted_until: z.date() }))`
    select wanted_by, wanted_until from order_service.products
    where product_id = ${productId} and wanted_by is not null and wanted_until > now()`)
  const rows = await pool.any(sql.type(z.object({ order_id: z.int(), created_at: z.date() }))`
    select order_id, created_at from (${open}) c
    where recovery_point = 'intent' and lines @> ${JSON.stringify([{ product_id: productId }])}::jsonb order by order_id limit ${limit}`)
  return {
    wanted: wanted && { by: wanted.wanted_by, until: wanted.wanted_until },
    checkouts: rows.map((row) => ({ orderId: row.order_id, createdAt: row.created_at })),
  }
}
