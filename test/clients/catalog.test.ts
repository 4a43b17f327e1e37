import test from 'ava'
import { createCatalog } from '../../src/clients/catalog.ts'
import { type Answer, NoAnswer } from '../../src/clients/http.ts'

const MINUTE_MS = 60_000

/** A Catalog that answers a release so. */
function open(answer: () => Answer) {
  let now = 0
  const catalog = createCatalog({ call: async () => answer(), close: async () => {} }, () => now)
  const release = () => catalog.change({ verb: 'release', items: [{ productId: 1, qty: 2 }], idempotencyKey: 'k' })
  return { catalog, release, pass: (ms: number) => void (now += ms) }
}

for (const status of [404, 405]) {
  test(`a Catalog that answers a release with ${status} is not asked for one for ten minutes`, async (t) => {
    let answer: Answer = { status, body: { detail: 'Not Found' }, settlesAt: 0 }
    const { catalog, release, pass } = open(() => answer)
    t.true(catalog.mayRelease(), 'it has not said yet')
    t.like(await release(), { answer: 'refused', status })
    t.false(catalog.mayRelease())
    pass(10 * MINUTE_MS - 1)
    t.false(catalog.mayRelease())
    pass(1)
    t.true(catalog.mayRelease(), 'a newer one may have come')
    answer = { status: 200, body: { status: 'released' }, settlesAt: 0 }
    t.deepEqual(await release(), { answer: 'done' })
    t.true(catalog.mayRelease())
  })
}

test('a release that is refused for anything else, or gets no clear answer, says nothing of whether there is one', async (t) => {
  for (const status of [401, 409, 422, 500, 503]) {
    const { catalog, release } = open(() => ({ status, body: undefined, settlesAt: 0 }))
    await release().catch(() => {})
    t.true(catalog.mayRelease(), String(status))
  }
})

test('that another call is answered with 404 says nothing of the release', async (t) => {
  const { catalog } = open(() => ({ status: 404, body: { detail: 'Inventory missing for product_id 1' }, settlesAt: 0 }))
  await catalog.change({ verb: 'commit', items: [{ productId: 1, qty: 2 }], idempotencyKey: 'k' })
  t.true(catalog.mayRelease())
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
