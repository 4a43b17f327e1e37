/** What those who died may have left, checkouts and calls: found by what stands in PostgreSQL alone, since Redis may have lost every job. */
import { sql } from 'slonik'
import { z } from 'zod'
import { type Line, type ProductQty, productsOf } from '../model.ts'
import type { Attempt } from './checkout-statements.ts'
import { nothing, type Pool } from './pool.ts'

/** An open checkout that no job has touched for a while. */
export interface StrandedCheckout {
  orderId: number
  products: ProductQty[]
  /** Epoch ms. */
  deadline: number
}

const strandedRow = z.object({
  order_id: z.int(),
  deadline_at: z.date(),
  lines: z.array(z.object({ product_id: z.int(), qty: z.int() })),
})

/** These attempts are at work: said once a second of those that take longer, so that nobody takes them for dead. */
export async function keepAlive(pool: Pool, attempts: readonly Attempt[]): Promise<void> {
  if (attempts.length === 0) return
  const input = JSON.stringify(attempts.map(({ orderId: order_id, attempt }) => ({ order_id, attempt })))
  await pool.query(sql.prepared('keep-alive', nothing)`
    with alive as materialized (
      select c.order_id from order_service.checkouts c
      join jsonb_to_recordset(${input}::jsonb) as t (order_id int, attempt int) on t.order_id = c.order_id and t.attempt = c.attempt
      where c.state = 'OPEN' order by c.order_id for update of c skip locked  -- whoever has the row touches it
    )
    update order_service.checkouts set updated_at = now() where order_id = any(array(select order_id from alive))`)
}

/** Open checkouts before their deadline that nobody has touched for so long, the oldest first. */
export async function strandedCheckouts(pool: Pool, untouchedMs: number, limit: number): Promise<StrandedCheckout[]> {
  const rows = await pool.any(sql.prepared('stranded-checkouts', strandedRow)`
    select order_id, deadline_at, lines from order_service.checkouts
    where state = 'OPEN' and deadline_at > clock_timestamp() and updated_at < clock_timestamp() - ${untouchedMs}::float8 * interval '1 ms'
    order by order_id limit ${limit}`)
  return rows.map((row) => ({
    orderId: row.order_id,
    products: productsOf(row.lines as Line[]),
    deadline: row.deadline_at.getTime(),
  }))
}

/** Open checkouts whose deadline passed so long ago: whoever waited for them is gone. */
export async function overdueCheckouts(pool: Pool, lateMs: number, limit: number): Promise<number[]> {
  const rows = await pool.any(sql.prepared('overdue-checkouts', z.object({ order_id: z.int() }))`
    select order_id from order_service.checkouts
    where state = 'OPEN' and deadline_at < clock_timestamp() - ${lateMs}::float8 * interval '1 ms'
    order by order_id limit ${limit}`)
  return rows.map((row) => row.order_id)
}

/**
 * Cancelled checkouts whose attempt has not said for so long what became of its reserve: the call is written down as a doubt.
 * @returns the products to be mended
 */
export async function doubtAbandoned(pool: Pool, untouchedMs: number, limit: number): Promise<number[]> {
  const rows = await pool.any(sql.prepared('doubt-abandoned', z.object({ product_id: z.int() }))`
    with was as materialized (
      select order_id, attempt, recovery_point, lines from order_service.checkouts
      where state = 'CANCELLED' and reserve_call = 'unknown' and updated_at < clock_timestamp() - ${untouchedMs}::float8 * interval '1 ms'
      order by order_id limit ${limit} for update skip locked
    ), settled as (
      update order_service.checkouts set reserve_call = 'settled', updated_at = now() where order_id = any(array(select order_id from was))
    )
    insert into order_service.doubts (product_id, verb, qty, order_id, attempt)
    select p.product_id, 'reserve', sum(l.qty), was.order_id, was.attempt
    from was cross join lateral jsonb_to_recordset(was.lines) as l (product_id int, qty int)
    join order_service.products p using (product_id)  -- one without a row was never asked for
    where was.recovery_point = 'intent'
    group by p.product_id, was.order_id, was.attempt
    order by p.product_id  -- a doubt locks its product's row against the statements that change it
    on conflict do nothing
    returning product_id`)
  return [...new Set(rows.map((row) => row.product_id))]
}

/**
 * Whether a call to Catalog can be under way whose outcome is not on record: asked where Redis may have lost the lease that covers it.
 * @param withinMs a mending call that was written down earlier is over
 */
export async function mayHaveCalls(pool: Pool, withinMs: number): Promise<boolean> {
  return pool.exists(sql.prepared('may-have-calls', nothing)`
    (select from order_service.checkouts where state = 'OPEN' limit 1)
    union all (select from order_service.checkouts where state = 'CANCELLED' and reserve_call = 'unknown' limit 1)
    union all (select from order_service.payment_events where state = 'WAITING' limit 1)
    union all (select from order_service.doubts where since > clock_timestamp() - ${withinMs}::float8 * interval '1 ms' limit 1)`)
}
