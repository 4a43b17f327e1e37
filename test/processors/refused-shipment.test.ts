/** A shipment that is refused while the record of the hold got no answer: nobody may call that hold settled. */
import type { Job } from 'bullmq'
import test from 'ava'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { createIntents } from '../../src/db/intents.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createCheckoutProcessor } from '../../src/processors/checkout.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { query } from '../support/database.ts'
import { demoAddress } from '../support/shop.ts'
import { type Counter, leasesAtOnce, openCounter } from '../stock/counter.ts'

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

test('a refused shipment does not settle a reserve whose record got no answer: the call stays in doubt', async (t) => {
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
  const { orderId, products } = intended
  const verbs = createCheckouts(pool)
  const silent = async () => {
    throw new Error('PostgreSQL did not answer')
  }
  const drive = createCheckoutProcessor({
    checkouts: { ...verbs, recordReserved: silent },
    stock: { ...counter, leases: leasesAtOnce().leases, wakeMender: () => {} },
    shipping: { create: async () => ({ answer: 'refused', detail: 'no such country' }), has: async () => false },
    reply: async () => {},
    addAgain: async () => {},
    logger: createLogger('silent'),
    metrics: createMetrics(),
    underWay: new Map(),
    mostWaiting: 100,
  })
  const deadline = Math.max(Date.now(), counter.clock.wallTime()) + 8000
  const job = { data: { checkouts: [{ orderId, products, deadline, replyTo: null, tries: 0 }] }, attemptsStarted: 1, attemptsMade: 0 }

  await drive(Object.assign(job, { updateProgress: async () => {}, log: async () => 0 }) as unknown as Job)

  const [row] = await query(counter.dsn, 'select state, recovery_point, reserve_call from order_service.checkouts where order_id = $1', [
    orderId,
  ])
  t.deepEqual(row, { state: 'CANCELLED', recovery_point: 'intent', reserve_call: 'unknown' })
})
