/** Calls whose answer is missing, or whose maker died: what became of them is found out by reading Catalog, and counts once. */
import test from 'ava'
import { NoAnswer } from '../../src/clients/http.ts'
import { hostClock } from '../support/clock.ts'
import { freeRow, type Checkout, type Harness, openHarness, type Payment, type TestWorker } from './harness.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness()
})
test.after.always(() => harness?.close())

const inventory = (productId: number) => harness.catalog.inventory.get(productId)!
const recoveryPoint = async ({ id }: Checkout) =>
  (await harness.ask<{ recovery_point: string }>('select recovery_point from order_service.checkouts where order_id = $1', [id]))[0]!
    .recovery_point

/** So many orders of one unit each that hold them, and a payment of each that waits. */
async function payments(productId: number, count: number): Promise<Payment[]> {
  const made: Payment[] = []
  for (let i = 0; i < count; i += 1) made.push(await harness.payment(await harness.order({ productId, qty: 1 })))
  inventory(productId).reserved += count
  const { stock } = harness.worker()
  // The order's units came to us by a trigger, and to Catalog by nobody: both say the same now.
  await stock.reconcile(productId)
  return made
}
/** A worker that dies when Catalog has answered: what it would put on record is not. */
const dying = (by = 'dying'): TestWorker =>
  harness.worker(by, () => ({
    recordPaid: () => new Promise<never>(() => {}),
    recordHolds: () => new Promise<never>(() => {}),
  }))
const commits = (productId: number) => harness.catalog.asked(productId).filter((call) => call.startsWith('commit'))

test('a reserve that happened without an answer is found by its own worker, and the customer has the hold', async (t) => {
  const id = await harness.product()
  harness.catalog.script(id, 'silent')
  const checkout = await harness.checkout({ productId: id, qty: 2 })
  t.is(await harness.worker().reserve(checkout), 'done')
  t.is(await recoveryPoint(checkout), 'reserve-stock')
  t.like(await freeRow(harness, id), { held: 2, hold: 0, call: null })
  t.deepEqual(harness.catalog.asked(id), ['reserve 2'])
  t.deepEqual(await harness.unanswered(id), [{ call: 'reserve 2', found: 'happened' }])
})

test('an intent gets no lease on a product whose unanswered call could not be checked: Catalog is read first', async (t) => {
  const id = await harness.product()
  const [payment] = await payments(id, 1)
  const blind = harness.worker('blind', ({ catalog }) => ({
    catalog: { ...catalog, read: () => Promise.reject(new NoAnswer('catalog read', { sent: true, settlesAt: 0 })) },
  }))
  harness.catalog.script(id, 'silent')
  await t.throwsAsync(blind.commit(payment!), { name: 'StockFault' })
  t.deepEqual(await harness.unanswered(id), [{ call: 'commit 1', found: null }])
  t.is((await freeRow(harness, id)).call, null)

  const worker = harness.worker()
  const { orderId, deadlineAt, products, lease } = await harness.intent(worker, { productId: id, qty: 2 })
  t.is(lease, undefined)
  t.is(await worker.reserve({ id: orderId, attempt: 1, products, deadline: deadlineAt.getTime() }), 'done')

  t.deepEqual(await harness.statusOf([payment!.orderId]), ['PAID'])
  t.deepEqual(inventory(id), { inStock: 9, reserved: 2 })
  t.like(await freeRow(harness, id), { expected: 9, held: 2, hold: 0, stock: 0, foreign: 0 })
})

test('a call without an answer keeps its lease until it can act no more, even if the lease cannot be renewed', async (t) => {
  const id = await harness.product()
  let settlesAt = Infinity
  const releasedAt: number[] = []
  const worker = harness.worker(
    'unlucky',
    ({ catalog, products }) => ({
      catalog: {
        ...catalog,
        change: () => {
          settlesAt = hostClock.now() + 1200
          return Promise.reject(new NoAnswer('ECONNRESET', { sent: true, settlesAt }))
        },
      },
      products: {
        ...products,
        continueCall: async (call, options) => (options?.next ? products.continueCall(call, options) : undefined),
        releaseCalls: (calls) => {
          releasedAt.push(hostClock.now())
          return products.releaseCalls(calls)
        },
      },
    }),
    { ...hostClock, databaseTime: () => hostClock.databaseTime() + 2000 }, // each lease has to be renewed
  )
  await t.throwsAsync(worker.reserve(await harness.checkout({ productId: id, qty: 2 })), { name: 'StockFault' })
  t.true(releasedAt.length > 0 && releasedAt.every((at) => at >= settlesAt), `released at ${releasedAt.join()}, may act until ${settlesAt}`)
})

