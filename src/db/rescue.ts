/** Finds the work of processes that died, from PostgreSQL alone, since Redis may have lost every job. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { type Line, type ProductQty, productsOf } from '../model.ts'
import type { Attempt } from './checkout-rows.ts'
import { createLowerBound } from './lower-bound.ts'
import { readLowestWaiting, strandedPayments, type WaitingEvent } from './payment-events.ts'
import { nothing, type Pool } from './pool.ts'

/** An open checkout that no job has touched for a while. */
export interface StrandedCheckout {
  orderId: number
  products: ProductQty[]
  /** Epoch ms. */
  deadline: number
}

/** The rescuer's statements. `limit`: rows at a time. */
export interface Rescue {
  /** Marks running attempts as alive, so that no rescuer takes them over. Called once a second for those that take longer. */
  keepAlive(attempts: readonly Attempt[]): Promise<void>
  /** Open checkouts before their deadline that have not been touched for so long, the oldest first. */
  strandedCheckouts(untouchedMs: number, limit: number): Promise<StrandedCheckout[]>
  /** Open checkouts whose deadline passed so long ago that no process waits for them. Locked rows are skipped. */
  overdueCheckouts(lateMs: number, limit: number): Promise<number[]>
  /** @see strandedPayments */
  strandedPayments(untouchedMs: number, limit: number): Promise<WaitingEvent[]>
}

export function createRescue(pool: Pool, clock: Pick<Clock, 'now'>): Rescue {
  const lowestOpen = createLowerBound(() => readLowestOpen(pool), clock.now)
  const lowestWaiting = createLowerBound(() => readLowestWaiting(pool), clock.now)
  return {
    keepAlive: (attempts) => keepAlive(pool, attempts),
    strandedCheckouts: async (untouchedMs, limit) => strandedCheckouts(pool, { from: await lowestOpen(), untouchedMs, limit }),
    overdueCheckouts: async (lateMs, limit) => overdueCheckouts(pool, { from: await lowestOpen(), lateMs, limit }),
    strandedPayments: async (untouchedMs, limit) => strandedPayments(pool, { from: await lowestWaiting(), untouchedMs, limit }),
  }
}

const strandedRow = z.object({
  order_id: z.int(),
  deadline_at: z.date(),
  lines: z.array(z.object({ product_id: z.int(), qty: z.int() })),
})

async function keepAlive(pool: Pool, attempts: readonly Attempt[]): Promise<void> {
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

/** @see createLowerBound */
async function readLowestOpen(pool: Pool): Promise<number> {
  return pool.oneFirst(sql.prepared('lowest-open', z.object({ lowest: z.int() }))`
    select coalesce((select order_id from order_service.checkouts where state = 'OPEN' order by order_id limit 1),
      (select max(order_id) from order_service.checkouts), 0) as lowest`)
}

interface Search {
  /** No row below this id is searched for. */
  from: number
  limit: number
}

async function strandedCheckouts(pool: Pool, { from, untouchedMs, limit }: Search & { untouchedMs: number }): Promise<StrandedCheckout[]> {
  const rows = await pool.any(sql.prepared('stranded-checkouts', strandedRow)`
    select order_id, deadline_at, lines from order_service.checkouts
    where state = 'OPEN' and order_id >= ${from} and deadline_at > clock_timestamp() and updated_at < clock_timestamp() - ${untouchedMs}::float8 * interval '1 ms'
    order by order_id limit ${limit}`)
  return rows.map((row) => ({
    orderId: row.order_id,
    products: productsOf(row.lines as Line[]),
    deadline: row.deadline_at.getTime(),
  }))
}

async function overdueCheckouts(pool: Pool, { from, lateMs, limit }: Search & { lateMs: number }): Promise<number[]> {
  const rows = await pool.any(sql.prepared('overdue-checkouts', z.object({ order_id: z.int() }))`
    select order_id from order_service.checkouts
    where state = 'OPEN' and order_id >= ${from} and deadline_at < clock_timestamp() - ${lateMs}::float8 * interval '1 ms'
    order by order_id limit ${limit} for update skip locked`)
  return rows.map((row) => row.order_id)
}
