/** When a hold goes on record: along with its order, or on its own, and never for a call that the products are not in any more. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { Checkouts } from '../../src/db/checkouts.ts'
import type { CheckoutRun } from '../../src/processors/checkout-run.ts'
import { deferRecord } from '../../src/processors/defer-record.ts'
import { type Harness, openHarness } from '../stock/harness.ts'
import { hostClock } from '../support/clock.ts'
import { until } from '../support/until.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness()
})
test.after.always(() => harness?.close())

/** A checkout that Catalog has just held a unit for, all by itself. `log` says which statements were sent. */
async function reserved({ isPatient = true } = {}) {
  const log: string[] = []
  const worker = harness.worker('web', ({ recordHolds }) => ({
    recordHolds(call) {
      log.push('record')
      return recordHolds(call)
    },
  }))
  const verbs = worker.checkouts
  const checkouts: Checkouts = {
    ...verbs,
    complete(attempt, hold) {
      log.push(hold ? 'complete with hold' : 'complete')
      return verbs.complete(attempt, hold)
    },
  }
  const productId = await harness.product()
  const { orderId, products, lease, deadlineAt } = await harness.intent(worker, { productId, qty: 1 })
  const clock = { ...hostClock, sleep: (ms: number) => (isPatient ? new Promise<never>(() => {}) : sleep(ms)) }
  const run = { orderId, attempt: 1, recoveryPoint: 'intent' } as CheckoutRun
  const answer = await worker.stock.reserve({ id: orderId, attempt: 1, products, deadline: deadlineAt.getTime() }, lease)
  if (answer.result !== 'done' || !answer.hold) throw new Error('the hold is left to the checkout')
  return { run, record: deferRecord(run, answer.hold, checkouts, clock), log, worker, orderId, productId }
}

const row = async (orderId: number) =>
  (await harness.ask('select state, recovery_point from order_service.checkouts where order_id = $1', [orderId]))[0]

test('a completion that comes at once also records the reserve, and frees the product', async (t) => {
  const { run, record, log, orderId, productId } = await reserved()
  t.like(await harness.row(productId), { held: 0, call: 'reserve' })
  t.like(await record.complete(), { state: 'CREATED', orderId })
  t.deepEqual(log, ['complete with hold'])
  t.is(run.recoveryPoint, 'reserve-stock')
  t.like(await harness.row(productId), { held: 1, hold: 0, call: null })
})

test('a hold is recorded at once where somebody in this process waits for the product', async (t) => {
  const { worker, orderId, productId, record, log } = await reserved()
  const other = await harness.checkout({ productId, qty: 1 })
  t.is(await worker.reserve(other), 'done')
  t.deepEqual(await row(orderId), { state: 'OPEN', recovery_point: 'reserve-stock' })
  await record.written()
  t.like(await record.complete(), { state: 'CREATED' })
  t.is(log.at(-1), 'complete')
  t.like(await harness.row(productId), { held: 2, hold: 0, call: null })
})

test('a hold is recorded on its own where the completion takes long', async (t) => {
  const { orderId, productId, record, log } = await reserved({ isPatient: false })
  await until(
    () => harness.row(productId),
    ({ call }) => call === null,
  )
  t.deepEqual(await row(orderId), { state: 'OPEN', recovery_point: 'reserve-stock' })
  t.like(await record.complete(), { state: 'CREATED' })
  t.deepEqual(log, ['record', 'complete'])
})

test('a completion that is refused for its deadline leaves the hold on record, for whoever cancels', async (t) => {
  const { record, worker, orderId, productId } = await reserved()
  await harness.ask(`update order_service.checkouts set deadline_at = now() - interval '1 ms' where order_id = $1`, [orderId])
  t.is(await record.complete(), undefined)
  t.deepEqual(await row(orderId), { state: 'OPEN', recovery_point: 'reserve-stock' })
  t.deepEqual((await worker.checkouts.cancel(orderId, { status: 503, detail: 'too late' })).toReconcile, [productId])
})

test('a completion of a checkout that was cancelled meanwhile makes no order, and its unit is given back', async (t) => {
  const { record, worker, orderId, productId } = await reserved()
  t.deepEqual((await worker.checkouts.cancel(orderId, { status: 503, detail: 'too late' })).toReconcile, [productId])
  t.is(await record.complete(), undefined)
  t.like(await row(orderId), { state: 'CANCELLED' })
  t.like(await harness.row(productId), { held: 0, hold: 1, call: null })
  t.true(worker.woken.includes(productId))
  await worker.stock.reconcile(productId)
  t.deepEqual(harness.catalog.inventory.get(productId), { inStock: 10, reserved: 0 })
})
