/** Orders that others change, and the counters that follow them by triggers; what people are shown of a product. */
import test from 'ava'
import { compareCounters, listProducts, readHolders, readInventory, readInventorySums } from '../../src/db/inventory-view.ts'
import { type Harness, openHarness } from '../stock/harness.ts'

test.beforeEach(async (t) => {
  t.context = await openHarness()
})
test.afterEach.always(async (t) => (t.context as Harness).close())
const harnessOf = (t: { context: unknown }) => t.context as Harness

test('orders that others insert, pay, cancel, change and delete with SQL are counted, as are ours', async (t) => {
  const harness = harnessOf(t)
  const worker = harness.worker()
  const [a, b] = [await harness.product(), await harness.product()]
  const held = async () => [(await harness.row(a)).held, (await harness.row(b)).held]
  const isRight = async () => (await compareCounters(harness.pool, { repair: false })).length === 0

  const first = await harness.order({ productId: a, qty: 2 }, { productId: b, qty: 1 })
  t.deepEqual(await held(), [2, 1])
  const second = await harness.order({ productId: a, qty: 3 })
  t.deepEqual(await held(), [5, 1])
  await harness.ask(`update public.orders set status = 'CANCELLED' where id = $1`, [first])
  t.deepEqual(await held(), [3, 0])
  await harness.ask(`update public.orders set status = 'CREATED' where id = $1`, [first])
  t.deepEqual(await held(), [5, 1])
  await harness.ask(`update public.orders set status = 'PAID' where id = $1`, [second])
  t.deepEqual(await held(), [2, 1])
  await harness.ask(`update public.orders set updated_at = now() where id = $1`, [first])
  await harness.ask(`update public.order_items set qty = 4 where order_id = $1 and product_id = $2`, [first, a])
  t.deepEqual(await held(), [4, 1])
  await harness.ask(`update public.order_items set product_id = $2 where order_id = $1 and product_id = $3`, [first, a, b])
  t.deepEqual(await held(), [5, 0])
  await harness.ask(`delete from public.order_items where order_id = $1 and qty = 1`, [first])
  t.deepEqual(await held(), [4, 0])
  t.true(await isRight())

  // One of ours, under the counters of its own session.
  const { orderId, lease, products } = await harness.intent(worker, { productId: b, qty: 2 })
  await worker.checkouts.complete({ orderId, attempt: 1 }, { callId: lease!.callId, products })
  t.deepEqual(await held(), [4, 2])
  await harness.ask('delete from public.orders where id = any($1)', [[first, orderId]])
  t.deepEqual(await held(), [0, 0])
  t.true(await isRight())

  for (const id of [a, b]) t.true(await worker.products.applyChanges(id))
  t.deepEqual(await held(), [0, 0])
  t.true(await isRight())
})

test('units that other writers free are given back at Catalog, and units that they add are reserved there', async (t) => {
  const harness = harnessOf(t)
  const { stock } = harness.worker()
  const id = await harness.product()
  const orderId = await harness.order({ productId: id, qty: 2 })
  await stock.reconcile(id)
  t.deepEqual(harness.catalog.inventory.get(id), { inStock: 10, reserved: 2 })
  await harness.ask(`update public.orders set status = 'CANCELLED' where id = $1`, [orderId])
  await stock.reconcile(id)
  t.deepEqual(harness.catalog.inventory.get(id), { inStock: 10, reserved: 0 })
  t.like(await harness.row(id), { held: 0, hold: 0, foreign: 0 })
})

test('a counter that is wrong is found, put right on demand, and what Catalog says does not change by it', async (t) => {
  const harness = harnessOf(t)
  const worker = harness.worker()
  const [right, wrong] = [await harness.product(), await harness.product()]
  for (const productId of [right, wrong]) t.is(await worker.reserve(await harness.checkout({ productId, qty: 2 })), 'done')
  await harness.order({ productId: wrong, qty: 1 })
  await worker.stock.reconcile(wrong)
  await harness.ask('update order_service.products set held = held + 4, hold_correction = hold_correction - 4 where product_id = $1', [
    wrong,
  ])

  const expected = [{ productId: wrong, counted: 7, held: 3 }]
  t.deepEqual(await compareCounters(harness.pool, { repair: false }), expected)
  t.deepEqual(await compareCounters(harness.pool, { repair: false }), expected, 'nothing is changed unless it is asked for')
  t.deepEqual(await compareCounters(harness.pool, { repair: true }), expected)
  t.deepEqual(await compareCounters(harness.pool, { repair: true }), [])

  await worker.stock.reconcile(wrong)
  t.like(await harness.row(wrong), { held: 3, hold: 0, foreign: 0 })
  t.deepEqual(harness.catalog.inventory.get(wrong), { inStock: 10, reserved: 3 })
})

test('a product is shown with what is kept for its row, its call, calls without an answer and what is ambiguous', async (t) => {
  const harness = harnessOf(t)
  const worker = harness.worker()
  const [quiet, busy] = [await harness.product(), await harness.product({ foreign: 1 })]
  harness.catalog.script(busy, 'lost')
  await t.throwsAsync(worker.reserve(await harness.checkout({ productId: busy, qty: 2 })))
  const orderId = await harness.order({ productId: busy, qty: 3 })
  await harness.ask(`insert into order_service.ambiguities (product_id, too_many, too_few, explanation) values ($1, 2, 1, 'two fit')`, [
    busy,
  ])
  const callId = await worker.callIds()
  await worker.products.acquireCalls([{ callId, verb: 'check', productIds: [busy], members: [], more: false }])

  t.deepEqual(await listProducts(harness.pool, { onlyNotable: true, limit: 10 }), [busy])
  t.deepEqual(await listProducts(harness.pool, { onlyNotable: false, limit: 10 }), [busy, quiet])
  const [shown, other] = await readInventory(harness.pool, [busy, 999_999, quiet])
  t.like(shown, { productId: busy, expectedStock: 10, held: 3, foreignHolds: 1, holdCorrection: -3, stockCorrection: 0 })
  t.like(shown!.call, { callId, verb: 'check', qty: 0 })
  t.like(shown!.unanswered, { length: 1, 0: { verb: 'reserve', qty: 2 } })
  t.deepEqual(shown!.ambiguous, { tooMany: 2, tooFew: 1 })
  t.like(other, { productId: quiet, held: 0, call: null, unanswered: [] })
  t.like(await readHolders(harness.pool, busy, 10), { length: 1, 0: { orderId, qty: 3 } })
})

test('the sums for gauges add up what is missing, corrected and unanswered', async (t) => {
  const harness = harnessOf(t)
  const [a, b] = [await harness.product(), await harness.product()]
  await harness.product({ foreign: 4 })
  await harness.ask('update order_service.products set foreign_holds = -2 where product_id = $1', [a])
  await harness.ask('update order_service.products set hold_correction = 3, stock_correction = -1 where product_id = $1', [b])
  await harness.ask(
    `insert into order_service.unanswered_calls (call_id, product_id, verb, qty, since) values (1, $1, 'reserve', 1, now() - interval '1 minute')`,
    [a],
  )
  const sums = await readInventorySums(harness.pool)
  t.like(sums, { unreconciled: 2, oversold: 2, foreignHolds: 4, holdCorrection: 3, stockCorrection: 1, ambiguous: 0, unanswered: 1 })
  t.true(sums.oldestUnansweredSeconds >= 59)
})
