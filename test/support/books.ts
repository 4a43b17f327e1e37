/** What a shop owner would check in the evening: that the neighbours' books and the orders say the same. */
import type { Shop } from './shop.ts'
import { until } from './until.ts'

const UNFINISHED = `
  select 'checkout ' || order_id as what from order_service.checkouts where state = 'OPEN'
  union all
  select 'product ' || product_id from order_service.products p where extra_hold <> 0 or extra_stock <> 0
    or exists (select from order_service.doubts d where d.product_id = p.product_id and looked_at is null)`

export interface DayBook {
  /** Orders that stand. */
  orders: number
  /** Pieces in them, and pieces that Catalog holds. */
  sold: number
  held: number
  /** Orders without a shipment, or with two. */
  misshipped: number[]
}

/** Waits until no checkout is open and the mender has nothing to give back or to look at. */
export async function settled(shop: Pick<Shop, 'query'>): Promise<void> {
  const unfinished = () => shop.query(UNFINISHED).catch((error: Error) => [{ what: error.message }])
  await until(unfinished, (rows) => rows.length === 0, 60_000)
}

/** The books of these products once everything is settled. */
export async function dayBook(shop: Pick<Shop, 'query' | 'catalog' | 'shipping'>, productIds: readonly number[]): Promise<DayBook> {
  await settled(shop)
  const rows = await shop.query<{ id: number; pieces: number }>(
    `select o.id, sum(i.qty)::int as pieces from public.orders o join public.order_items i on i.order_id = o.id
     where o.status = 'CREATED' and i.product_id = any($1) group by o.id`,
    [productIds],
  )
  return {
    orders: rows.length,
    sold: rows.reduce((sum, { pieces }) => sum + pieces, 0),
    held: productIds.reduce((sum, id) => sum + (shop.catalog.books(id)?.reserved ?? 0), 0),
    misshipped: rows.map(({ id }) => id).filter((id) => shop.shipping.count(id) !== 1),
  }
}
