import test, { type ExecutionContext } from 'ava'
import { randomUUID } from 'node:crypto'
import { connectFailFast, connectPatient, ready } from '../../src/queues/redis.ts'
import { createLeases, type Leases, LeaseTimeout } from '../../src/stock/leases.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { until } from '../support/until.ts'

const logger = createLogger('silent')

/** Leases as one process has them; those with the same prefix share a shop. */
async function open(
  t: ExecutionContext,
  { prefix = `{leases-${randomUUID()}}`, leaseMs = 5000 } = {},
): Promise<Leases & { prefix: string }> {
  const redis = connectFailFast(process.env.REDIS_URL!, logger)
  const subscriber = connectPatient(process.env.REDIS_URL!, logger)
  await ready(redis)
  const leases = await createLeases({ redis, subscriber, prefix, leaseMs, metrics: createMetrics() })
  t.teardown(async () => {
    await leases.close()
    redis.disconnect()
    subscriber.disconnect()
  })
  return { ...leases, prefix }
}

const soon = () => Date.now() + 20_000
const call = (productId: number) => ({ productId, qty: 2, verb: 'reserve' as const, orderId: 7, attempt: 1 })

test('a product is leased to one at a time, and a release wakes the next, also in another process', async (t) => {
  const here = await open(t)
  const there = await open(t, { prefix: here.prefix })
  const first = await here.take({ productIds: [1], calls: [], deadline: soon() })
  t.false(first.waited)
  let got = 0
  const second = there.take({ productIds: [1], calls: [], deadline: soon() }).then((lease) => {
    got += 1
    return lease
  })
  await until(there.waiting, (waiting) => waiting === 1)
  const other = await there.take({ productIds: [2], calls: [], deadline: soon() })
  t.is(got, 0)
  first.letGo()
  const lease = await second
  t.true(lease.waited)
  lease.letGo()
  other.letGo()
})

test('all products of a cart are leased at once, or none of them', async (t) => {
  const leases = await open(t)
  const one = await leases.take({ productIds: [1], calls: [], deadline: soon() })
  const both = leases.take({ productIds: [1, 2], calls: [], deadline: soon() })
  await until(leases.waiting, (waiting) => waiting === 1)
  const two = await leases.take({ productIds: [2], calls: [], deadline: soon() })
  one.letGo()
  two.letGo()
  const lease = await both
  lease.letGo()
  t.is(leases.waiting(), 0)
})

test('a lease that ran out tells its taker the call that it covered, and cannot be kept any more', async (t) => {
  const leases = await open(t, { leaseMs: 200 })
  const lost = await leases.take({ productIds: [1], calls: [call(1)], deadline: soon() })
  const next = await leases.take({ productIds: [1], calls: [], deadline: soon() })
  t.deepEqual(next.expired, [call(1)])
  t.false(await lost.keep(1000))
  lost.letGo()
  t.deepEqual((await leases.take({ productIds: [1], calls: [], deadline: soon() })).expired, [])
})

test('nobody waits beyond the deadline', async (t) => {
  const leases = await open(t)
  const lease = await leases.take({ productIds: [1], calls: [], deadline: soon() })
  await t.throwsAsync(leases.take({ productIds: [1], calls: [], deadline: Date.now() + 100 }), { instanceOf: LeaseTimeout })
  lease.letGo()
})

test('in a crowd everybody gets a turn, one at a time', async (t) => {
  const prefix = `{leases-${randomUUID()}}`
  const processes = await Promise.all([open(t, { prefix }), open(t, { prefix })])
  let inside = 0
  let most = 0
  await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const productIds = i % 3 === 0 ? [1, 2] : [1 + (i % 2)]
      const lease = await processes[i % 2]!.take({ productIds, calls: [], deadline: soon() })
      if (productIds.includes(1)) {
        inside += 1
        most = Math.max(most, inside)
        await new Promise(setImmediate)
        inside -= 1
      }
      lease.letGo()
    }),
  )
  t.is(most, 1)
})
