/** Whether Catalog's and Shipping's rows say the same as the orders, once nothing is under way. */
import type { Shop } from './shop.ts'
import { until } from './until.ts'

const UNFINISHED = `
  select 'checkout ' || order_id as what from order_service.checkouts where state = 'OPEN'
  union all
  select 'product ' || product_id from order_service.products
    where hold_correction <> 0 or stock_correction <> 0 or reconciling_since is not null or call_verb <> 'check'
  union all
  select 'change of product ' || product_id from order_service.product_changes
  union all
  select 'call ' || call_id from order_service.unanswered_calls where found is null`

export interface ShopTotals {
  /** Orders that stand. */
  orders: number
  /** Units in them, and units that Catalog holds. */
  sold: number
  held: number
  /** Orders without a shipment, or with two. */
  misshipped: number[]
}

/** Waits until no checkout is open, no call is under way, and the reconciler has nothing to put right or to find out. */
export async function settled(shop: Pick<Shop, 'query'>): Promise<void> {
  const unfinished = () => shop.query(UNFINISHED).catch((error: Error) => [{ what: error.message }])
  await until(unfinished, (rows) => rows.length === 0, 60_000)
}

/** Orders, holds and shipments of these products once everything is settled. */
export async function shopTotals(shop: Pick<Shop, 'query' | 'catalog' | 'shipping'>, productIds: readonly number[]): Promise<ShopTotals> {
  await settled(shop)
  const rows = await shop.query<{ id: number; units: number }>(
    `select o.id, sum(i.qty)::int as units from public.orders o join public.order_items i on i.order_id = o.id
     where o.status = 'CREATED' and i.product_id = any($1) group by o.id`,
    [productIds],
  )
  return {
    orders: rows.length,
    sold: rows.reduce((sum, { units }) => sum + units, 0),
    held: productIds.reduce((sum, id) => sum + (shop.catalog.inventory(id)?.reserved ?? 0), 0),
    misshipped: rows.map(({ id }) => id).filter((id) => shop.shipping.count(id) !== 1),
  }
}
