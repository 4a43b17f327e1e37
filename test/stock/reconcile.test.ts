/** The reconciler: what it asks of Catalog, whatever was left undone, and what it writes down for people. */
import test from 'ava'
import { type Harness, openHarness } from './harness.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness()
})
test.after.always(() => harness?.close())
test.afterEach.always((t) => t.is(harness.catalog.overlaps, 0))

const ready = { isThere: false, negatives: 'takes' } as const
/** As a statement of ours, or a reconciler before, left it. */
const corrections = (productId: number, { hold = 0, stock = 0 }) =>
  harness.ask('update order_service.products set hold_correction = $2, stock_correction = $3 where product_id = $1', [
    productId,
    hold,
    stock,
  ])
const inventory = (productId: number) => harness.catalog.inventory.get(productId)!

test.serial('a product whose inventory agrees is read, and nothing is asked of Catalog', async (t) => {
  const id = await harness.product({ foreign: 3 })
  t.false(await harness.worker().stock.reconcile(id))
  t.deepEqual(harness.catalog.asked(id), [])
  t.is(harness.catalog.reads(id), 1)
  t.like(await harness.row(id), { foreign: 3, hold: 0, call: null })
})

test.serial(
  'a hold for nobody is given back by a release where Catalog has one, else by a negative reserve, else by commit and restock',
  async (t) => {
    for (const [release, asked] of [
      [{ isThere: true, negatives: 'refuses' }, ['release 2']],
      [{ isThere: false, negatives: 'takes' }, ['reserve -2']],
      [{ isThere: false, negatives: 'refuses' }, ['commit 2', 'restock 2']],
      [{ isThere: false, negatives: 'ignores' }, ['reserve -2', 'commit 2', 'restock 2']],
    ] as const) {
      Object.assign(harness.catalog.release, release)
      const id = await harness.product({ foreign: 1 })
      inventory(id).reserved = 3
      await corrections(id, { hold: 2 })
      t.false(await harness.worker().stock.reconcile(id), JSON.stringify(release))
      t.deepEqual(harness.catalog.asked(id), asked)
      t.deepEqual(inventory(id), { inStock: 10, reserved: 1 })
      t.like(await harness.row(id), { foreign: 1, expected: 10, hold: 0, stock: 0, call: null })
    }
    Object.assign(harness.catalog.release, ready)
  },
)

test.serial('units that others bring or take are followed, and no call is made for them', async (t) => {
  const id = await harness.product()
  const { stock } = harness.worker()
  inventory(id).inStock = 14
  t.false(await stock.reconcile(id))
  inventory(id).inStock = 3
  t.false(await stock.reconcile(id))
  t.deepEqual(harness.catalog.asked(id), [])
  t.like(await harness.row(id), { expected: 3, stock: 0 })
  t.deepEqual(await harness.reconciliations(id), ['follow 4 seen', 'follow -11 seen'])
})

test.serial('a hold that no call of ours explains is listed, and given back', async (t) => {
  const id = await harness.product()
  inventory(id).reserved = 2
  t.false(await harness.worker().stock.reconcile(id))
  t.deepEqual(inventory(id), { inStock: 10, reserved: 0 })
  t.deepEqual(await harness.reconciliations(id), ['unexplained 2 seen', 'release 2 done held-for-nobody'])
})

test.serial('units missing in stock are restocked', async (t) => {
  const id = await harness.product()
  inventory(id).inStock = 8
  await corrections(id, { stock: -2 })
  t.false(await harness.worker().stock.reconcile(id))
  t.deepEqual(harness.catalog.asked(id), ['restock 2'])
  t.like(await harness.row(id), { expected: 10, stock: 0 })
})

test.serial(
  'units restocked too many are taken back where they are unsold; where they are sold what we expect follows, and that is listed',
  async (t) => {
    const id = await harness.product()
    inventory(id).inStock = 12
    await corrections(id, { stock: 2 })
    t.false(await harness.worker().stock.reconcile(id))
    t.deepEqual(harness.catalog.asked(id), ['reserve 2', 'commit 2'])
    t.deepEqual(inventory(id), { inStock: 10, reserved: 0 })

    const sold = await harness.product({ inStock: 10, foreign: 12 })
    inventory(sold).inStock = 12
    await corrections(sold, { stock: 2 })
    const { stock } = harness.worker()
    await stock.reconcile(sold).catch(() => {})
    t.false(await stock.reconcile(sold))
    t.like(await harness.row(sold), { expected: 12, stock: 0 })
    t.deepEqual(await harness.ambiguities(sold), [{ tooMany: 2, tooFew: 0 }])
  },
)

