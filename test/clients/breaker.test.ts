/** What a downstream service that fails again and again is still asked, and by what it is asked again. */
import test, { type ExecutionContext } from 'ava'
import type { BreakerState } from '../../src/clients/breaker.ts'
import { createCatalog } from '../../src/clients/catalog.ts'
import { createDownstream, NoAnswer } from '../../src/clients/http.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { type Downstreams, startDownstreams } from '../support/downstreams/index.ts'
import { until } from '../support/until.ts'

let downstreams: Downstreams
test.before(async () => {
  downstreams = await startDownstreams({ instant: true })
})
test.after.always(() => downstreams?.stop())
test.beforeEach(() => downstreams.catalog.forget())
test.afterEach.always(() => downstreams.catalog.clearFaults())

const RUN = 10

function open(t: ExecutionContext, { concurrency = 16, timeoutMs = 5000 } = {}) {
  const states: BreakerState[] = []
  const metrics = createMetrics()
  const http = createDownstream({
    name: 'catalog',
    base: downstreams.catalogBase,
    headers: { 'x-internal-key': 'devkey' },
    concurrency,
    timeoutMs,
    metrics,
    breaker: { probePath: '/catalog/v1/products/1', onChange: (state) => void states.push(state) },
  })
  t.teardown(http.close)
  const catalog = createCatalog(http)
  const productId = downstreams.catalog.product({ stock: 1000 })
  const reserve = () => catalog.change({ verb: 'reserve', items: [{ productId, qty: 1 }], idempotencyKey: 'k' })
  const outcome = (call: Promise<unknown>) =>
    call.then(
      () => 'answered',
      (error: NoAnswer) => (error.retryAfterMs === Number.POSITIVE_INFINITY ? 'refused' : 'failed'),
    )
  return {
    states,
    http,
    reserve,
    outcome,
    read: () => catalog.read(productId),
    /** One after the other, so many. */
    async fail(times: number, call: () => Promise<unknown> = reserve) {
      for (let i = 0; i < times; i += 1) await t.throwsAsync(call, { instanceOf: NoAnswer })
    },
    reserves: () => downstreams.catalog.journal({ call: 'reserve', productId }).length,
    isOpen: async () => (await metrics.breakerOpen.get()).values.map(({ labels, value }) => `${labels.downstream} ${value}`),
  }
}

for (const [what, fault] of [
  ['5xx', { fault: 'error', status: 503 }],
  ['connections that break', { fault: 'reset' }],
  ['pages in place of answers', { fault: 'garbage' }],
  ['404s of a gateway', { fault: 'error', status: 404 }],
  ['timeouts of a gateway', { fault: 'refuse', status: 408 }],
] as const) {
  test.serial(`ten ${what} in a row open the breaker: nothing is sent then, and no call is left unanswered`, async (t) => {
    downstreams.catalog.fault(fault)
    const { fail, reserve, read, reserves, states, http, isOpen } = open(t)

    await fail(RUN - 1)
    t.deepEqual(states, [])
    await fail(1)

    t.deepEqual(states, ['open'])
    t.true(http.refusesWrites())
    t.deepEqual(await isOpen(), ['catalog 1'])
    for (const call of [reserve, read]) {
      const refused = await t.throwsAsync<NoAnswer>(call, { instanceOf: NoAnswer })
      t.like(refused, { sent: false, retryAfterMs: Number.POSITIVE_INFINITY })
    }
    t.is(reserves(), RUN)
  })
}

test.serial('a Catalog that refuses connections, or hangs, opens the breaker too', async (t) => {
  const { fail, states } = open(t)
  await downstreams.catalog.down()
  await fail(RUN)
  t.deepEqual(states, ['open'])
  await downstreams.catalog.up()

  const hanging = open(t, { timeoutMs: 100 })
  downstreams.catalog.fault({ fault: 'hang' })
  await hanging.fail(RUN)
  t.deepEqual(hanging.states, ['open'])
})

