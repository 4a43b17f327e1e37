/** The verbs over `products`, one by one: who takes a product, who goes on with it, and what a record leaves. */
import test from 'ava'
import type { WantedCall } from '../../src/db/acquire-calls.ts'
import { type Checkout, type Harness, keepLocked, openHarness, type TestWorker } from '../stock/harness.ts'

let harness: Harness
let one: TestWorker
let other: TestWorker
test.before(async () => {
  harness = await openHarness({ budgetMs: 600_000 })
  one = harness.worker('one')
  other = harness.worker('other')
})
test.after.always(() => harness?.close())

const productIdsOf = ({ products }: Checkout) => products.map(({ productId }) => productId)

async function wanted(verb: WantedCall['verb'], members: readonly Checkout[], changes: Partial<WantedCall> = {}): Promise<WantedCall> {
  return { callId: await one.callIds(), verb, productIds: productIdsOf(members[0]!), members, more: false, ...changes }
}
async function take(worker: TestWorker, verb: WantedCall['verb'], members: readonly Checkout[], changes: Partial<WantedCall> = {}) {
  const call = await wanted(verb, members, changes)
  const [taken] = await worker.products.acquireCalls([call])
  return {
    ...taken!,
    callId: call.callId,
    productIds: call.productIds,
    state: (member: Checkout) => taken!.members[members.indexOf(member)],
  }
}
const check = (productId: number): Checkout => ({ id: 0, attempt: 0, products: [{ productId, qty: 0 }], deadline: 0 })

interface CallRow extends Record<string, unknown> {
  call_id: number | null
  call_verb: string | null
  qty: number | null
  call_by: string | null
  wanted_by: string | null
}
const callRow = async (productId: number) => {
  const [row] = await harness.ask<CallRow>(
    'select call_id::int, call_verb, call_qty::int as qty, call_by, wanted_by from order_service.products where product_id = $1',
    [productId],
  )
  return row!
}

test.serial('a call takes its product for all its members together, and each of their rows says which call it is in', async (t) => {
  const productId = await harness.product()
  const members = [await harness.checkout({ productId, qty: 2 }), await harness.checkout({ productId, qty: 3 })]
  const { isAcquired, checks, callId, expiresAt, state } = await take(one, 'reserve', members)
  t.true(isAcquired)
  t.deepEqual(checks, [])
  t.deepEqual(members.map(state), ['ready', 'ready'])
  t.true(expiresAt > Date.now())
  t.deepEqual(await callRow(productId), { call_id: callId, call_verb: 'reserve', qty: 5, call_by: 'one', wanted_by: null })
  const rows = await harness.ask('select call_id::int from order_service.checkouts where order_id = any($1)', [members.map(({ id }) => id)])
  t.deepEqual(rows, [{ call_id: callId }, { call_id: callId }])
})

test.serial(
  'a cart gets the leases of all its products or none, and a waiting cart comes next, before requests and other processes',
  async (t) => {
    const [free, busy] = [await harness.product(), await harness.product()]
    const first = await take(other, 'reserve', [await harness.checkout({ productId: busy, qty: 1 })])
    const cart = await harness.checkout({ productId: free, qty: 1 }, { productId: busy, qty: 1 })

    t.false((await take(one, 'reserve', [cart])).isAcquired)
    t.like(await callRow(free), { call_id: null })
    t.like(await callRow(busy), { call_id: first.callId, wanted_by: 'one' })

    await other.products.releaseCalls([first])
    t.is((await harness.intent(one, { productId: busy, qty: 1 })).lease, undefined, 'a request')
    t.false((await take(other, 'reserve', [await harness.checkout({ productId: busy, qty: 1 })])).isAcquired, 'a process that came later')
    t.true((await take(one, 'reserve', [cart])).isAcquired)
  },
)

test.serial('a waiter that is marked as the next and does not come keeps the product for one second only', async (t) => {
  const productId = await harness.product()
  await harness.ask(`update order_service.products set wanted_by = 'gone', wanted_until = now() - interval '1 ms' where product_id = $1`, [
    productId,
  ])
  t.true((await take(one, 'reserve', [await harness.checkout({ productId, qty: 1 })])).isAcquired)
})

test.serial('two calls of one batch each get their own result', async (t) => {
  const [free, busy] = [await harness.product(), await harness.product()]
  await take(other, 'check', [check(busy)])
  const members = [await harness.checkout({ productId: free, qty: 1 }), await harness.checkout({ productId: busy, qty: 1 })]
  const calls = await Promise.all(members.map((member) => wanted('reserve', [member])))
  const taken = await one.products.acquireCalls(calls)
  t.deepEqual(
    taken.map(({ isAcquired }) => isAcquired),
    [true, false],
  )
})

