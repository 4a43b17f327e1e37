import { randomUUID } from 'node:crypto'
import test from 'ava'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { createCheckoutQueue } from '../../src/queues/checkout.ts'
import { oldestWaitingMs } from '../../src/queues/queue-state.ts'

const HOUR_MS = 3_600_000

test('a queue is as late as its oldest job that never ran, however many that wait for another run are in front of it', async (t) => {
  const connection = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const options = { connection, prefix: `{${randomUUID()}}` }
  const queue = new Queue('jobs', options)
  const worker = new Worker('jobs', null, { ...options, autorun: false })
  t.teardown(async () => {
    await queue.obliterate({ force: true })
    await Promise.all([queue.close(), worker.close()])
    connection.disconnect()
  })
  t.is(await oldestWaitingMs(queue, Date.now()), 0)

  await queue.add('ran', {}, { timestamp: Date.now() - HOUR_MS })
  t.true((await oldestWaitingMs(queue, Date.now())) >= HOUR_MS)
  for (const other of Array.from({ length: 24 }, (_, i) => `ran-${i}`)) await queue.add(other, {}, { timestamp: Date.now() - HOUR_MS })
  const ran = []
  for (let i = 0; i < 25; i += 1) ran.push(await worker.getNextJob('token'))
  for (const job of ran) await job!.moveToWait('token')
  t.is(await oldestWaitingMs(queue, Date.now()), 0)

  await queue.add('fresh', {}, { timestamp: Date.now() - 5000 })
  const late = await oldestWaitingMs(queue, Date.now())
  t.true(late >= 5000 && late < HOUR_MS, `${late} ms`)
})

test('no more than a few thousand jobs are read, however many wait for another run', async (t) => {
  const connection = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const queue = new Queue('jobs', { connection, prefix: `{${randomUUID()}}` })
  t.teardown(async () => {
    await queue.obliterate({ force: true })
    await queue.close()
    connection.disconnect()
  })
  const retried = Array.from({ length: 5000 }, () => ({ name: 'retried', data: {}, opts: { delay: 1 } }))
  await queue.addBulk(retried)
  await queue.promoteJobs({ count: 5000 })
  t.is(await queue.getWaitingCount(), 5000)
  let read = 0
  const getJobs = queue.getJobs.bind(queue)
  queue.getJobs = async (...asked) => {
    const jobs = await getJobs(...asked)
    read += jobs.length
    return jobs
  }
  t.is(await oldestWaitingMs(queue, Date.now()), 0)
  t.true(read <= 4000, `${read} were read`)

  for (const ms of [7000, 5000]) await queue.add('fresh', {}, { timestamp: Date.now() - ms })
  const late = await oldestWaitingMs(queue, Date.now())
  t.true(late >= 7000 && late < HOUR_MS, `${late} ms`)
})

test('how late a queue is says the clock that its jobs are stamped with, not the one of the host', async (t) => {
  const redis = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const database = { databaseTime: () => Date.now() + HOUR_MS }
  const checkout = createCheckoutQueue(redis, `{${randomUUID()}}`, database)
  t.teardown(async () => {
    await checkout.queue.obliterate({ force: true })
    await checkout.close()
    redis.disconnect()
  })
  await checkout.add({ orderId: 1, products: [], lease: null, deadline: 0, replyTo: null })
  const late = await checkout.oldestWaitingMs()
  t.true(late >= 0 && late < HOUR_MS / 2, `${late} ms`)
})
