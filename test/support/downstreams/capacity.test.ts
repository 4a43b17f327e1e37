import test from 'ava'
import { Capacity, callsPerSecond, catalogThroughput, servers, serviceMs, shippingThroughput, type Throughput } from './capacity.ts'
import { Chance } from './chance.ts'
import { Waits } from './waits.ts'

const perSecond = (throughput: Throughput, underWay: number) =>
  Math.round((1_000 * Math.min(underWay, servers)) / serviceMs(throughput, underWay))

test('Catalog answers 250 calls a second one at a time, 360 at 16 at a time, and 280 at 64 and more', (t) => {
  t.deepEqual(
    [1, 16, 64, 1_000].map((underWay) => perSecond(catalogThroughput, underWay)),
    [250, 360, 280, 280],
  )
})

test('Shipping answers 240 calls a second, however many there are at a time', (t) => {
  for (const underWay of [1, 16, 64]) t.is(perSecond(shippingThroughput, underWay), 240)
})

test('a call alone takes 4 ms at Catalog, and little more at Shipping', (t) => {
  t.is(serviceMs(catalogThroughput, 1), 4)
  t.is(Math.round(serviceMs(shippingThroughput, 1) * 10) / 10, 4.2)
})

test('throughput rises up to 16 calls under way and falls above', (t) => {
  const rates = Array.from({ length: 64 }, (_, n) => callsPerSecond(catalogThroughput, n + 1))
  for (const [at, rate] of rates.entries()) if (at > 0) t.is(rate > (rates[at - 1] ?? 0), at < 16, `${at + 1} under way`)
})

/** The calls in the order in which they were served, by their numbers, and the most that were served at a time. */
async function serve(calls: number): Promise<{ order: number[]; mostAtOnce: number }> {
  const capacity = new Capacity({ alone: 2_000, at16: 2_000, at64: 2_000 }, new Chance(1), new Waits())
  const order: number[] = []
  let atOnce = 0
  let mostAtOnce = 0
  const begin = (call: number) => () => {
    order.push(call)
    atOnce += 1
    mostAtOnce = Math.max(mostAtOnce, atOnce)
  }
  const end = () => {
    atOnce -= 1
  }
  await Promise.all(Array.from({ length: calls }, (_, n) => capacity.serve(begin(n), end)))
  return { order, mostAtOnce }
}

const sorted = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b)

test('sixteen calls are served in the order of their arrival, no more at a time than there are servers', async (t) => {
  const { order, mostAtOnce } = await serve(16)
  t.deepEqual(order, sorted(order))
  t.is(order.length, 16)
  t.is(mostAtOnce, servers)
})

test('of 64 calls any may be the next, and none is forgotten', async (t) => {
  const { order, mostAtOnce } = await serve(64)
  t.notDeepEqual(order, sorted(order))
  t.deepEqual(
    sorted(order),
    Array.from({ length: 64 }, (_, n) => n),
  )
  t.true(mostAtOnce <= servers)
})