test.serial(
  'a lease that expired is taken over: its call becomes unanswered in the same statement, and no call starts before a check',
  async (t) => {
    const productId = await harness.product()
    const [gone, next] = [await harness.checkout({ productId, qty: 2 }), await harness.checkout({ productId, qty: 1 })]
    const before = await take(other, 'reserve', [gone])
    t.false((await take(one, 'reserve', [next])).isAcquired, 'it has not run out yet')
    await harness.expire(productId)

    const { isAcquired, checks, callId, state } = await take(one, 'reserve', [next])

    t.true(isAcquired)
    t.deepEqual(checks, [productId])
    t.is(state(next), 'ready')
    t.like(await callRow(productId), { call_id: callId, call_verb: 'check', qty: 0 })
    t.deepEqual(await harness.unanswered(productId), [{ call: 'reserve 2', found: null }])
    const [row] = await harness.ask('select call_id from order_service.checkouts where order_id = $1', [next.id])
    t.deepEqual(row, { call_id: null })
    t.is(await other.products.continueCall(before), undefined, 'who had it before finds out')
  },
)

test.serial('a check whose lease expired leaves no unanswered call', async (t) => {
  const productId = await harness.product()
  await take(other, 'check', [check(productId)])
  await harness.expire(productId)
  t.true((await take(one, 'check', [check(productId)])).isAcquired)
  t.deepEqual(await harness.unanswered(productId), [])
})

test.serial('a product without a row is reported as unknown, and one that was never read at Catalog is to be checked first', async (t) => {
  const productId = await harness.product({ isNew: true })
  const member = await harness.checkout({ productId, qty: 1 })
  t.like(await take(one, 'reserve', [member]), { isAcquired: false, unknown: [productId] })
  await one.products.addProducts([productId, productId])
  t.like(await take(one, 'reserve', [member]), { isAcquired: true, checks: [productId] })
})

test.serial('a locked product row is reported and not waited for, and a locked checkout likewise', async (t) => {
  const productId = await harness.product()
  const [member, free] = [await harness.checkout({ productId, qty: 1 }), await harness.checkout({ productId, qty: 1 })]
  const unlockProduct = await keepLocked(harness.dsn, 'select from order_service.products where product_id = $1 for update', [productId])
  t.like(await take(one, 'reserve', [member]), { isAcquired: false, isLocked: true })
  await unlockProduct()
  const unlockCheckout = await keepLocked(harness.dsn, 'select from order_service.checkouts where order_id = $1 for update', [member.id])
  const taken = await take(one, 'reserve', [member, free])
  t.deepEqual([taken.state(member), taken.state(free)], ['locked', 'ready'])
  t.like(await callRow(productId), { qty: 1 })
  await unlockCheckout()
})

test.serial('no checkout is in a call that has ended, is past its deadline, has its hold, or is another attempt’s', async (t) => {
  const productId = await harness.product()
  const members: Checkout[] = []
  for (let i = 0; i < 4; i += 1) members.push(await harness.checkout({ productId, qty: 1 }))
  const [ended, late, recorded, overtaken] = members as [Checkout, Checkout, Checkout, Checkout]
  await one.checkouts.cancel(ended.id, { status: 503, detail: 'too late' })
  await harness.ask(`update order_service.checkouts set deadline_at = now() where order_id = $1`, [late.id])
  await harness.ask(`update order_service.checkouts set recovery_point = 'reserve-stock' where order_id = $1`, [recorded.id])
  await one.checkouts.resume(overtaken.id)
  const { isAcquired, state } = await take(one, 'reserve', members)
  t.false(isAcquired, 'there is nobody to call for')
  t.deepEqual(members.map(state), ['ended', 'ended', 'recorded', 'ended'])
  t.like(await callRow(productId), { call_id: null })
})

test.serial('an attempt is in no second call while its first one has no answer', async (t) => {
  const productId = await harness.product()
  const [member, newcomer] = [await harness.checkout({ productId, qty: 1 }), await harness.checkout({ productId, qty: 1 })]
  const first = await take(other, 'reserve', [member])
  const next = { callId: await other.callIds(), verb: 'check' as const, qty: 0 }
  await other.products.continueCall(first, { next, isUnanswered: true })
  await other.products.releaseCalls([{ ...first, callId: next.callId }])

  const taken = await take(one, 'reserve', [member, newcomer])

  t.deepEqual([taken.state(member), taken.state(newcomer)], ['unresolved', 'ready'])
  t.deepEqual(taken.checks, [productId], 'reading Catalog tells')
})

test.serial('two payments of one order put only the first into the call', async (t) => {
  const productId = await harness.product()
  const orderId = await harness.order({ productId, qty: 2 })
  const events = [await harness.payment(orderId, 'a'), await harness.payment(orderId, 'b')]
  const { isAcquired, state } = await take(one, 'commit', events)
  t.true(isAcquired)
  t.deepEqual(events.map(state), ['ready', 'unresolved'])
  t.like(await callRow(productId), { call_verb: 'commit', qty: 2 })
})

