import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import test from 'ava'
import { CHECKOUT_QUEUE } from '../../src/queues/checkout.ts'
import { openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

test('of several checkouts in one job the one that fails goes on in a job of its own, and the others do not wait for it', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  const redis = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const queue = new Queue(CHECKOUT_QUEUE, { connection: redis, prefix: shop.prefix })
  t.teardown(async () => {
    await queue.close()
    redis.disconnect()
  })
  const product = shop.catalog.product({ stock: 100 })
  const customers = await Promise.all(Array.from({ length: 12 }, () => shop.customer().wants({ product_id: product, qty: 1 })))
  shop.shipping.fault({ call: 'create', email: customers[5]!.email, fault: 'error', times: 1 })

  const answers = Promise.all(customers.map((customer) => customer.checkout()))
  // Nobody works yet: what begins in one moment lies there in one job.
  const open = () => shop.query('select from order_service.checkouts')
  await until(open, (rows) => rows.length === 12)
  const jobs = await until(
    () => queue.getJobs(['waiting']),
    (found) => found.flatMap((job) => job.data.checkouts).length === 12,
  )
  t.true(jobs.length < 12)
  await shop.start(['worker'], { PORT: '0' })

  t.deepEqual(
    (await answers).map(({ status }) => status),
    Array.from({ length: 12 }, () => 200),
  )
  const attempts = await shop.query<{ user_email: string; attempt: number }>('select user_email, attempt from order_service.checkouts')
  t.deepEqual(
    attempts.filter(({ attempt }) => attempt > 1),
    [{ user_email: customers[5]!.email, attempt: 2 }],
  )
  t.deepEqual(shop.catalog.books(product), { in_stock: 100, reserved: 12 })
  t.is((await queue.getJobs(['waiting', 'active', 'delayed', 'failed'])).filter((job) => job?.failedReason).length, 0)
})
