/** Redis holds jobs and replies, and nothing else: when it comes back empty, customers are served at once. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Redis } from 'ioredis'
import { shopTotals } from '../support/shop-totals.ts'
import { startRedis } from '../support/services/index.ts'
import { openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const PRODUCTS = 20
const EVERY_MS = 20
/** It takes less than one; what is more is a busy machine's. */
const SERVED_WITHIN_MS = 5000

test('a Redis that is flushed and restarted under 50 customers a second keeps nobody waiting: the first is served at once', async (t) => {
  const redis = await startRedis({ name: 'test-redis-restart' })
  t.teardown(redis.stop)
  process.env.REDIS_URL = redis.url
  const shop = await openShop()
  t.teardown(shop.close)
  const products = Array.from({ length: PRODUCTS }, () => shop.catalog.product({ stock: 10_000 }))
  const served: number[] = []
  const closing = new AbortController()

  async function buy(productId: number): Promise<void> {
    const customer = await shop.customer().wants({ product_id: productId, qty: 1 })
    const { status } = await customer.checkout()
    if (status === 200) served.push(performance.now())
  }
  const asked: Promise<unknown>[] = []
  const comeAndGo = (async () => {
    for (let i = 0; !closing.signal.aborted; i += 1) {
      asked.push(buy(products[i % PRODUCTS]!).catch(() => {})) // Redis is away, and the cart with it
      await sleep(EVERY_MS)
    }
  })()
  t.teardown(() => closing.abort())
  await until(() => served.length > 100)

  const owner = new Redis(redis.url)
  await owner.flushall()
  owner.disconnect()
  await redis.kill()
  await redis.restart()
  const backAt = performance.now()

  const first = await until(
    () => served.find((at) => at > backAt),
    (at) => at !== undefined,
  )
  closing.abort()
  await comeAndGo
  await Promise.all(asked)
  t.log(`served ${Math.round(first! - backAt)} ms after Redis was back`)
  t.true(first! - backAt < SERVED_WITHIN_MS, `${first! - backAt} ms`)
  const { orders, sold, held, misshipped } = await shopTotals(shop, products)
  t.true(orders >= served.length)
  t.deepEqual([sold, held, misshipped], [orders, orders, []])
})
