/** Completions of one checkout that travel in one batch. */
import test from 'ava'
import { type Harness, openHarness } from '../stock/harness.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness()
})
test.after.always(() => harness?.close())

test('an attempt that was taken over completes nothing, and adds no second event, also in one batch with its successor', async (t) => {
  const worker = harness.worker()
  const { checkouts } = worker
  const products = [{ productId: await harness.product(), qty: 2 }]
  const { orderId, lease } = await harness.intent(worker, ...products)
  await checkouts.resume(orderId)
  const hold = { callId: lease!.callId, products }

  const [first, second, again] = await Promise.all([
    checkouts.complete({ orderId, attempt: 1 }, hold),
    checkouts.complete({ orderId, attempt: 2 }, hold),
    checkouts.complete({ orderId, attempt: 2 }, hold),
  ])

  t.is(first, undefined)
  t.like(second, { state: 'CREATED', orderId })
  t.deepEqual(again, second)
  t.is((await harness.ask('select from order_service.outbox where order_id = $1', [orderId])).length, 1)
  t.like(await harness.row(products[0]!.productId), { held: 2, hold: 0, call: null })
})
