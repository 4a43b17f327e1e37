/** Reads of checkouts that lock nothing. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Outcome } from '../model.ts'
import { type Attempt, type Delivery, idsOf, inOrder, outcomeOf, outcomeRow } from './checkout-rows.ts'
import { nothing, type Pool } from './pool.ts'

const address = z.object({
  address_line1: z.string(),
  address_line2: z.string(),
  city: z.string(),
  country: z.string(),
  postcode: z.string(),
})
const deliveryRow = z.object({ order_id: z.int(), user_email: z.string(), address })

export async function readOutcome(pool: Pool, id: number): Promise<Outcome | undefined> {
  const row = await pool.maybeOne(sql.prepared('read-outcome', outcomeRow)`
    select order_id, state, total_cents, currency, outcome from order_service.checkouts where order_id = ${id}`)
  return row ? outcomeOf(row) : undefined
}

export async function isOpen(pool: Pool, { orderId: id, attempt }: Attempt): Promise<boolean> {
  return pool.exists(sql.prepared('is-open', nothing)`
    select from order_service.checkouts where order_id = ${id} and state = 'OPEN' and attempt = ${attempt}`)
}

export async function readDeliveries(pool: Pool, batch: { orderId: number }[]): Promise<(Delivery | undefined)[]> {
  const rows = await pool.any(sql.prepared('read-deliveries', deliveryRow)`
    select order_id, user_email, address from order_service.checkouts where order_id = any(${idsOf(batch)})`)
  return inOrder(batch, rows, ({ user_email: userEmail, address: to }) => ({ userEmail, address: to }))
}
