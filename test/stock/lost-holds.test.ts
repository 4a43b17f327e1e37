/** Taking over products of which the predecessor lost holds at Catalog: they are sold and paid as usual, and what is oversold is listed. */
import test from 'ava'
import { freeRow, type Harness, openHarness } from './harness.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness()
})
test.after.always(() => harness?.close())

/** So many orders CREATED of one unit each, inserted with SQL; Catalog says what it says. */
async function takenOver(orders: number, says: { inStock: number; reserved: number }) {
  const id = await harness.product({ isNew: true })
  const orderIds: number[] = []
  for (let i = 0; i < orders; i += 1) orderIds.push(await harness.order({ productId: id, qty: 1 }))
  harness.catalog.inventory.set(id, { ...says })
  return { id, orderIds, worker: harness.worker(), inventory: harness.catalog.inventory.get(id)! }
}

test('a product that lost four holds of ten, with three units free, is paid as usual; one unit is oversold, and is held with the next delivery before a newcomer buys', async (t) => {
  const { id, orderIds, worker, inventory } = await takenOver(10, { inStock: 9, reserved: 6 })
  const refused = `409 Insufficient stock for product_id ${id}`

  t.is(await worker.reserve(await harness.checkout({ productId: id, qty: 1 })), refused, 'what is free was promised to others')
  t.deepEqual(inventory, { inStock: 9, reserved: 9 }, 'as many as are free are held')
  t.true(worker.woken.includes(id))
  t.true(await worker.stock.reconcile(id), 'it is come back to')
  t.like(await freeRow(harness, id), { held: 10, foreign: -1, hold: 0, call: null })

  t.is(await worker.commit(await harness.payment(orderIds[0]!)), 'done')
  t.deepEqual(inventory, { inStock: 8, reserved: 8 })

  inventory.inStock += 3
  await worker.stock.reconcile(id)
  t.deepEqual(inventory, { inStock: 11, reserved: 9 })
  t.like(await harness.row(id), { held: 9, foreign: 0, hold: 0 })
  for (const told of ['done', 'done', refused]) t.is(await worker.reserve(await harness.checkout({ productId: id, qty: 1 })), told)
})

test('a product that lost holds, with more units free than are missing, is sold at once: what is missing is held first', async (t) => {
  const { id, worker, inventory } = await takenOver(10, { inStock: 12, reserved: 6 })
  t.is(await worker.reserve(await harness.checkout({ productId: id, qty: 2 })), 'done')
  t.deepEqual(inventory, { inStock: 12, reserved: 12 })
  await worker.stock.reconcile(id)
  t.like(await freeRow(harness, id), { held: 12, foreign: 0, hold: 0, call: null })
  t.deepEqual(harness.catalog.asked(id), ['reserve 4', 'reserve 2'])
})

test('a product that lost four holds of ten, with three units free, has three of them reserved, and one unit is listed as oversold', async (t) => {
  const { id, worker, inventory } = await takenOver(10, { inStock: 9, reserved: 6 })
  await worker.products.addProducts([id])
  await worker.stock.reconcile(id)
  t.deepEqual(inventory, { inStock: 9, reserved: 9 })
  t.like(await freeRow(harness, id), { expected: 9, held: 10, foreign: -1, hold: 0, stock: 0, call: null })
  t.deepEqual(await harness.reconciliations(id), ['reserve 3 done hold-missing'])
})

test('the tenth payment of ten of which Catalog held six is PAID like the others, and Catalog stops at 0', async (t) => {
  const { id, orderIds, worker, inventory } = await takenOver(10, { inStock: 6, reserved: 6 })
  for (const [i, orderId] of orderIds.entries()) {
    t.is(await worker.commit(await harness.payment(orderId)), 'done')
    t.deepEqual(inventory, { inStock: 5 - i, reserved: Math.max(0, 5 - i) })
    t.like(await harness.row(id), { held: 9 - i, foreign: 0 - Math.min(4, 9 - i), hold: 0, expected: 5 - i, stock: 0 })
  }
  t.deepEqual(
    await harness.statusOf(orderIds),
    orderIds.map(() => 'PAID'),
  )
  await worker.stock.reconcile(id)
  t.deepEqual(await harness.reconciliations(id), [])
})

test('ten payments in one group, of which Catalog held six, are PAID by one commit', async (t) => {
  const { id, orderIds, worker, inventory } = await takenOver(10, { inStock: 10, reserved: 6 })
  const payments = []
  for (const orderId of orderIds) payments.push(await harness.payment(orderId))
  const told = await Promise.all(payments.map((payment) => worker.commit(payment)))
  t.deepEqual(new Set(told), new Set(['done']))
  t.deepEqual(inventory, { inStock: 0, reserved: 0 })
  await worker.stock.reconcile(id)
  t.like(await harness.row(id), { held: 0, foreign: 0, hold: 0, expected: 0, stock: 0 })
  t.deepEqual(harness.catalog.asked(id), ['reserve 4', 'commit 10'])
})

test('units that a cancelled checkout held make up for holds that are missing', async (t) => {
  const id = await harness.product({ inStock: 2 })
  const worker = harness.worker()
  const checkout = await harness.checkout({ productId: id, qty: 2 })
  t.is(await worker.reserve(checkout), 'done')
  await harness.order({ productId: id, qty: 2 }) // by somebody who did not ask Catalog
  await worker.stock.reconcile(id)
  t.like(await harness.row(id), { held: 4, foreign: -2 })
  await worker.checkouts.cancel(checkout.id, { status: 503, detail: 'too late' })
  await worker.stock.reconcile(id)
  t.like(await harness.row(id), { held: 2, foreign: 0, hold: 0 })
  t.deepEqual(harness.catalog.inventory.get(id), { inStock: 2, reserved: 2 })
  t.deepEqual(harness.catalog.asked(id), ['reserve 2'])
})

test('a hold of ours that Catalog loses while we are open is found and reserved again', async (t) => {
  const id = await harness.product()
  const worker = harness.worker()
  t.is(await worker.reserve(await harness.checkout({ productId: id, qty: 3 })), 'done')
  harness.catalog.inventory.get(id)!.reserved = 1
  await worker.stock.reconcile(id)
  t.deepEqual(harness.catalog.inventory.get(id), { inStock: 10, reserved: 3 })
  t.like(await harness.row(id), { held: 3, foreign: 0, hold: 0 })
  t.deepEqual(await harness.reconciliations(id), ['unexplained -2 seen', 'reserve 2 done hold-missing'])
})
