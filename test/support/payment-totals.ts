/** The totals of the bridge: what became of every message, and what the orders and Catalog say of it. */
import pLimit from 'p-limit'
import { type BridgeTotals, readBridgeTotals } from '../../src/db/inbox.ts'
import { connectPool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { settled } from './shop-totals.ts'
import { query } from './database.ts'
import type { Shop } from './shop.ts'
import { until } from './until.ts'

/** For shops in which orders are only prepared: on a busy machine many of one product may take longer than customers have. */
export const patient = { CHECKOUT_BUDGET_MS: '60000' }
const turn = pLimit(16)

/** So many orders, each of one unit, or `qty`, of this product. @returns their ids */
export async function placeOrders(shop: Shop, count: number, productId: number, qty = 1): Promise<number[]> {
  const answers = await Promise.all(
    Array.from({ length: count }, () => turn(async () => (await shop.customer().wants({ product_id: productId, qty })).checkout())),
  )
  const refused = answers.find(({ status }) => status !== 200)
  if (refused) throw new Error(`a checkout was answered with ${refused.status}: ${JSON.stringify(refused.body)}`)
  return answers.map(({ body }) => body.order_id)
}

/** Those of these orders that are PAID. */
export async function paid(shop: Pick<Shop, 'query'>, orderIds: readonly number[]): Promise<number[]> {
  const rows = await shop.query<{ id: number }>(`select id from public.orders where status = 'PAID' and id = any($1) order by id`, [
    orderIds,
  ])
  return rows.map(({ id }) => id)
}

export async function allPaid(shop: Pick<Shop, 'query'>, orderIds: readonly number[], withinMs = 60_000): Promise<void> {
  await until(
    () => paid(shop, orderIds).catch(() => []),
    (ids) => ids.length === orderIds.length,
    withinMs,
  )
}

/** Waits until so many messages were consumed and none waits for a job. @throws where the totals do not balance */
export async function bridgeTotals(shop: Pick<Shop, 'dsn'>, { consumed }: { consumed: number }): Promise<BridgeTotals> {
  const pool = await connectPool(shop.dsn, { size: 1, logger: createLogger('silent') })
  try {
    const totals = await until(
      () => readBridgeTotals(pool),
      (now) => now.consumed >= consumed && now.waiting === 0,
    )
    const { applied, duplicate, dead, waiting, ignored } = totals
    if (totals.consumed !== applied + duplicate + dead + waiting + ignored) throw new Error(`out of balance: ${JSON.stringify(totals)}`)
    const [row] = await query<{ n: number }>(
      shop.dsn,
      `select count(*)::int as n from order_service.payment_events where state = 'APPLIED'`,
    )
    if (applied !== row!.n) throw new Error(`${row!.n} were applied: ${JSON.stringify(totals)}`)
    return totals
  } finally {
    await pool.end()
  }
}

/** The dead letters of this order, or of all, the oldest first. */
export async function letters(shop: Pick<Shop, 'query'>, orderId?: number) {
  return shop.query<{ fault: string; reason: string; key: Buffer | null; value: Buffer | null; kafka_offset: string; partition: number }>(
    `select l.fault, l.reason, l.key, l.value, l.kafka_offset, l.partition from order_service.dead_letters l
     left join order_service.payment_events e on e.id = l.event_id where $1::int is null or e.order_id = $1 order by l.id`,
    [orderId ?? null],
  )
}

/** Catalog's totals of a product once nothing is left to reconcile. */
export async function totalsInTheEnd(shop: Pick<Shop, 'query' | 'catalog'>, productId: number) {
  await settled(shop)
  return shop.catalog.inventory(productId)
}