test.serial('refusals count as answers: they do not open the breaker, and end a run of failures', async (t) => {
  const { fail, reserve, states } = open(t)
  for (const status of [401, 409, 422, 429]) {
    const failing = downstreams.catalog.fault({ fault: 'error' })
    await fail(RUN - 1)
    failing.remove()
    downstreams.catalog.fault({ fault: 'refuse', status, times: 1 })
    t.like(await reserve(), { answer: 'refused', status })
  }
  const refusing = downstreams.catalog.fault({ fault: 'refuse', status: 409 })
  for (let i = 0; i < 2 * RUN; i += 1) await reserve()
  refusing.remove()
  t.deepEqual(states, [])
})

test.serial('failed reads open the breaker, and answered reads do not excuse failed changes', async (t) => {
  const { fail, read, states } = open(t)
  downstreams.catalog.fault({ fault: 'error', call: 'read', times: 4 })
  await fail(4, read)
  downstreams.catalog.fault({ fault: 'error', call: 'reserve' })
  for (let i = 4; i < RUN; i += 1) {
    t.deepEqual(states, [])
    await read()
    await fail(1)
  }
  t.deepEqual(states, ['open'])
})

test.serial('queued calls are refused at once when the breaker opens', async (t) => {
  const { reserve, outcome } = open(t, { concurrency: RUN, timeoutMs: 500 })
  downstreams.catalog.fault({ fault: 'hang' })
  const began = performance.now()
  const outcomes = await Promise.all(Array.from({ length: 200 }, () => outcome(reserve())))
  t.true(performance.now() - began < 5000, 'not 20 rounds of half a second')
  const count = (wanted: string) => outcomes.filter((one) => one === wanted).length
  t.true(count('failed') >= RUN && count('failed') < 2 * RUN)
  t.is(count('refused'), 200 - count('failed'))
})

test.serial('a probe read finds the service back, and then one change at a time closes the breaker', async (t) => {
  const { fail, reserve, outcome, read, reserves, states, http, isOpen } = open(t)
  const failing = downstreams.catalog.fault({ fault: 'error' })
  await fail(RUN)
  await until(() => downstreams.catalog.journal({ call: 'read' }).length > 1)
  t.deepEqual(states, ['open'], 'a probe that fails changes nothing')

  failing.remove()
  await until(() => states.length === 2)
  t.deepEqual(states, ['open', 'half-open'])
  t.false(http.refusesWrites(), 'the first one may try')
  t.deepEqual(await isOpen(), ['catalog 1'])
  downstreams.catalog.fault({ fault: 'slow', call: 'reserve', ms: 500, times: 1 })
  const trial = outcome(reserve())
  await until(http.refusesWrites)
  t.deepEqual(await Promise.all([outcome(reserve()), outcome(reserve()), outcome(read())]), ['refused', 'refused', 'answered'])
  t.deepEqual(states, ['open', 'half-open'], 'a read decides nothing')
  t.is(await trial, 'answered')

  t.deepEqual(states, ['open', 'half-open', 'closed'])
  t.deepEqual(await isOpen(), ['catalog 0'])
  t.deepEqual(await Promise.all(Array.from({ length: 5 }, () => outcome(reserve()))), Array(5).fill('answered'))
  t.is(reserves(), RUN + 6)
})

test.serial('a Catalog that reads well and fails at changes is asked for one change after each probe', async (t) => {
  const { fail, reserve, outcome, reserves, states } = open(t)
  downstreams.catalog.fault({ fault: 'error', call: 'reserve' })
  await fail(RUN)
  for (let round = 1; round <= 2; round += 1) {
    await until(() => states.at(-1) === 'half-open')
    t.is(await outcome(reserve()), 'failed')
    t.is(await outcome(reserve()), 'refused')
    t.is(reserves(), RUN + round)
  }
})