test.serial('a lease is renewed, or passed to the next call, only by its owner on all its products', async (t) => {
  const [a, b] = [await harness.product(), await harness.product()]
  const taken = await take(one, 'reserve', [await harness.checkout({ productId: a, qty: 1 }, { productId: b, qty: 1 })])
  await harness.ask(`update order_service.products set call_expires_at = now() + interval '1 ms' where product_id = any($1)`, [[a, b]])
  t.true((await one.products.continueCall(taken))! > Date.now() + 1000)

  const next = { callId: await one.callIds(), verb: 'check' as const, qty: 0 }
  t.truthy(await one.products.continueCall(taken, { next, isUnanswered: true }))
  t.deepEqual(await harness.unanswered(a), [{ call: 'reserve 1', found: null }])
  t.deepEqual(await harness.unanswered(b), [{ call: 'reserve 1', found: null }])
  t.is(await one.products.continueCall(taken), undefined, 'the number has been used')

  await harness.ask('update order_service.products set call_id = call_id + 1000000 where product_id = $1', [b])
  t.is(await one.products.continueCall({ ...taken, callId: next.callId }), undefined, 'one of its products is lost')
})

test.serial('a lease is released only by its owner', async (t) => {
  const productId = await harness.product()
  const taken = await take(one, 'check', [check(productId)])
  await one.products.releaseCalls([{ ...taken, callId: taken.callId + 1 }])
  t.like(await callRow(productId), { call_id: taken.callId })
  await one.products.releaseCalls([taken])
  t.like(await callRow(productId), { call_id: null, call_verb: null, qty: null, call_by: null })
})

test.serial('a lease whose product row is locked for a moment is released as soon as the row is free', async (t) => {
  const productId = await harness.product()
  const taken = await take(one, 'check', [check(productId)])
  const unlock = await keepLocked(harness.dsn, 'select from order_service.products where product_id = $1 for update', [productId])
  const released = one.products.releaseCalls([taken])
  await unlock()
  await released
  t.like(await callRow(productId), { call_id: null })
})

/** A call to reserve that Catalog has carried out, for checkouts of so many units each. */
async function reserved(...quantities: number[]) {
  const productId = await harness.product()
  const members: Checkout[] = []
  for (const qty of quantities) members.push(await harness.checkout({ productId, qty }))
  const { callId } = await take(one, 'reserve', members)
  const record = { callId, productIds: [productId], members: members.map(({ id, products }) => ({ orderId: id, products })) }
  return { productId, members, callId, record }
}

test.serial('a reserve is recorded once: a record that comes twice changes nothing', async (t) => {
  const { productId, members, record } = await reserved(2, 3)
  t.deepEqual((await one.checkouts.recordHolds(record)).orderIds.toSorted(), members.map(({ id }) => id).toSorted())
  t.like(await harness.row(productId), { held: 5, hold: 0, call: null })
  const again = await one.checkouts.recordHolds(record)
  t.deepEqual(again.orderIds, [])
  t.true(await one.products.applyChanges(productId))
  t.like(await harness.row(productId), { held: 5, hold: 0, call: null })
})

test.serial('the units of one that was cancelled while its call was under way are Catalog’s to get back', async (t) => {
  const { productId, members, record } = await reserved(2, 3)
  await one.checkouts.cancel(members[0]!.id, { status: 503, detail: 'too late' })
  t.deepEqual((await one.checkouts.recordHolds(record)).orderIds, [members[1]!.id])
  t.true(await one.products.applyChanges(productId))
  t.like(await harness.row(productId), { held: 3, hold: 2, call: null })
})

test.serial('a record whose product row somebody has locked is kept in product_changes, and applied once', async (t) => {
  const { productId, members, record } = await reserved(2)
  const unlock = await keepLocked(harness.dsn, 'select from order_service.products where product_id = $1 for update', [productId])
  const recorded = await one.checkouts.recordHolds(record)
  t.deepEqual(recorded, { orderIds: [members[0]!.id], missedProducts: [productId] })
  t.false(await one.products.applyChanges(productId), 'it is still locked')
  await unlock()

  t.true(await one.products.applyChanges(productId))
  t.like(await harness.row(productId), { held: 2, hold: 0, call: null })
  t.true(await one.products.applyChanges(productId))
  t.like(await harness.row(productId), { held: 2, hold: 0, call: null })
  t.deepEqual(await harness.ask('select from order_service.product_changes where product_id = $1', [productId]), [])
})

