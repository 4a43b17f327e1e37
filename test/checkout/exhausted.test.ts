/** All connections to PostgreSQL are taken, by statements that wait for a lock: customers are told so, in time. */
import test from 'ava'
import { Client } from 'pg'
import { shopTotals } from '../support/shop-totals.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let shop: Shop
test.before(async () => {
  shop = await openShop({ env: { POSTGRES_POOL: '4' } })
})
test.after.always(() => shop?.close())

/** The wait for a connection, and what a busy machine adds. */
const ANSWERED_MS = 2000 + 1500

test.serial('with all connections taken, checkouts and orders are a 503 within two seconds, and nothing was begun', async (t) => {
  const id = shop.catalog.product({ stock: 10 })
  const buyer = await shop.customer().wants({ product_id: id, qty: 1 })
  const order = (await buyer.checkout({ key: 'k' })).body.order_id
  const [late, keyed] = await Promise.all([0, 1].map(() => shop.customer().wants({ product_id: id, qty: 1 })))
  const path = `/order/v1/orders/${order}`
  const session = new Client({ connectionString: shop.dsn })
  await session.connect()
  await session.query('begin; lock table public.orders')

  const readers = Array.from({ length: 8 }, () => shop.get(path))
  const blocked = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
  await until(
    () => shop.query(blocked),
    (rows) => rows.length === 4,
  )
  const asked = [late!.checkout(), keyed!.checkout({ key: 'k' }), buyer.checkout({ key: 'k' }), shop.get(path)]
  const [plain, withKey, repeated, read] = await Promise.all(asked)
  const health = await shop.get('/order/health')
  await session.query('rollback')
  await session.end()

  for (const answer of [plain!, withKey!, repeated!, read!, ...(await Promise.all(readers))]) {
    t.is(answer.status, 503, JSON.stringify(answer.body))
    t.is(answer.headers.get('retry-after'), '1')
    t.true(answer.ms < ANSWERED_MS, `${answer.ms} ms`)
  }
  t.false(plain!.headers.has('checkout-outcome'), 'nothing was begun')
  t.is(repeated!.headers.get('checkout-outcome'), 'unknown', 'an order stands under this key')
  t.is(health.status, 200)

  await until(
    () => shop.get(path),
    ({ status }) => status === 200,
  )
  t.is((await buyer.checkout({ key: 'k' })).body.order_id, order)
  t.deepEqual(await shopTotals(shop, [id]), { orders: 1, sold: 1, held: 1, misshipped: [] })
  t.is((await late!.checkout()).status, 200)
})
