/** What stays in Redis: nothing that grows with customers. The table is in docs/operations.md. */

import test from 'ava'
import { Redis } from 'ioredis'
import { shopTotals } from '../support/shop-totals.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { wakeReconciler } from '../support/wake-reconciler.ts'

const queues = ['checkout', 'payment', 'stock', 'operator-actions']
/** BullMQ's own, a handful a queue: of the job keys (`:checkout:checkouts-1-4`) none may be left. */
const kept = [
  new RegExp(`^:(${queues.join('|')}):(id|meta|events|marker|stalled-check|stalled|wait|active|delayed|prioritized|failed|pc)$`),
]

async function keysOf(redis: Redis, shop: Shop): Promise<string[]> {
  const keys: string[] = []
  for await (const batch of redis.scanStream({ match: `${shop.prefix.replaceAll(/[{}]/g, '?')}*`, count: 1000 })) keys.push(...batch)
  return [...new Set(keys)].map((key) => key.slice(shop.prefix.length)).sort()
}

test('after forty checkouts, and after eighty with refusals, faults and reconciling, Redis has no key that the first did not leave', async (t) => {
  const shop = await openShop({ env: { CALL_TIMEOUT_MS: '1000' } })
  t.teardown(shop.close)
  const redis = new Redis(process.env.REDIS_URL!)
  t.teardown(async () => redis.disconnect())
  const products = Array.from({ length: 5 }, () => shop.catalog.product({ stock: 30 }))
  const few = shop.catalog.product({ stock: 1 })
  async function buy(times: number): Promise<number[]> {
    const customers = await Promise.all(
      Array.from({ length: times }, (_, i) => shop.customer().wants({ product_id: i % 10 === 9 ? few : products[i % 5]!, qty: 1 })),
    )
    return (await Promise.all(customers.map((customer) => customer.checkout({ key: 'k' })))).map(({ status }) => status)
  }
  const atRest = async () => {
    await shopTotals(shop, products)
    // Calls without an answer keep a job of their product for ten minutes: as if they were over, and the next check is now.
    await shop.query(`update order_service.unanswered_calls set since = since - interval '11 minutes'`)
    await wakeReconciler(shop, products)
    // The answers of customers who were refused are kept for a minute: as if it were over.
    const refusals = (await keysOf(redis, shop)).filter((key) => key.startsWith(':refused:')).map((key) => shop.prefix + key)
    const ends = await Promise.all(refusals.map((key) => redis.pttl(key)))
    t.true(
      ends.every((ms) => ms > 0 && ms <= 60_000),
      `they end in ${ends.join(', ')} ms`,
    )
    if (refusals.length > 0) await redis.del(refusals)
    await until(
      () => keysOf(redis, shop),
      (keys) => keys.every((key) => kept.some((pattern) => pattern.test(key))),
      60_000,
    )
    return keysOf(redis, shop)
  }

  t.true((await buy(40)).includes(409))
  const after40 = await atRest()
  shop.catalog.fault({ call: 'reserve', fault: 'drop', times: 3 })
  const statuses = await buy(40)
  t.true(statuses.includes(200) && statuses.includes(409), String(statuses))
  const after80 = await atRest()

  t.deepEqual(
    after80.filter((key) => !after40.includes(key) && !/^:stock:|:stalled|:marker|:delayed$/.test(key)),
    [],
  )
  t.true(after80.length <= 25, after80.join(' '))
  for (const queue of queues) t.true((await redis.xlen(`${shop.prefix}:${queue}:events`).catch(() => 0)) < 1000, 'BullMQ trims its events')
})

test('tries of signing in leave keys that end by themselves', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  const redis = new Redis(process.env.REDIS_URL!)
  t.teardown(async () => redis.disconnect())
  await fetch(`${shop.url}/order/admin/sign-in`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' },
    body: 'email=nobody%40example.com&password=wrong',
  })
  const tries = (await keysOf(redis, shop)).filter((key) => key.includes(':sign-in:'))
  t.is(tries.length, 2)
  for (const key of tries) {
    const ms = await redis.pttl(shop.prefix + key)
    t.true(ms > 0 && ms <= 600_000, `${key} ends in ${ms} ms`)
  }
})
