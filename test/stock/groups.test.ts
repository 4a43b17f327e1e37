/** Those that wait for the same products travel in one call, nobody is starved, and a refusal is told to those it concerns. */
import test from 'ava'
import { until } from '../support/until.ts'
import { type Checkout, type Harness, openHarness, type TestWorker } from './harness.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness({ budgetMs: 20_000 })
})
test.after.always(() => harness?.close())
test.afterEach.always((t) => t.is(harness.catalog.overlaps, 0))

const inventory = (productId: number) => harness.catalog.inventory.get(productId)!
async function checkouts(count: number, productId: number, qty = 1): Promise<Checkout[]> {
  const made: Checkout[] = []
  for (let i = 0; i < count; i += 1) made.push(await harness.checkout({ productId, qty }))
  return made
}
const reserveAll = (worker: TestWorker, all: readonly Checkout[]) => Promise.all(all.map((one) => worker.reserve(one)))
/** Who was refused is told before the lease of the product is released. */
const free = (productId: number) =>
  until(
    () => harness.row(productId),
    ({ call }) => call === null,
  )
const count = (told: readonly string[], what: string) => told.filter((one) => one === what).length

test('a hundred checkouts of one product are reserved by a few calls, and each has its hold', async (t) => {
  const id = await harness.product({ inStock: 1000 })
  const told = await reserveAll(harness.worker(), await checkouts(100, id))
  t.is(count(told, 'done'), 100)
  t.true(harness.catalog.asked(id).length <= 4, harness.catalog.asked(id).join())
  t.is(inventory(id).reserved, 100)
  t.like(await free(id), { held: 100, hold: 0, call: null })
})

test('two workers that want one product all the time both get it, and no two calls overlap', async (t) => {
  const id = await harness.product({ inStock: 10_000 })
  const workers = [harness.worker('left'), harness.worker('right')]
  const all = await checkouts(80, id)
  const done = [0, 0]
  let othersByThen = 0
  await Promise.all(
    workers.map(async (worker, w) => {
      const mine = all.filter((_, i) => i % 2 === w)
      // Eight customers each of whom comes again as soon as he is served.
      await Promise.all(
        Array.from({ length: 8 }, async () => {
          for (let next = mine.pop(); next; next = mine.pop()) {
            t.is(await worker.reserve(next), 'done')
            done[w]! += 1
          }
        }),
      )
      othersByThen ||= done[1 - w]!
    }),
  )
  t.deepEqual(done, [40, 40])
  t.true(othersByThen >= 8, `when the one was through, the other had served ${othersByThen}`)
  t.like(await free(id), { held: 80, hold: 0, call: null })
})

/** How long a cart takes, in ms, while in two workers four customers each want `hot` all the time, whichever they are told. */
async function whileCrowded(hot: readonly number[], cart: readonly number[]): Promise<{ told: string; ms: number }> {
  const workers = [harness.worker('left'), harness.worker('right')]
  const isOver = new AbortController()
  let served = 0
  const crowd = workers.flatMap((worker) =>
    hot.flatMap((productId) =>
      Array.from({ length: 4 }, async () => {
        while (!isOver.signal.aborted) {
          await worker.reserve(await harness.checkout({ productId, qty: 1 }))
          served += 1
        }
      }),
    ),
  )
  await until(
    () => served,
    (times) => times > 10,
  )
  const began = performance.now()
  const told = await workers[0]!
    .reserve(await harness.checkout(...cart.map((productId) => ({ productId, qty: 1 }))))
    .catch((error: Error) => error.name)
    .finally(() => isOver.abort())
  await Promise.all(crowd)
  return { told, ms: performance.now() - began }
}

test('a cart of a busy product and an idle one is not starved', async (t) => {
  const [hot, cold] = [await harness.product({ inStock: 100_000 }), await harness.product()]
  const { told, ms } = await whileCrowded([hot], [hot, cold])
  t.is(told, 'done')
  t.true(ms < 8000, `${ms} ms`)
  t.like(await free(cold), { held: 1 })
})

test('a cart of two busy products, hardly ever free at once, is not starved', async (t) => {
  const hot = [await harness.product({ inStock: 100_000 }), await harness.product({ inStock: 100_000 })]
  const { told, ms } = await whileCrowded(hot, hot)
  t.is(told, 'done')
  t.true(ms < 8000, `${ms} ms`)
})

test('carts that share a product with others are no group with them: a refusal touches no stranger', async (t) => {
  const [a, b] = [await harness.product(), await harness.product({ inStock: 0 })]
  const worker = harness.worker()
  const told = await Promise.all([
    worker.reserve(await harness.checkout({ productId: a, qty: 1 }, { productId: b, qty: 1 })),
    worker.reserve(await harness.checkout({ productId: a, qty: 1 })),
  ])
  t.deepEqual(told, [`409 Insufficient stock for product_id ${b}`, 'done'])
})