test('a reserve that did not happen is made again, and one that acts late then is given back', async (t) => {
  const id = await harness.product()
  harness.catalog.script(id, 'late')
  const worker = harness.worker()
  const checkout = await harness.checkout({ productId: id, qty: 2 })
  await t.throwsAsync(worker.reserve(checkout), { name: 'StockFault' })
  t.deepEqual(await harness.unanswered(id), [{ call: 'reserve 2', found: 'not-happened' }])
  t.true(worker.woken.includes(id))
  t.is(await worker.reserve(checkout), 'done')
  harness.catalog.actLate(id)
  t.is(inventory(id).reserved, 4)
  await worker.stock.reconcile(id)
  t.deepEqual(inventory(id), { inStock: 10, reserved: 2 })
  t.like(await harness.row(id), { held: 2, hold: 0 })
})

test('a 500 after which a reserve may have happened is found out about at once', async (t) => {
  const id = await harness.product()
  harness.catalog.script(id, 'error')
  const worker = harness.worker()
  const began = performance.now()
  await t.throwsAsync(worker.reserve(await harness.checkout({ productId: id, qty: 2 })), { name: 'StockFault' })
  t.true(performance.now() - began < 5000)
  t.like(await freeRow(harness, id), { held: 0, hold: 0, call: null })
})

test('a call that could not reach Catalog leaves nothing behind', async (t) => {
  const id = await harness.product()
  harness.catalog.script(id, 'unreachable')
  const fault = await t.throwsAsync(harness.worker().reserve(await harness.checkout({ productId: id, qty: 2 })), { name: 'StockFault' })
  t.like(fault, { sent: false })
  t.deepEqual(await harness.unanswered(id), [])
  t.like(await freeRow(harness, id), { held: 0, call: null })
})

for (const isUnderWay of [false, true]) {
  test(`a unit that a person takes out of the stock while a payment waits, its call ${isUnderWay ? '' : 'not '}under way, is not put back`, async (t) => {
    const id = await harness.product({ inStock: 20 })
    const worker = harness.worker()
    const [waiting] = await payments(id, 1)
    const other = await harness.checkout({ productId: id, qty: 1 })
    t.is(await worker.reserve(other), 'done')
    if (isUnderWay) {
      // Its worker died before it sent the call.
      await worker.products.acquireCalls([
        { callId: await worker.callIds(), verb: 'commit', productIds: [id], members: [waiting!], more: false },
      ])
      await harness.expire(id)
    }

    inventory(id).inStock = 19
    await worker.checkouts.cancel(other.id, { status: 503, detail: 'too late' })
    await worker.stock.reconcile(id)

    t.deepEqual(
      harness.catalog.asked(id).filter((call) => call.startsWith('restock')),
      [],
    )
    t.like(await harness.row(id), { expected: 19, stock: 0, held: 1, hold: 0 })
    t.deepEqual(inventory(id), { inStock: 19, reserved: 1 })
    t.deepEqual(await harness.ambiguities(id), isUnderWay ? [{ tooMany: 0, tooFew: 1 }] : [])

    t.is(await worker.commit(waiting!), 'done')
    t.deepEqual(inventory(id), { inStock: 18, reserved: 0 })
    t.like(await harness.row(id), { expected: 18, stock: 0, held: 0, hold: 0, foreign: 0 })
  })
}

test('64 payments of a group whose worker dies after Catalog answered are found by the next one by reading: each is PAID once', async (t) => {
  const id = await harness.product({ inStock: 100 })
  const all = await payments(id, 64)
  const dead = dying()
  for (const payment of all) void dead.commit(payment)
  while (inventory(id).inStock === 100) await new Promise((resolve) => setTimeout(resolve, 5))
  t.deepEqual(
    await harness.statusOf(all.map(({ orderId }) => orderId)),
    all.map(() => 'CREATED'),
  )
  await harness.expire(id)

  const next = harness.worker('next')
  const told = await Promise.all(all.map((payment) => next.commit(payment)))

  t.deepEqual(new Set(told), new Set(['ended']), 'nothing is left to commit')
  t.deepEqual(commits(id), ['commit 64'])
  t.deepEqual(
    await harness.statusOf(all.map(({ orderId }) => orderId)),
    all.map(() => 'PAID'),
  )
  const events = await harness.ask(`select result, count(*)::int from order_service.payment_events where id = any($1) group by 1`, [
    all.map((payment) => payment.id),
  ])
  t.deepEqual(events, [{ result: 'paid', count: 64 }])
  t.deepEqual(inventory(id), { inStock: 36, reserved: 0 })
  t.like(await freeRow(harness, id), { expected: 36, held: 0, hold: 0, stock: 0, foreign: 0, call: null })
  const paid = await harness.ask(`select from order_service.outbox where type = 'order.paid' and order_id = any($1)`, [
    all.map(({ orderId }) => orderId),
  ])
  t.is(paid.length, 64)
})

