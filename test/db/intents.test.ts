import test from 'ava'
import type { Intent } from '../../src/model.ts'
import { type Harness, openHarness } from '../stock/harness.ts'
import { openIntents } from '../support/intent.ts'
import { demoAddress } from '../support/shop.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness()
})
test.after.always(() => harness?.close())

let customers = 0
const lineOf = (product_id: number, qty = 2) => ({ product_id, qty, unit_price_cents: 100, title_snapshot: 'Air Zoom' })
function intent(changes: Partial<Intent> = {}): Intent {
  customers += 1
  const common = { requestHash: 'hash', lines: [lineOf(1000)], address: demoAddress, totalCents: 200, budgetMs: 8000 }
  return { userEmail: `c${customers}@example.com`, idempotencyKey: 'key', ...common, ...changes }
}

/** An open checkout for two units of a product of its own, which it has taken with its intent. */
async function begun() {
  const worker = harness.worker()
  const productId = await harness.product()
  const { orderId, lease } = await harness.intent(worker, { productId, qty: 2 })
  const products = [{ productId, qty: 2 }]
  const { callId } = lease!
  return {
    checkouts: worker.checkouts,
    attempt: { orderId, attempt: 1 },
    productId,
    products,
    callId,
    reserved: { callId, productIds: [productId], members: [{ orderId, products }] },
  }
}
const checkoutRow = async ({ orderId }: { orderId: number }) =>
  (await harness.ask('select state, recovery_point, attempt from order_service.checkouts where order_id = $1', [orderId]))[0]

test('an address with a NUL in it fails alone among 60 good intents of one batch', async (t) => {
  const intents = openIntents(harness.pool)
  const bad = intent({ address: { ...demoAddress, city: 'Dub\0lin' } })
  const all = [...Array.from({ length: 30 }, () => intent()), bad, ...Array.from({ length: 30 }, () => intent())]
  const settled = await Promise.allSettled(all.map((one) => intents.intend(one)))
  t.deepEqual(
    settled.flatMap(({ status }, i) => (status === 'rejected' ? [i] : [])),
    [30],
  )
})

test('two intents with one key in one batch become one checkout, which the other one joins', async (t) => {
  const intents = openIntents(harness.pool)
  const first = intent()
  const [a, b] = await Promise.all([intents.intend(first), intents.intend({ ...first, requestHash: 'other' })])
  t.is(a!.claim, 'new')
  t.like(b, { claim: 'taken', orderId: a?.claim === 'new' ? a.orderId : undefined, requestHash: 'hash', state: 'OPEN' })
})

test('an intent takes the leases of all its products, and its row says with which call', async (t) => {
  const worker = harness.worker()
  const [shoes, socks] = [await harness.product(), await harness.product()]
  const { orderId, lease, products } = await harness.intent(worker, { productId: socks, qty: 1 }, { productId: shoes, qty: 2 })
  t.deepEqual(products, [
    { productId: shoes, qty: 2 },
    { productId: socks, qty: 1 },
  ])
  t.true(lease!.expiresAt > Date.now())
  const rows = await harness.ask(
    `select p.product_id, p.call_id = c.call_id as is_its_own, p.call_verb, p.call_qty::int, p.call_by
     from order_service.products p, order_service.checkouts c where c.order_id = $1 and product_id = any($2) order by 1`,
    [orderId, [shoes, socks]],
  )
  t.deepEqual(rows, [
    { product_id: shoes, is_its_own: true, call_verb: 'reserve', call_qty: 2, call_by: null },
    { product_id: socks, is_its_own: true, call_verb: 'reserve', call_qty: 1, call_by: null },
  ])
})

test('an intent takes none of its products where one is taken, wanted by somebody, new to us, locked or unknown', async (t) => {
  const worker = harness.worker()
  const free = await harness.product()
  const taken = await harness.product()
  await harness.intent(worker, { productId: taken, qty: 1 })
  const wanted = await harness.product()
  await harness.ask(
    `update order_service.products set wanted_by = 'somebody', wanted_until = now() + interval '1 minute' where product_id = $1`,
    [wanted],
  )
  const unread = await harness.product()
  await harness.ask('update order_service.products set expected_stock = null where product_id = $1', [unread])
  for (const productId of [taken, wanted, unread, 999_999]) {
    const { lease } = await harness.intent(worker, { productId: free, qty: 1 }, { productId, qty: 1 })
    t.is(lease, undefined, String(productId))
  }
  t.like(await harness.row(free), { call: null })
  await harness.ask(`update order_service.products set wanted_until = now() - interval '1 ms' where product_id = $1`, [wanted])
  t.truthy((await harness.intent(worker, { productId: wanted, qty: 1 })).lease, 'who wanted it has not come')
})

test('an intent whose key is in use takes no lease', async (t) => {
  const intents = openIntents(harness.pool)
  const [first, second] = [await harness.product(), await harness.product()]
  const one = intent({ lines: [lineOf(first)] })
  await intents.intend(one)
  t.is((await intents.intend({ ...one, lines: [lineOf(second)] })).claim, 'taken')
  t.like(await harness.row(second), { call: null })
  const other = await harness.product()
  const twice = intent({ lines: [lineOf(other)] })
  const [a, b] = await Promise.all([intents.intend(twice), intents.intend({ ...twice, lines: [lineOf(second)] })])
  t.deepEqual([a.claim, b.claim], ['new', 'taken'])
  t.like(await harness.row(second), { call: null })
})

