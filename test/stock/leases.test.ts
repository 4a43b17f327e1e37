import test, { type ExecutionContext } from 'ava'
import { randomUUID } from 'node:crypto'
import { connectFailFast, connectPatient, ready, type RedisConnection } from '../../src/queues/redis.ts'
import { createLeaseMarker, type LeaseMarker } from '../../src/stock/lease-marker.ts'
import { createLeases, type Lease, type Leases, LeaseTimeout } from '../../src/stock/leases.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { until } from '../support/until.ts'

const logger = createLogger('silent')

/** Leases as one process has them; those with the same prefix share a shop. */
async function open(
  t: ExecutionContext,
  { prefix = `{leases-${randomUUID()}}`, leaseMs = 5000, mayHaveCalls = async () => false } = {},
): Promise<Leases & { prefix: string; redis: RedisConnection; marker: LeaseMarker }> {
  const redis = connectFailFast(process.env.REDIS_URL!, logger)
  const subscriber = connectPatient(process.env.REDIS_URL!, logger)
  await ready(redis)
  const marker = createLeaseMarker({ redis, prefix, leaseMs, mayHaveCalls })
  await marker.mark()
  const leases = await createLeases({ redis, subscriber, prefix, marker, metrics: createMetrics() })
  t.teardown(async () => {
    await leases.close()
    redis.disconnect()
    subscriber.disconnect()
  })
  return { ...leases, prefix, redis, marker }
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
  next.expiredOnRecord()
  t.false(await lost.keep(1000))
  lost.letGo()
  t.deepEqual((await leases.take({ productIds: [1], calls: [], deadline: soon() })).expired, [])
})

test('calls of leases that ran out are told again until they are on record, whatever becomes of those that were told', async (t) => {
  const leases = await open(t, { leaseMs: 200 })
  const take = (attempt: number) => leases.take({ productIds: [1], calls: [{ ...call(1), attempt }], deadline: soon() })
  const attempts = ({ expired }: Lease) => expired.map(({ attempt }) => attempt)
  await take(1)
  const second = await take(2)
  t.deepEqual(attempts(second), [1])
  second.letGo() // it could not write them down, and sent nothing itself
  t.deepEqual(attempts(await take(3)), [1]) // this one dies
  const fourth = await take(4)
  t.deepEqual(attempts(fourth), [1, 3])
  fourth.expiredOnRecord()
  fourth.letGo()
  t.deepEqual(attempts(await take(5)), [])
})

test('a lease that is left to run out is not let go: it covers its call until then, and tells it to the next', async (t) => {
  const leases = await open(t, { leaseMs: 400 })
  const began = performance.now()
  const lease = await leases.take({ productIds: [1], calls: [call(1)], deadline: soon() })
  lease.runOut()
  lease.letGo()
  const next = await leases.take({ productIds: [1], calls: [], deadline: soon() })
  t.true(performance.now() - began >= 400)
  t.deepEqual(next.expired, [call(1)])
})

test('one that has waited for half a second on two products is not starved by a stream of takers of one of them', async (t) => {
  const here = await open(t)
  const there = await open(t, { prefix: here.prefix })
  const over = new AbortController()
  let takers = 0
  const stream = (async () => {
    let lease = await there.take({ productIds: [1], calls: [], deadline: soon() })
    while (!over.signal.aborted) {
      // Asked for in the very message that lets it go: nobody who has to be woken first can come in between.
      lease.letGo()
      lease = await there.take({ productIds: [1], calls: [], deadline: soon() })
      takers += 1
    }
    lease.letGo()
  })()
  await until(
    () => takers,
    (count) => count > 10,
  )
  const began = performance.now()
  const elder = await here.take({ productIds: [1, 2], calls: [], deadline: Date.now() + 5000 }).finally(() => over.abort())
  const waited = performance.now() - began
  elder.letGo()
  await stream
  t.true(waited > 400, 'there was a stream to wait for')
  t.true(takers > 10)
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

/** What FLUSHALL does to a shop, done to this one alone. */
async function flush({ redis, prefix }: { redis: RedisConnection; prefix: string }): Promise<void> {
  await redis.del(`${prefix}:leases-given-by`, `${prefix}:lease:1`, `${prefix}:lease:2`)
}

async function givesFrom({ redis, marker }: { redis: RedisConnection; marker: LeaseMarker }): Promise<{ from: number; now: number }> {
  const [seconds, micros] = await redis.time()
  return { from: Number(await redis.hget(marker.key, 'gives_from')), now: Number(seconds) * 1000 + Math.floor(Number(micros) / 1000) }
}

test('a Redis that lost its leases while calls may be under way gives none for the length of one', async (t) => {
  const shop = await open(t, { leaseMs: 500, mayHaveCalls: async () => true })
  const held = await shop.take({ productIds: [1], calls: [call(1)], deadline: soon() })
  await flush(shop)
  t.false(await held.keep(501))

  const next = await shop.take({ productIds: [1], calls: [], deadline: soon() })

  const { from, now } = await givesFrom(shop)
  t.true(from > 0)
  t.true(now >= from)
  t.true(next.waited)
  held.letGo()
  next.letGo()
})

test('another server than the one that gave the leases gives none for the length of one, though it has the marker', async (t) => {
  const shop = await open(t, { leaseMs: 500, mayHaveCalls: async () => true })
  await shop.redis.hset(shop.marker.key, 'run_id', 'of-the-server-before', 'gives_from', 0)

  const lease = await shop.take({ productIds: [1], calls: [], deadline: soon() })

  const { from, now } = await givesFrom(shop)
  t.true(from > 0)
  t.true(now >= from)
  lease.letGo()
})

test('a Redis that lost its leases gives new ones at once where no call can be under way', async (t) => {
  const shop = await open(t, { leaseMs: 60_000 })
  await flush(shop)
  const lease = await shop.take({ productIds: [1], calls: [], deadline: soon() })
  t.false(lease.waited)
  lease.letGo()
})

test('two processes that find the marker gone agree on one time from which leases are given', async (t) => {
  const here = await open(t, { leaseMs: 500, mayHaveCalls: async () => true })
  const there = await open(t, { leaseMs: 500, mayHaveCalls: async () => true, prefix: here.prefix })
  await flush(here)
  let holders = 0
  let most = 0
  const hold = async (leases: Leases) => {
    const lease = await leases.take({ productIds: [1], calls: [], deadline: soon() })
    most = Math.max(most, ++holders)
    await here.redis.ping()
    holders -= 1
    lease.letGo()
  }
  await Promise.all([here, there, here, there].map(hold))
  t.is(most, 1)
})
