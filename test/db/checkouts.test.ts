/** Completions of one checkout that travel in one batch. */
import test from 'ava'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { type Counter, openCounter } from '../stock/counter.ts'
import { query } from '../support/database.ts'
import { opened } from '../support/intent.ts'

let counter: Counter
test.before(async () => {
  counter = await openCounter()
})
test.after.always(() => counter?.close())

test('an attempt that was taken over completes nothing, and adds no second event, also in one batch with its successor', async (t) => {
  const productId = await counter.product()
  const { orderId } = await opened(counter.pool, { productId, qty: 2 })
  const checkouts = createCheckouts(counter.pool)
  const { epoch } = await counter.row(productId)
  await checkouts.resume(orderId)
  const hold = [{ productId, epoch }]

  const [first, second, again] = await Promise.all([
    checkouts.complete({ orderId, attempt: 1 }, hold),
    checkouts.complete({ orderId, attempt: 2 }, hold),
    checkouts.complete({ orderId, attempt: 2 }, hold),
  ])

  t.is(first, undefined)
  t.like(second, { state: 'CREATED', orderId })
  t.deepEqual(again, second)
  t.is((await query(counter.dsn, 'select from order_service.outbox where order_id = $1', [orderId])).length, 1)
})
