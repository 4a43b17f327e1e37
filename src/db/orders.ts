/** Orders as customers read them. Checkouts without an order are included. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Line } from '../model.ts'
import type { Pool } from './pool.ts'

/** `status` is that of the order's row. A checkout without an order is PENDING while it is open, and then CANCELLED with its reason. */
export interface OrderView {
  id: number
  status: string
  totalCents: number
  currency: string
  items: Line[]
  reason?: string
}

const viewRow = z.object({
  id: z.int(),
  status: z.string(),
  total_cents: z.int(),
  currency: z.string(),
  reason: z.string().nullable(),
  items: z.array(z.object({ product_id: z.int(), qty: z.int(), unit_price_cents: z.int(), title_snapshot: z.string() })),
})

/** @param id must fit into PostgreSQL's `integer` */
export async function readOrder(pool: Pool, id: number): Promise<OrderView | undefined> {
  const row = await pool.maybeOne(sql.prepared('read-order', viewRow)`
    select o.id, o.status, o.total_cents, o.currency, null as reason, (
      select coalesce(jsonb_agg(jsonb_build_object('product_id', i.product_id, 'qty', i.qty,
        'unit_price_cents', i.unit_price_cents, 'title_snapshot', i.title_snapshot) order by i.id), '[]')
      from public.order_items i where i.order_id = o.id) as items
    from public.orders o where o.id = ${id}
    union all
    select c.order_id, case c.state when 'OPEN' then 'PENDING' else 'CANCELLED' end, c.total_cents, c.currency,
      c.outcome ->> 'detail', c.lines
    from order_service.checkouts c where c.order_id = ${id} and c.state <> 'CREATED'`)
  if (!row) return undefined
  const { total_cents: totalCents, reason, ...rest } = row
  return { ...rest, totalCents, ...(reason === null ? {} : { reason }) }
}