test('a group larger than the stock is served in order of arrival, and the rest get Catalog’s refusal', async (t) => {
  const id = await harness.product({ inStock: 5 })
  const quantities = [2, 1, 4, 1, 2, 1]
  const all: Checkout[] = []
  for (const qty of quantities) all.push(await harness.checkout({ productId: id, qty }))
  const refused = `409 Insufficient stock for product_id ${id}`
  t.deepEqual(await reserveAll(harness.worker(), all), ['done', 'done', refused, 'done', refused, 'done'])
  t.deepEqual(inventory(id), { inStock: 5, reserved: 5 })
  const [first, admitted, alone] = harness.catalog.asked(id)
  t.deepEqual([first, admitted, alone], ['reserve 11', 'reserve 5', 'reserve 4'], 'the first that does not fit asks by itself')
  t.like(await free(id), { held: 5, hold: 0, call: null })
})

test('requests behind a refused one that want as many or more get the same refusal without a call of their own', async (t) => {
  const id = await harness.product({ inStock: 0 })
  const told = await reserveAll(harness.worker(), await checkouts(50, id, 2))
  t.is(count(told, `409 Insufficient stock for product_id ${id}`), 50)
  t.true(harness.catalog.asked(id).length <= 3, harness.catalog.asked(id).join())
  t.like(await free(id), { held: 0, call: null })
})

test('units held for nobody are given back before anyone is refused for want of stock', async (t) => {
  const id = await harness.product({ inStock: 5 })
  const worker = harness.worker()
  const cancelled = await harness.checkout({ productId: id, qty: 5 })
  t.is(await worker.reserve(cancelled), 'done')
  await worker.checkouts.cancel(cancelled.id, { status: 503, detail: 'too late' })
  t.is(inventory(id).reserved, 5)
  t.deepEqual(await reserveAll(worker, await checkouts(5, id)), ['done', 'done', 'done', 'done', 'done'])
  t.deepEqual(inventory(id), { inStock: 5, reserved: 5 })
  t.like(await free(id), { held: 5, hold: 0, call: null })
})

test('a lone request whose product has units held for nobody is refused only after they are given back', async (t) => {
  const id = await harness.product({ inStock: 1 })
  const worker = harness.worker()
  const cancelled = await harness.checkout({ productId: id, qty: 1 })
  await worker.reserve(cancelled)
  await worker.checkouts.cancel(cancelled.id, { status: 503, detail: 'too late' })
  const { orderId, products, lease, deadlineAt } = await harness.intent(worker, { productId: id, qty: 1 })
  t.truthy(lease)
  const told = await worker.stock.reserve({ id: orderId, attempt: 1, products, deadline: deadlineAt.getTime() }, lease)
  t.is(told.result, 'done')
})

test('a refusal that is not about stock is told to all at once', async (t) => {
  const id = await harness.product()
  harness.catalog.script(id, 'unauthorized')
  const told = await reserveAll(harness.worker(), await checkouts(3, id))
  t.deepEqual(
    told,
    Array.from({ length: 3 }, () => '401 Not authenticated'),
  )
  t.like(await free(id), { held: 0, call: null })
})

test('a reserve that waits for a product ends at its deadline', async (t) => {
  const id = await harness.product()
  const worker = harness.worker()
  await harness
    .worker('other')
    .products.acquireCalls([{ callId: await worker.callIds(), verb: 'check', productIds: [id], members: [], more: false }])
  const late = await harness.checkout({ productId: id, qty: 1 })
  await t.throwsAsync(worker.reserve({ ...late, deadline: Date.now() + 100 }), { name: 'StockWaitTimeout' })
  t.is(worker.stock.waiting('reserve', late.products), 0)
})

for (const what of ['checkout', 'check'] as const) {
  test(`a ${what} whose time ends while it takes its product keeps the product from nobody`, async (t) => {
    const id = await harness.product()
    const worker = harness.worker()
    const { acquireCalls } = worker.products
    const answer = Promise.withResolvers<void>()
    worker.products.acquireCalls = async (calls) => {
      const taken = await acquireCalls(calls)
      await answer.promise // as a PostgreSQL that hangs for a while
      return taken
    }
    const told =
      what === 'check'
        ? worker.stock.reconcile(id)
        : worker.reserve({ ...(await harness.checkout({ productId: id, qty: 1 })), deadline: Date.now() })
    await t.throwsAsync(told, { name: 'StockWaitTimeout' })
    worker.products.acquireCalls = acquireCalls
    answer.resolve()

    t.is(await worker.reserve(await harness.checkout({ productId: id, qty: 1 })), 'done')
  })
}
