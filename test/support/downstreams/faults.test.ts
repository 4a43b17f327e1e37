import test from 'ava'
import { until } from '../until.ts'
import { ask, type Asking, callStock, gone, noAnswer } from './caller.ts'
import { type CatalogFault, startDownstreams } from './index.ts'

/** A Catalog with ten pairs of shoes, and a customer who wants one. */
async function open(t: { teardown(end: () => Promise<void>): void }) {
  const { catalog, catalogBase, stop } = await startDownstreams({ seed: 1 })
  t.teardown(stop)
  const shoes = catalog.product({ stock: 10 })
  return {
    catalog,
    shoes,
    base: catalogBase,
    reserve: (asking?: Asking) => callStock(catalogBase, 'reserve', [{ product_id: shoes, qty: 1 }], asking),
    reserveAndGo: () =>
      gone(
        (signal) => callStock(catalogBase, 'reserve', [{ product_id: shoes, qty: 1 }], { signal }),
        () => catalog.journal().length === 1,
      ),
    held: () => catalog.inventory(shoes)?.reserved,
    last: () => catalog.journal().at(-1),
  }
}

const answered: { fault: CatalogFault; status: number; body: unknown; applied: boolean }[] = [
  { fault: { fault: 'refuse' }, status: 409, body: { detail: 'Refused' }, applied: false },
  { fault: { fault: 'refuse', status: 404, detail: 'Gone fishing' }, status: 404, body: { detail: 'Gone fishing' }, applied: false },
  { fault: { fault: 'error' }, status: 500, body: 'Internal Server Error', applied: false },
  { fault: { fault: 'error', status: 503, actFirst: true }, status: 503, body: 'Internal Server Error', applied: true },
  { fault: { fault: 'garbage' }, status: 200, body: '<html>It works!', applied: false },
  { fault: { fault: 'garbage', actFirst: true }, status: 200, body: '<html>It works!', applied: true },
]

for (const { fault, status, body, applied } of answered) {
  test(`${JSON.stringify(fault)} answers ${status}, ${applied ? '' : 'not '}applied`, async (t) => {
    const { catalog, reserve, held, last } = await open(t)
    catalog.fault({ call: 'reserve', ...fault })
    t.deepEqual(await reserve(), { status, body })
    t.is(held(), applied ? 1 : 0)
    t.like(last(), { answer: status, applied, fault: fault.fault })
  })
}

test.serial('the fault hang never answers, and applies nothing', async (t) => {
  const { catalog, reserveAndGo, held, last } = await open(t)
  catalog.fault({ call: 'reserve', fault: 'hang' })
  t.is(await reserveAndGo(), 'AbortError')
  t.is(held(), 0)
  await until(() => (last()?.ms ?? 0) > 0)
  t.like(last(), { answer: 'none', applied: false })
})

test.serial('the fault slow acts and answers late', async (t) => {
  const { catalog, reserve, held } = await open(t)
  catalog.fault({ call: 'reserve', fault: 'slow', ms: 150 })
  const since = Date.now()
  const call = reserve()
  await until(() => catalog.journal().length === 1)
  t.is(held(), 0)
  t.is((await call).status, 200)
  t.true(Date.now() - since >= 149)
  t.is(held(), 1)
})

test.serial('the fault slow with actFirst acts long before it answers', async (t) => {
  const { catalog, reserve, held, last } = await open(t)
  catalog.fault({ call: 'reserve', fault: 'slow', ms: 1_000, actFirst: true })
  const call = reserve()
  await until(() => held() === 1)
  t.is(last()?.answer, 'none')
  t.is((await call).status, 200)
  t.is(held(), 1)
})

test.serial('the fault slow acts though its caller has gone', async (t) => {
  const { catalog, reserveAndGo, held, last } = await open(t)
  catalog.fault({ call: 'reserve', fault: 'slow', ms: 100 })
  t.is(await reserveAndGo(), 'AbortError')
  await until(() => held() === 1)
  t.like(last(), { answer: 'none', applied: true })
})

test('the fault drop acts and gives no answer', async (t) => {
  const { catalog, reserve, held, last } = await open(t)
  catalog.fault({ call: 'reserve', fault: 'drop' })
  t.is(await noAnswer(reserve()), 'UND_ERR_SOCKET')
  t.is(held(), 1)
  t.like(last(), { answer: 'none', applied: true })
})

test('the fault reset gives no answer and does nothing', async (t) => {
  const { catalog, reserve, held, last } = await open(t)
  catalog.fault({ call: 'reserve', fault: 'reset' })
  t.is(await noAnswer(reserve()), 'ECONNRESET')
  t.is(held(), 0)
  t.like(last(), { answer: 'none', applied: false })
})

test.serial('the fault late acts long after its caller has gone', async (t) => {
  const { catalog, reserveAndGo, held, last } = await open(t)
  catalog.fault({ call: 'reserve', fault: 'late', ms: 2_000 })
  t.is(await reserveAndGo(), 'AbortError')
  t.is(held(), 0)
  await until(() => held() === 1)
  t.like(last(), { answer: 'none', applied: true })
  t.true((last()?.ms ?? 0) > 0 && (last()?.ms ?? 0) < 1_900, `${last()?.ms} ms`)
})

test.serial('a late call is never carried out once the downstreams are stopped', async (t) => {
  const { catalog, catalogBase, stop } = await startDownstreams()
  const shoes = catalog.product({ stock: 10 })
  catalog.fault({ fault: 'late', ms: 50 })
  const call = noAnswer(callStock(catalogBase, 'reserve', [{ product_id: shoes, qty: 1 }]))
  await until(() => catalog.journal().length === 1)
  await stop()
  t.not(await call, 'answered 200')
  await new Promise((resolve) => setTimeout(resolve, 80))
  t.is(catalog.inventory(shoes)?.reserved, 0)
})

test('a fault strikes as often as it was told, and can be taken back', async (t) => {
  const { catalog, reserve } = await open(t)
  const statuses = async (calls: number) => {
    const all: number[] = []
    for (let n = 0; n < calls; n++) all.push((await reserve()).status)
    return all
  }

  const twice = catalog.fault({ call: 'reserve', fault: 'error', times: 2 })
  t.deepEqual(await statuses(3), [500, 500, 200])
  t.is(twice.fired(), 2)

  const third = catalog.fault({ call: 'reserve', fault: 'refuse', everyNth: 3 })
  t.deepEqual(await statuses(6), [200, 200, 409, 200, 200, 409])
  third.remove()
  t.deepEqual(await statuses(3), [200, 200, 200])

  catalog.fault({ fault: 'error' })
  catalog.clearFaults()
  t.deepEqual(await statuses(1), [200])
})

test('a fault strikes only the calls and the product that it was told of', async (t) => {
  const { catalog, base, shoes, reserve } = await open(t)
  const socks = catalog.product({ stock: 10 })
  const status = async (verb: string, id: number) => (await callStock(base, verb, [{ product_id: id, qty: 1 }])).status
  catalog.fault({ call: 'commit', productId: socks, fault: 'error' })

  t.is(await status('commit', socks), 500)
  t.is(await status('commit', shoes), 200)
  t.is(await status('reserve', socks), 200)

  catalog.fault({ call: 'read', productId: shoes, fault: 'error', status: 502 })
  t.is((await ask(`${base}/catalog/v1/products/${shoes}`)).status, 502)
  t.is((await ask(`${base}/catalog/v1/products/${socks}`)).status, 200)
  t.is((await reserve()).status, 200)
})
