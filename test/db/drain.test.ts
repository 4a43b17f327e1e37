/** What is let in at the moment of a drain: nothing that the drain does not know of, whatever each statement had seen by then. */
import test from 'ava'
import { Client } from 'pg'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { Drained, drain, readDrain, readEntering, readOpenWork, undoDrain } from '../../src/db/drain.ts'
import { receive } from '../../src/db/inbox.ts'
import type { Intent } from '../../src/model.ts'
import { createPaymentBridge } from '../../src/kafka/payment-bridge.ts'
import type { Batch } from '../../src/kafka/membership.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { paymentOf } from '../payment/harness.ts'
import { createDatabase, query } from '../support/database.ts'
import { openIntents } from '../support/intent.ts'
import { demoAddress } from '../support/shop.ts'
import { until } from '../support/until.ts'

let database: Awaited<ReturnType<typeof createDatabase>>
/** Of a process that serves customers, and of the operator. */
let pool: Pool
let operator: Pool
test.before(async () => {
  database = await createDatabase()
  pool = await connectPool(database.dsn, { size: 2, logger: createLogger('silent') })
  operator = await connectPool(database.dsn, { size: 2, logger: createLogger('silent') })
})
test.afterEach.always(async () => {
  await undoDrain(operator)
  await query(database.dsn, 'truncate order_service.checkouts, order_service.payment_events, order_service.bridge_totals cascade')
})
test.after.always(async () => {
  await pool?.end()
  await operator?.end()
  await database?.drop()
})

/** As the command begins a drain. */
async function begin(by: Pool): Promise<string[]> {
  await drain(by)
  return readEntering(by)
}

let customers = 0
function intent(): Intent {
  customers += 1
  const lines = [{ product_id: 1, qty: 1, unit_price_cents: 100, title_snapshot: '' }]
  const common = { requestHash: 'hash', lines, address: demoAddress, totalCents: 100, budgetMs: 8000 }
  return { userEmail: `c${customers}@example.com`, idempotencyKey: 'key', ...common }
}

/** A session with an open transaction, in which this was done. */
async function inTransaction(t: { teardown(end: () => Promise<void>): void }, text: string, values: unknown[] = []): Promise<Client> {
  const session = new Client({ connectionString: database.dsn })
  session.on('error', () => {})
  t.teardown(() => session.end())
  await session.connect()
  await session.query('begin')
  await session.query(text, values)
  return session
}
const somebodyWaits = () => query(database.dsn, 'select from pg_locks where not granted')

const lastOrderId = async () => (await query(database.dsn, 'select last_value, is_called from public.orders_id_seq'))[0]

test.serial(
  'an intent is not written while the service is drained, and draws no order id; a key that was taken before still is',
  async (t) => {
    const intents = openIntents(pool)
    const known = intent()
    const first = await intents.intend(known)
    t.is(first.claim, 'new')
    const before = await lastOrderId()
    t.deepEqual(await begin(operator), [])
    t.true((await readDrain(operator)) instanceof Date)

    const [again, another] = await Promise.all([intents.intend(known), intents.intend(intent())])
    t.is(again.claim, 'taken')
    t.deepEqual(another, { claim: 'drained' })
    t.deepEqual(await lastOrderId(), before)

    t.true(await undoDrain(operator))
    t.false(await undoDrain(operator))
    t.is((await intents.intend(intent())).claim, 'new')
  },
)

test.serial('an intent whose statement began before the drain and got its table after it is refused', async (t) => {
  const intents = openIntents(pool)
  for (let i = 0; i < 8; i++) await intents.intend(intent()) // its plan is kept by now
  const locker = await inTransaction(t, 'lock table order_service.checkouts in access exclusive mode')
  const intended = intents.intend(intent())
  await until(somebodyWaits, (rows) => rows.length === 1)

  t.deepEqual(await begin(operator), [])
  await locker.query('commit')

  t.deepEqual(await intended, { claim: 'drained' })
})

test.serial('the drain is not over while an intent that began before it may still be written', async (t) => {
  const one = intent()
  const locker = await inTransaction(
    t,
    `insert into order_service.checkouts (order_id, user_email, idempotency_key, request_hash, lines, address, total_cents, deadline_at)
     values (900000, $1, $2, '', '[]', '{}', 0, now())`,
    [one.userEmail, one.idempotencyKey],
  )
  const intended = openIntents(pool).intend(one)
  await until(somebodyWaits, (rows) => rows.length === 1)

  const earlier = await begin(operator)
  t.like((await readOpenWork(operator, earlier))?.open, { transactions: 2, checkouts: 0 })
  await locker.query('rollback')

  t.is((await intended).claim, 'new')
  t.like((await readOpenWork(operator, earlier))?.open, { transactions: 0, checkouts: 1 })
})

test.serial('new payments are not received while the service is drained; those received before are told as such', async (t) => {
  const source = { topic: 'payments', partition: 0 }
  const [before, after] = [paymentOf({ orderId: 1, totalCents: 100 }), paymentOf({ orderId: 2, totalCents: 100 })]
  await receive(pool, source, [before])
  await begin(operator)

  t.deepEqual((await receive(pool, source, [before])).receipts, ['duplicate'])
  await t.throwsAsync(receive(pool, source, [before, after]), { instanceOf: Drained })

  t.is((await query(database.dsn, 'select from order_service.payment_events')).length, 1)
  await undoDrain(operator)
  t.deepEqual((await receive(pool, source, [before, after])).receipts, ['duplicate', 'received'])
})

test.serial('the drain is not over while a batch of payments that began before it may still be received', async (t) => {
  const source = { topic: 'payments', partition: 0 }
  await receive(pool, source, [paymentOf({ orderId: 1, totalCents: 100 })])
  const locker = await inTransaction(t, 'select from order_service.bridge_totals for update')
  const receiving = receive(pool, source, [paymentOf({ orderId: 2, totalCents: 100 })])
  await until(somebodyWaits, (rows) => rows.length === 1)

  const earlier = await begin(operator)
  t.like((await readOpenWork(operator, earlier))?.open, { transactions: 1, payments: 1 })
  await locker.query('commit')

  await receiving
  t.like((await readOpenWork(operator, earlier))?.open, { transactions: 0, payments: 2 })
})

test.serial('a bridge passes the messages that were received before a drain, and stops before the first new one', async (t) => {
  let onBatch: ((batch: Batch) => Promise<void>) | undefined
  createPaymentBridge({
    pool,
    queue: { addTogether: async () => {}, addAgain: async () => {} },
    kafka: {
      consumer(options) {
        onBatch = options.onBatch
        return undefined as never
      },
    },
    topic: 'payments',
    group: 'order-service',
    logger: createLogger('silent'),
    metrics: createMetrics(),
  })
  const passed: bigint[] = []
  const batchOf = (messages: Batch['messages']): Batch => ({
    topic: 'payments',
    partition: 0,
    messages,
    isOurs: () => true,
    done: async (offset) => void passed.push(offset),
  })
  const messages = [1, 2, 3, 4].map((orderId) => {
    const value = JSON.stringify({ type: 'payment.succeeded', order_id: orderId, amount_cents: 100, currency: 'USD' })
    return { offset: BigInt(orderId), key: null, value: Buffer.from(value), headers: [], sentAt: new Date() }
  })
  await onBatch!(batchOf(messages.slice(0, 2)))
  passed.length = 0 // the group has not heard of it
  await begin(operator)

  await t.throwsAsync(onBatch!(batchOf(messages)), { instanceOf: Drained })

  t.deepEqual(passed, [1n, 2n])
  t.is((await query(database.dsn, 'select from order_service.payment_events')).length, 2)
})
