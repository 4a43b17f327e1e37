import test from 'ava'
import { createCatalog } from '../../src/clients/catalog.ts'
import { type Answer, type Call, NoAnswer } from '../../src/clients/http.ts'

const MINUTE_MS = 60_000

/** A Catalog that answers each call so; `asked` says what came. */
function open(answer: (call: Call) => Answer) {
  let now = 0
  const asked: string[] = []
  const call = async (one: Call) => {
    const { items } = one.body as { items: { qty: number }[] }
    asked.push(`${one.path.split('/').at(-1)} ${items[0]!.qty}`)
    return answer(one)
  }
  const catalog = createCatalog({ call, close: async () => {} }, () => now)
  const release = () => catalog.change({ verb: 'release', items: [{ productId: 1, qty: 2 }], idempotencyKey: 'k' })
  return { catalog, release, asked, pass: (ms: number) => void (now += ms) }
}
const says = (status: number, detail = 'Not Found'): Answer => ({ status, body: { detail }, settlesAt: 0 })
const done: Answer = { status: 200, body: { status: 'released' }, settlesAt: 0 }
const isRelease = ({ path }: Call) => path.endsWith('/release')

for (const status of [404, 405]) {
  test(`a Catalog that answers a release with ${status} gets a negative reserve in its place, for ten minutes`, async (t) => {
    let released = says(status)
    const { catalog, release, asked, pass } = open((call) => (isRelease(call) ? released : done))
    t.deepEqual(await release(), { answer: 'done' })
    t.deepEqual(await release(), { answer: 'done' })
    pass(10 * MINUTE_MS - 1)
    await release()
    t.deepEqual(asked.splice(0), ['release 2', 'reserve -2', 'reserve -2', 'reserve -2'])
    t.true(catalog.canRelease())
    pass(1)
    released = done
    await release()
    t.deepEqual(asked, ['release 2'], 'a newer one may have come')
  })
}

for (const status of [400, 405, 422]) {
  test(`a Catalog without a release that answers a negative reserve with ${status} is asked for neither for ten minutes`, async (t) => {
    const { catalog, release, asked, pass } = open((call) => says(isRelease(call) ? 404 : status))
    t.true(catalog.canRelease(), 'it has not said yet')
    t.like(await release(), { answer: 'refused', status })
    t.false(catalog.canRelease())
    pass(10 * MINUTE_MS - 1)
    t.false(catalog.canRelease())
    pass(1)
    t.true(catalog.canRelease(), 'a newer one may have come')
    t.deepEqual(asked, ['release 2', 'reserve -2'])
  })
}

test('a negative reserve that was answered with 200 and changed nothing is not used for ten minutes', async (t) => {
  const { catalog, release, pass } = open((call) => (isRelease(call) ? says(404) : done))
  await release()
  catalog.ignoredRelease()
  t.false(catalog.canRelease())
  pass(10 * MINUTE_MS)
  t.true(catalog.canRelease())
  const real = open(() => done)
  await real.release()
  real.catalog.ignoredRelease()
  t.true(real.catalog.canRelease(), 'a release that Catalog has is not one')
})

test('a release that fails for another reason says nothing about whether Catalog has releases', async (t) => {
  for (const status of [401, 409, 422, 500, 503]) {
    const { catalog, release, asked } = open(() => says(status))
    await release().catch(() => {})
    t.true(catalog.canRelease(), String(status))
    t.deepEqual(asked, ['release 2'])
  }
})

test('a 404 or 409 to a negative reserve is about the product: the next product tries it again', async (t) => {
  for (const status of [404, 409]) {
    const { catalog, release } = open((call) => says(isRelease(call) ? 404 : status))
    t.like(await release(), { answer: 'refused', status })
    t.true(catalog.canRelease())
  }
})

test('a 404 to another call says nothing about whether Catalog has releases', async (t) => {
  const { catalog, asked } = open(() => says(404, 'Inventory missing for product_id 1'))
  await catalog.change({ verb: 'commit', items: [{ productId: 1, qty: 2 }], idempotencyKey: 'k' })
  t.true(catalog.canRelease())
  t.deepEqual(asked, ['commit 2'])
})

for (const status of [408, 425, 499, 502, 504]) {
  test(`a call that a gateway answered with ${status} may act for as long as one without an answer`, async (t) => {
    const settlesAt = performance.now() + MINUTE_MS
    const { catalog } = open(() => ({ status, body: undefined, settlesAt }))
    const reserve = catalog.change({ verb: 'reserve', items: [{ productId: 1, qty: 2 }], idempotencyKey: 'k' })
    t.like(await t.throwsAsync(reserve, { instanceOf: NoAnswer }), { sent: true, settlesAt })
  })
}

test('a call that Catalog itself answered with a 500 is over', async (t) => {
  const { catalog } = open(() => ({ status: 500, body: undefined, settlesAt: performance.now() + MINUTE_MS }))
  const reserve = catalog.change({ verb: 'reserve', items: [{ productId: 1, qty: 2 }], idempotencyKey: 'k' })
  const { settlesAt } = await t.throwsAsync<NoAnswer>(reserve, { instanceOf: NoAnswer })
  t.true(settlesAt <= performance.now())
})
