/** A shipment that is refused while the record of the hold got no answer: nobody may call that hold settled. */
import type { Job } from 'bullmq'
import test from 'ava'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { createCheckoutProcessor } from '../../src/processors/checkout.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { query } from '../support/database.ts'
import { opened } from '../support/intent.ts'
import { type Counter, leasesAtOnce, openCounter } from '../stock/counter.ts'

let counter: Counter
test.before(async () => {
  counter = await openCounter()
})
test.after.always(() => counter?.close())

test('a refused shipment does not settle a reserve whose record got no answer: the call stays in doubt', async (t) => {
  const productId = await counter.product()
  const { orderId, products } = await opened(counter.pool, { productId, qty: 2 })
  const verbs = createCheckouts(counter.pool)
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
    budgetMs: 8000,
  })
  const deadline = Math.max(Date.now(), counter.clock.wallTime()) + 8000
  const job = {
    data: { checkouts: [{ orderId, products, deadline, replyTo: null, tries: 0 }] },
    attemptsStarted: 1,
    attemptsMade: 0,
  }

  await drive(Object.assign(job, { updateProgress: async () => {}, log: async () => 0 }) as unknown as Job)

  const [row] = await query(counter.dsn, 'select state, recovery_point, reserve_call from order_service.checkouts where order_id = $1', [
    orderId,
  ])
  t.deepEqual(row, { state: 'CANCELLED', recovery_point: 'intent', reserve_call: 'unknown' })
})
