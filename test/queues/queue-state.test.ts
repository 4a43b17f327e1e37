import { randomUUID } from 'node:crypto'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import test from 'ava'
import { oldestWaitingMs } from '../../src/queues/queue-state.ts'

const HOUR_MS = 3_600_000

test('a queue is as late as its oldest job that never ran: one that waits for its next run is old, and says nothing', async (t) => {
  const connection = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const options = { connection, prefix: `{${randomUUID()}}` }
  const queue = new Queue('jobs', options)
  const worker = new Worker('jobs', null, { ...options, autorun: false })
  t.teardown(async () => {
    await queue.obliterate({ force: true })
    await Promise.all([queue.close(), worker.close()])
    connection.disconnect()
  })
  t.is(await oldestWaitingMs(queue), 0)

  await queue.add('ran', {}, { timestamp: Date.now() - HOUR_MS })
  t.true((await oldestWaitingMs(queue)) >= HOUR_MS)
  const ran = await worker.getNextJob('token')
  await ran!.moveToWait('token')
  t.is(await oldestWaitingMs(queue), 0)

  await queue.add('fresh', {}, { timestamp: Date.now() - 5000 })
  const late = await oldestWaitingMs(queue)
  t.true(late >= 5000 && late < HOUR_MS, `${late} ms`)
})
