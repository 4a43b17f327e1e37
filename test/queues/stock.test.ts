import test from 'ava'
import { Redis } from 'ioredis'
import { createStockQueue, stockJobId } from '../../src/queues/stock.ts'

test('a product that waits for its next check goes on waiting where its job is only seen to, and is checked now where it is woken', async (t) => {
  const redis = new Redis(process.env.REDIS_URL!)
  const stock = createStockQueue(redis, `{stock-queue-${process.pid}}`)
  t.teardown(async () => {
    await stock.queue.obliterate({ force: true })
    await stock.close()
    redis.disconnect()
  })
  const stateOf = (productId: number) => stock.queue.getJobState(stockJobId(productId))
  await stock.queue.add('reconcile', { productId: 1 }, { jobId: stockJobId(1), delay: 60_000 })

  await stock.ensureJobs([1, 2])
  t.deepEqual([await stateOf(1), await stateOf(2)], ['delayed', 'waiting'])
  await stock.wake([1])
  t.is(await stateOf(1), 'waiting')
  await stock.ensureJobs([])
})
