import { createHash } from 'node:crypto'
import test from 'ava'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { createIntents } from '../../src/db/intents.ts'
import { type ReadMessage, receive } from '../../src/db/inbox.ts'
import { resumePayment } from '../../src/db/payment-events.ts'
import { createPayments } from '../../src/db/payments.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createStockLedger } from '../../src/db/stock-ledger.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase, query } from '../support/database.ts'
import { demoAddress } from '../support/shop.ts'

let database: Awaited<ReturnType<typeof createDatabase>>
let pool: Pool
test.before(async () => {
  database = await createDatabase()
  pool = await connectPool(database.dsn, { size: 10, logger: createLogger('silent') })
})
test.after.always(async () => {
  await pool?.end()
  await database?.drop()
})

const products = [1, 2, 3, 4, 5]
const PIECES = 1_000_000
const ROUNDS = 25
const AT_ONCE = 8

/** An order of all products, in an order of their own, with a payment that waits. */
async function paidOrder(n: number): Promise<{ eventId: number; attempt: number; orderId: number }> {
  const orderId = 100_000 + n
  await query(database.dsn, `insert into public.orders (id, user_email, total_cents) values ($1, 'a@example.com', 500)`, [orderId])
  await query(
    database.dsn,
    `insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
     select $1, id, 1, 100, '' from unnest($2::int[]) id order by random()`,
    [orderId, products],
  )
  const value = Buffer.from(String(orderId))
  const message: ReadMessage = {
    offset: BigInt(n),
    key: null,
    value,
    headers: [],
    sentAt: new Date(),
    read: 'event',
    event: {
      type: 'payment.succeeded',
      orderId,
      amountCents: 500,
      currency: 'USD',
      provider: null,
      paymentId: null,
      details: {},
    },
    identity: createHash('sha256').update(value).digest('hex'),
  }
  const { waiting } = await receive(pool, { topic: 'payment.events', partition: 0 }, [message])
  return { eventId: waiting[0]!.eventId, attempt: waiting[0]!.attempt!, orderId }
}

test('payments, their doubts, holds on record and cancelled checkouts of the same products never wait for each other in a circle', async (t) => {
  for (const id of products) {
    await query(database.dsn, 'insert into order_service.products (product_id, drift, predicted_stock) values ($1, 0, $2)', [id, PIECES])
  }
  const intents = createIntents(pool)
  const ledger = createStockLedger(pool)
  // Several of each, as several processes have them: batches of one would not meet.
  const several = Array.from({ length: 3 }, () => ({
    payments: createPayments(pool, { emitPaid: true, relay: undefined }),
    checkouts: createCheckouts(pool),
  }))
  const lines = products.toReversed().map((product_id) => ({ product_id, qty: 1, unit_price_cents: 100, title_snapshot: '' }))
  let n = 0
  let paid = 0
  const holds = products.map((productId) => ({ productId, epoch: 1 }))

  for (let round = 0; round < ROUNDS; round += 1) {
    const orders = await Promise.all(Array.from({ length: AT_ONCE }, () => paidOrder(++n)))
    const begun = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, i) =>
        intents.intend({
          userEmail: `c${n}-${i}@example.com`,
          idempotencyKey: 'key',
          requestHash: 'hash',
          lines,
          address: demoAddress,
          totalCents: 500,
          budgetMs: 60_000,
        }),
      ),
    )
    const results = await Promise.all([
      ...orders.map(async ({ eventId, attempt, orderId }, i) => {
        const { payments } = several[i % several.length]!
        const resumed = i % 2 === 0 ? attempt : (await resumePayment(pool, eventId))!
        const calls = products.map((productId) => ({ productId, qty: 1, verb: 'commit' as const, orderId, attempt: resumed }))
        const [counts] = await Promise.all([
          payments.markPaid(
            { eventId, attempt: resumed },
            products.map((productId) => ({ productId, qty: 1, epoch: 1 })),
          ),
          ledger.doubt(calls.toReversed()),
        ])
        return counts
      }),
      ...begun.map(async ({ orderId }, i) => {
        const { checkouts } = several[i % several.length]!
        await checkouts.recordReserved({ orderId, attempt: 1 }, holds)
        const { won, freed } = await checkouts.cancel(orderId, { status: 503, detail: 'too late' })
        return won && freed.length === products.length
      }),
    ])
    t.true(results.every(Boolean))
    paid += AT_ONCE
  }

  const rows = await query(database.dsn, 'select product_id, predicted_stock::int, extra_hold::int from order_service.products order by 1')
  t.deepEqual(
    rows,
    products.map((product_id) => ({ product_id, predicted_stock: PIECES - paid, extra_hold: ROUNDS * AT_ONCE })),
  )
})