test.serial('a correction without an answer is a call like any other: it is found to have happened, or made again', async (t) => {
  for (const [behaviour, asked] of [
    ['silent', ['reserve -2']],
    ['lost', ['reserve -2', 'reserve -2']],
  ] as const) {
    const id = await harness.product({ foreign: 5 })
    inventory(id).reserved = 7
    await corrections(id, { hold: 2 })
    harness.catalog.script(id, behaviour)
    await harness.worker().stock.reconcile(id)
    t.deepEqual(harness.catalog.asked(id), asked)
    t.deepEqual(inventory(id), { inStock: 10, reserved: 5 })
    t.like(await harness.row(id), { foreign: 5, hold: 0, stock: 0, call: null })
  }
})

test.serial('a correction that acts after it was made anew is found by the next check, and put right', async (t) => {
  const id = await harness.product({ foreign: 5 })
  inventory(id).reserved = 7
  await corrections(id, { hold: 2 })
  harness.catalog.script(id, 'late')
  const { stock } = harness.worker()
  t.true(await stock.reconcile(id), 'a call that may still act has somebody come again')
  harness.catalog.actLate(id)
  t.is(inventory(id).reserved, 3)
  await stock.reconcile(id)
  t.deepEqual(inventory(id), { inStock: 10, reserved: 5 })
  t.like(await harness.row(id), { foreign: 5, hold: 0, stock: 0 })
})

test.serial('a product is checked again until no unanswered call can act any more, which is after ten minutes', async (t) => {
  const id = await harness.product()
  const worker = harness.worker()
  harness.catalog.script(id, 'lost')
  await t.throwsAsync(worker.reserve(await harness.checkout({ productId: id, qty: 1 })), { name: 'StockFault' })
  t.true(await worker.stock.reconcile(id))
  t.true((await worker.products.productsToReconcile()).includes(id))
  await harness.age(id)
  t.false(await worker.stock.reconcile(id))
  t.false((await worker.products.productsToReconcile()).includes(id))
})

test.serial('an old call that could not be explained is not forgotten', async (t) => {
  const id = await harness.product()
  const worker = harness.worker()
  harness.catalog.script(id, 'silent')
  const reserve = worker.reserve(await harness.checkout({ productId: id, qty: 2 }))
  harness.catalog.always(id, undefined)
  await reserve
  await harness.ask(`update order_service.unanswered_calls set found = null where product_id = $1`, [id])
  await harness.age(id)
  harness.catalog.always(id, 'unreachable')
  await t.throwsAsync(worker.stock.reconcile(id), { name: 'NoAnswer' })
  t.like(await harness.row(id), { call: null }, 'the product is free again')
  t.true(await worker.products.needsReconciling(id))
  harness.catalog.always(id, undefined)
})

test.serial('a correction that Catalog refuses is reported, and tried again by the next reconciliation', async (t) => {
  const id = await harness.product()
  inventory(id).reserved = 1
  await corrections(id, { hold: 1 })
  harness.catalog.always(id, 'unauthorized')
  const { stock } = harness.worker()
  await t.throwsAsync(stock.reconcile(id), {
    name: 'NotReconciled',
    message: /catalog refused to commit 1 of product \d+: Not authenticated/,
  })
  t.like(await harness.row(id), { hold: 1, call: null })
  harness.catalog.always(id, undefined)
  await stock.reconcile(id)
  t.deepEqual(inventory(id), { inStock: 10, reserved: 0 })
})

test.serial('a reconciler that is paused between reading Catalog and its record, past its lease, changes nothing', async (t) => {
  const id = await harness.product()
  inventory(id).reserved = 2
  const paused = harness.worker('paused', ({ catalog }) => ({
    catalog: {
      ...catalog,
      async read(productId) {
        const says = await catalog.read(productId)
        if (productId === id && (await harness.row(id)).hold === 0) {
          await harness.expire(id)
          await harness.worker('next').stock.reconcile(id)
        }
        return says
      },
    },
  }))
  await t.throwsAsync(paused.stock.reconcile(id), { name: 'NotChecked' })
  t.deepEqual(harness.catalog.asked(id), ['reserve -2'])
  t.deepEqual(await harness.reconciliations(id), ['unexplained 2 seen', 'release 2 done held-for-nobody'])
  t.like(await harness.row(id), { held: 0, hold: 0, call: null })
})
