/** Checkouts that begin in one moment share a job, and part ways where one of them is in trouble. */

import test, { type ExecutionContext } from 'ava'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { CHECKOUT_QUEUE, type CheckoutPayload, checkoutJobId } from '../../src/queues/checkout.ts'
import { type Customer, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const COUNT = 12

/** Customers who came in one moment, and whose checkouts no worker has seen yet. */
async function together(t: ExecutionContext): Promise<{
  shop: Shop
  product: number
  queue: Queue<CheckoutPayload>
  redis: Redis
  customers: Customer[]
  answers(): Promise<number[]>
}> {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  const redis = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const queue = new Queue<CheckoutPayload>(CHECKOUT_QUEUE, { connection: redis, prefix: shop.prefix })
  t.teardown(async () => {
    await queue.close()
    redis.disconnect()
  })
  const product = shop.catalog.product({ stock: 100 })
  const customers = await Promise.all(Array.from({ length: COUNT }, () => shop.customer().wants({ product_id: product, qty: 1 })))
  const answers = Promise.all(customers.map((customer) => customer.checkout()))
  const jobs = await until(
    () => queue.getJobs(['waiting']),
    (found) => found.flatMap((job) => job.data.checkouts).length === COUNT,
  )
  t.true(jobs.length < COUNT)
  return { shop, product, queue, redis, customers, answers: async () => (await answers).map(({ status }) => status) }
}

const all200 = Array.from({ length: COUNT }, () => 200)

const laterAttempts = (shop: Shop) =>
  shop.query<{ user_email: string; attempt: number }>('select user_email, attempt from order_service.checkouts where attempt > 1')

test('a checkout that fails in a shared job goes on in a job of its own, and the others do not wait for it', async (t) => {
  const { shop, product, queue, customers, answers } = await together(t)
  shop.shipping.fault({ call: 'create', email: customers[5]!.email, fault: 'error', times: 1 })

  await shop.start(['worker'], { PORT: '0' })

  t.deepEqual(await answers(), all200)
  t.deepEqual(await laterAttempts(shop), [{ user_email: customers[5]!.email, attempt: 2 }])
  t.deepEqual(shop.catalog.inventory(product), { in_stock: 100, reserved: COUNT })
  t.is((await queue.getJobs(['waiting', 'active', 'delayed', 'failed'])).filter((job) => job?.failedReason).length, 0)
})

test('a shared job that is run again, its worker having died, leaves a checkout to the job of its own that drives it by now', async (t) => {
  const { shop, product, queue, redis, answers } = await together(t)
  const died = new Worker<CheckoutPayload>(CHECKOUT_QUEUE, null, { connection: redis, prefix: shop.prefix, autorun: false })
  t.teardown(() => died.close())
  const taken = [await died.getNextJob('token')]
  while (taken.at(-1)!.data.checkouts.length === 1) taken.push(await died.getNextJob('token'))
  const shared = taken.at(-1)
  const task = shared!.data.checkouts[1]!
  // As first attempts leave them that came to nothing in good order.
  await shop.query(`update order_service.checkouts set shipment_call = 'unsent'`)
  await queue.add('checkout', { checkouts: [{ ...task, tries: 1 }] }, { jobId: checkoutJobId(task.orderId), removeOnComplete: true })
  const slow = shop.shipping.fault({ call: 'create', orderId: task.orderId, fault: 'slow', ms: 1500 })
  await shop.start(['worker'], { PORT: '0' })
  await until(slow.fired, (times) => times === 1)

  for (const job of taken) await job!.moveToDelayed(Date.now(), 'token') // its second run follows at once

  t.deepEqual(await answers(), all200)
  const [row] = await shop.query('select attempt, history from order_service.checkouts where order_id = $1', [task.orderId])
  t.deepEqual(row, { attempt: 2, history: [] })
  t.deepEqual(shop.catalog.inventory(product), { in_stock: 100, reserved: COUNT })
})