test('of two intents of one batch that share a product the first gets its lease, and the second gets none', async (t) => {
  const intents = openIntents(harness.pool)
  const [shared, own] = [await harness.product(), await harness.product()]
  const [first, second] = await Promise.all([
    intents.intend(intent({ lines: [lineOf(shared)] })),
    intents.intend(intent({ lines: [lineOf(shared), lineOf(own)] })),
  ])
  if (first.claim !== 'new' || second.claim !== 'new') throw new Error('both are new')
  t.truthy(first.lease)
  t.is(second.lease, undefined)
  t.like(await harness.row(own), { call: null })
})

test('a reserve goes on record once, and not for a call that the checkout is not in', async (t) => {
  const { checkouts, reserved, productId, attempt } = await begun()
  const other = { ...reserved, callId: reserved.callId + 500 }
  t.deepEqual((await checkouts.recordHolds(other)).orderIds, [])
  t.like(await checkoutRow(attempt), { recovery_point: 'intent' })
  t.deepEqual(await checkouts.recordHolds(reserved), { orderIds: [attempt.orderId], missedProducts: [] })
  t.like(await harness.row(productId), { held: 2, hold: 0, call: null })
  t.deepEqual((await checkouts.recordHolds(reserved)).orderIds, [])
  await harness.ask('delete from order_service.product_changes where product_id = $1', [productId])
})

test('a hold goes on record for whichever attempt drives the checkout: what Catalog holds is its own', async (t) => {
  const { checkouts, reserved, attempt } = await begun()
  t.like(await checkouts.resume(attempt.orderId), { attempt: 2, recoveryPoint: 'intent', shipmentCall: 'unknown' })
  t.deepEqual((await checkouts.recordHolds(reserved)).orderIds, [attempt.orderId])
  t.like(await checkoutRow(attempt), { recovery_point: 'reserve-stock', attempt: 2 })
})

test('a hold goes on record along with its order, which needs the one or the other: not for a call that the product is not in', async (t) => {
  const { checkouts, products, callId, attempt, productId } = await begun()
  t.is(await checkouts.complete(attempt), undefined)
  t.is(await checkouts.complete(attempt, { callId: callId + 500, products }), undefined)
  t.is(await checkouts.complete({ ...attempt, attempt: 2 }, { callId, products }), undefined)
  t.like(await checkouts.complete(attempt, { callId, products }), { state: 'CREATED' })
  t.like(await checkoutRow(attempt), { state: 'CREATED', recovery_point: 'reserve-stock' })
  t.like(await harness.row(productId), { held: 2, call: null })

  const [lost, other] = await Promise.all([begun(), begun()])
  await harness.ask('update order_service.products set call_id = call_id + 500 where product_id = $1', [lost.productId])
  const results = await Promise.all(
    [lost, other].map((one) => checkouts.complete(one.attempt, { callId: one.callId, products: one.products })),
  )
  t.deepEqual(
    results.map((result) => result?.orderId),
    [undefined, other.attempt.orderId],
  )
})

test('exactly one of completion and cancellation wins, and a cancelled hold is left to the reconciler', async (t) => {
  const results = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const { checkouts, reserved, attempt, productId } = await begun()
      await checkouts.recordHolds(reserved)
      const [created, { won, outcome, toReconcile }] = await Promise.all([
        checkouts.complete(attempt),
        checkouts.cancel(attempt.orderId, { status: 503, detail: 'too late' }),
      ])
      return { created: created !== undefined, won, state: outcome.state, toReconcile, productId }
    }),
  )
  for (const { created, won, state, toReconcile, productId } of results) {
    t.not(created, won)
    t.is(state, created ? 'CREATED' : 'CANCELLED')
    t.deepEqual(toReconcile, created ? [] : [productId])
    t.like(await harness.row(productId), created ? { held: 2, hold: 0 } : { held: 0, hold: 2 })
  }
})

test('a checkout that is cancelled while its call is under way leaves its units to the record of that call', async (t) => {
  const { checkouts, reserved, attempt, productId } = await begun()
  t.deepEqual((await checkouts.cancel(attempt.orderId, { status: 503, detail: 'too late' })).toReconcile, [productId])
  t.like(await harness.row(productId), { held: 0, hold: 0, call: 'reserve' })
  t.deepEqual((await checkouts.recordHolds(reserved)).orderIds, [])
  t.like(await harness.row(productId), { held: 0, hold: 2, call: null })
})

test('nothing becomes an order after its deadline', async (t) => {
  const { checkouts, reserved, attempt } = await begun()
  await checkouts.recordHolds(reserved)
  await harness.ask(`update order_service.checkouts set deadline_at = now() - interval '1 ms' where order_id = $1`, [attempt.orderId])
  t.is(await checkouts.complete(attempt), undefined)
})