test('an attempt that was rescued is not put into a second group while its first call has no answer', async (t) => {
  const id = await harness.product()
  const checkout = await harness.checkout({ productId: id, qty: 2 })
  const release = harness.catalog.stall(id)
  void dying().reserve(checkout)
  while (harness.catalog.asked(id).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  await harness.expire(id)

  const rescuer = harness.worker('rescuer')
  const resumed = await rescuer.checkouts.resume(checkout.id)
  const again = rescuer.reserve({ ...checkout, attempt: resumed!.attempt })
  const other = rescuer.reserve(await harness.checkout({ productId: id, qty: 1 }))
  release() // it acts before Catalog is read, or after
  t.deepEqual(await Promise.all([again, other]), ['done', 'done'])
  await rescuer.stock.reconcile(id)

  t.deepEqual(inventory(id), { inStock: 10, reserved: 3 })
  t.like(await harness.row(id), { held: 3, hold: 0, foreign: 0 })
})

test('a checkout that was cancelled while its worker was dead has its units given back', async (t) => {
  const id = await harness.product()
  const checkout = await harness.checkout({ productId: id, qty: 2 })
  void dying().reserve(checkout)
  while (inventory(id).reserved === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  const worker = harness.worker()
  t.deepEqual((await worker.checkouts.cancel(checkout.id, { status: 503, detail: 'too late' })).toReconcile, [id])
  await harness.expire(id)
  await worker.stock.reconcile(id)
  t.deepEqual(inventory(id), { inStock: 10, reserved: 0 })
  t.like(await harness.row(id), { held: 0, hold: 0 })
})

test('a late release and an unanswered commit are told apart by the stock', async (t) => {
  const id = await harness.product()
  const worker = harness.worker()
  const [payment] = await payments(id, 1)
  const cancelled = await harness.checkout({ productId: id, qty: 1 })
  await worker.reserve(cancelled)
  harness.catalog.script(id, 'late')
  await worker.checkouts.cancel(cancelled.id, { status: 503, detail: 'too late' })
  await worker.stock.reconcile(id) // without an answer, and made again
  t.is(inventory(id).reserved, 1)

  harness.catalog.script(id, 'lost')
  await t.throwsAsync(worker.commit(payment!), { name: 'StockFault' })
  harness.catalog.actLate(id)
  t.deepEqual(inventory(id), { inStock: 10, reserved: 0 })
  await worker.stock.reconcile(id)
  t.deepEqual(inventory(id), { inStock: 10, reserved: 1 }, 'the payment’s unit is held again')

  t.is(await worker.commit(payment!), 'done')
  t.deepEqual(inventory(id), { inStock: 9, reserved: 0 })
  t.like(await harness.row(id), { expected: 9, held: 0, hold: 0, stock: 0, foreign: 0 })
})

test('a commit that acts a second time, late, takes no hold of others: its units are restocked', async (t) => {
  const id = await harness.product({ foreign: 3 })
  const worker = harness.worker()
  const [payment] = await payments(id, 1)
  harness.catalog.script(id, 'late')
  await t.throwsAsync(worker.commit(payment!), { name: 'StockFault' })
  t.is(await worker.commit(payment!), 'done')
  harness.catalog.actLate(id)
  t.deepEqual(inventory(id), { inStock: 8, reserved: 2 })
  await worker.stock.reconcile(id)
  t.deepEqual(inventory(id), { inStock: 9, reserved: 3 })
  t.like(await harness.row(id), { expected: 9, foreign: 3, hold: 0, stock: 0 })
})

test('a commit that acts late when nothing is held any more cannot be seen in what is held, and is listed', async (t) => {
  const id = await harness.product()
  const worker = harness.worker()
  const [payment] = await payments(id, 1)
  harness.catalog.script(id, 'late')
  await t.throwsAsync(worker.commit(payment!), { name: 'StockFault' })
  t.is(await worker.commit(payment!), 'done')
  harness.catalog.actLate(id)
  t.deepEqual(inventory(id), { inStock: 8, reserved: 0 })
  await worker.stock.reconcile(id)
  t.like(await harness.row(id), { expected: 8, held: 0, hold: 0, stock: 0, foreign: 0 })
  t.deepEqual(await harness.ambiguities(id), [{ tooMany: 0, tooFew: 1 }])
})

test('a cart of two products whose commit got no answer is paid once, though one of them was read before the other', async (t) => {
  const [a, b] = [await harness.product(), await harness.product({ foreign: 2 })]
  const orderId = await harness.order({ productId: a, qty: 2 }, { productId: b, qty: 1 })
  inventory(a).reserved += 2
  inventory(b).reserved += 1
  const worker = harness.worker()
  for (const id of [a, b]) await worker.stock.reconcile(id)
  const payment = await harness.payment(orderId)
  void dying().commit(payment)
  while (inventory(a).inStock === 10) await new Promise((resolve) => setTimeout(resolve, 5))
  for (const id of [a, b]) await harness.expire(id)

  await worker.stock.reconcile(b)
  t.deepEqual(await harness.statusOf([orderId]), ['PAID'])
  await worker.stock.reconcile(a)

  t.is(await worker.commit(payment), 'ended')
  t.deepEqual(
    [inventory(a), inventory(b)],
    [
      { inStock: 8, reserved: 0 },
      { inStock: 9, reserved: 2 },
    ],
  )
  t.like(await harness.row(a), { expected: 8, held: 0, hold: 0, stock: 0, foreign: 0 })
  t.like(await harness.row(b), { expected: 9, held: 0, hold: 0, stock: 0, foreign: 2 })
})
