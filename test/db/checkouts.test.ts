/** Completions of one checkout that travel in one batch. */
import test from 'ava'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { createIntents } from '../../src/db/intents.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { type Counter, openCounter } from '../stock/counter.ts'
import { query } from '../support/database.ts'
import { demoAddress } from '../support/shop.ts'

let counter: Counter
let pool: Pool
test.before(async () => {
  counter = await openCounter()
  pool = await connectPool(counter.dsn, { size: 2, logger: createLogger('silent') })
})
test.after.always(async () => {
  await pool?.end()
  await counter?.close()
})

test('an attempt that was taken over completes nothing, and adds no second event, also in one batch with its successor', async (t) => {
  const productId = await counter.product()
  const intended = await createIntents(pool).intend({
    userEmail: 'ada@example.com',
    idempotencyKey: 'key',
    requestHash: 'hash',
    lines: [{ product_id: productId, qty: 2, unit_price_cents: 100, title_snapshot: 'Air Zoom' }],
    address: demoAddress,
    totalCents: 200,
    budgetMs: 8000,
  })
  if (intended.claim !== 'new') throw new Error('not a new one')
  const { orderId } = intended
  const checkouts = createCheckouts(pool)
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