test.serial('a record that is late, its lease having been taken over, counts once, whoever applies it', async (t) => {
  const { productId, members, record } = await reserved(2)
  await harness.expire(productId)
  const taker = await take(other, 'check', [check(productId)])

  const recorded = await one.checkouts.recordHolds(record)
  t.deepEqual(recorded, { orderIds: [members[0]!.id], missedProducts: [productId] })
  await Promise.all([one.products.applyChanges(productId), other.products.applyChanges(productId)])
  while (!(await one.products.applyChanges(productId)));

  t.like(await harness.row(productId), { held: 2, hold: 0, call: 'check' })
  t.deepEqual(await harness.unanswered(productId), [{ call: 'reserve 2', found: 'happened' }])
  await other.products.releaseCalls([taker])
})

test.serial('a record that comes after reading Catalog has told the same counts no second time', async (t) => {
  const { productId, members, record } = await reserved(2)
  harness.catalog.inventory.get(productId)!.reserved = 2
  await harness.expire(productId)
  await other.stock.reconcile(productId)
  t.like(await harness.row(productId), { held: 2, hold: 0, call: null })
  const [row] = await harness.ask('select recovery_point from order_service.checkouts where order_id = $1', [members[0]!.id])
  t.deepEqual(row, { recovery_point: 'reserve-stock' })

  t.deepEqual((await one.checkouts.recordHolds(record)).orderIds, [])
  t.true(await one.products.applyChanges(productId))
  t.like(await harness.row(productId), { held: 2, hold: 0, call: null })
})

/** A call to commit that Catalog has carried out, for orders of so many units each that hold them. */
async function committed(foreign: number, ...quantities: number[]) {
  const productId = await harness.product({ foreign })
  const payments = []
  for (const qty of quantities) payments.push(await harness.payment(await harness.order({ productId, qty })))
  await one.products.applyChanges(productId)
  await harness.ask('update order_service.products set hold_correction = 0 where product_id = $1', [productId]) // Catalog has them
  const { callId } = await take(one, 'commit', payments)
  const record = { callId, productIds: [productId], members: payments.map(({ id, products }) => ({ eventId: id, products })) }
  return { productId, payments, record }
}

test.serial('a commit is recorded once, with its orders PAID and their events applied', async (t) => {
  const { productId, payments, record } = await committed(0, 2, 3)
  t.like(await harness.row(productId), { held: 5, expected: 10 })
  t.deepEqual((await one.payments.recordPaid(record)).eventIds.toSorted(), payments.map(({ id }) => id).toSorted())
  t.like(await harness.row(productId), { held: 0, hold: 0, expected: 5, stock: 0, call: null })
  t.deepEqual(await harness.statusOf(payments.map(({ orderId }) => orderId)), ['PAID', 'PAID'])
  t.deepEqual((await one.payments.recordPaid(record)).eventIds, [])
  t.true(await one.products.applyChanges(productId))
  t.like(await harness.row(productId), { held: 0, hold: 0, expected: 5, stock: 0, call: null })
})

test.serial('a commit of units whose holds Catalog had lost makes up for as many of those that are missing', async (t) => {
  const { productId, record } = await committed(0, 2, 1)
  await harness.ask('update order_service.products set foreign_holds = -2 where product_id = $1', [productId])
  await one.payments.recordPaid(record)
  // One was held, three were committed: nothing is held, and nothing is missing.
  t.like(await harness.row(productId), { held: 0, foreign: 0, hold: 0, expected: 7, stock: 0 })
})

test.serial('a commit that took units which nobody held is no hold of others: only the stock is short', async (t) => {
  const { productId, payments, record } = await committed(0, 2)
  await harness.ask(`update public.orders set status = 'PAID' where id = $1`, [payments[0]!.orderId]) // paid by another call
  await one.products.applyChanges(productId)
  await harness.ask('update order_service.products set hold_correction = 0 where product_id = $1', [productId])
  t.deepEqual((await one.payments.recordPaid(record)).eventIds, [])
  t.like(await harness.row(productId), { held: 0, foreign: 0, hold: 0, expected: 10, stock: -2 })
})

test.serial('a commit whose order somebody has locked is recorded for the others, and comes off for the one in the end', async (t) => {
  const { productId, payments, record } = await committed(0, 2, 3)
  const unlock = await keepLocked(harness.dsn, 'select from public.orders where id = $1 for update', [payments[0]!.orderId])
  t.deepEqual((await one.payments.recordPaid(record)).eventIds, [payments[1]!.id])
  t.like(await harness.row(productId), { held: 2, hold: -2, expected: 7, stock: -2, call: null })
  await unlock()
})

test.serial('an order without items is paid without a call', async (t) => {
  const payment = await harness.payment(await harness.order())
  t.is(await one.commit(payment), 'done')
  t.deepEqual(await harness.statusOf([payment.orderId]), ['PAID'])
})
