/** What is pruned after its time, what never is, and what a customer or an operator sees of it. */

import test, { type ExecutionContext } from 'ava'
import { Client } from 'pg'
import { listLetters } from '../../src/db/dead-letters.ts'
import { discardLetters, replayEvents } from '../../src/db/handle-letters.ts'
import { createPaymentEvents } from '../../src/db/payment-events.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createReaper } from '../../src/processors/reaper.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { admin } from '../admin/command.ts'
import { openHarness, paymentOf } from '../payment/harness.ts'
import { hostClock } from '../support/clock.ts'
import { createDatabase, query } from '../support/database.ts'
import { demoAddress, openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const logger = createLogger('silent')
const DAY_MS = 86_400_000
const retention = { outboxMs: 7 * DAY_MS, checkoutMs: 30 * DAY_MS, inboxMs: 90 * DAY_MS, reconciliationsMs: 90 * DAY_MS }
const nothingPruned = {
  outbox: 0,
  checkouts: 0,
  payment_events: 0,
  dead_letters: 0,
  reconciliations: 0,
  ambiguities: 0,
  unanswered_calls: 0,
  operator_actions: 0,
  operator_action_items: 0,
  minutes: 0,
  processes: 0,
}

function hire(pool: Pool, { batchRows = 500 } = {}) {
  const metrics = createMetrics()
  return { reap: createReaper({ pool, retention, logger, metrics, batchRows, pause: async () => {} }), metrics }
}

async function open(t: ExecutionContext) {
  const database = await createDatabase()
  const pool = await connectPool(database.dsn, { size: 2, logger })
  t.teardown(async () => {
    await pool.end()
    await database.drop()
  })
  return { dsn: database.dsn, pool, ask: (text: string, values?: unknown[]) => query(database.dsn, text, values) }
}

test('acknowledged events are pruned after a week, batch by batch; unsent and refused ones stay however old', async (t) => {
  const { pool, ask } = await open(t)
  const insert = (count: number, sent: string, rest = '') =>
    ask(`insert into order_service.outbox (event_id, order_id, type, payload, created_at, sent_at${rest && ', undeliverable_at, undeliverable_reason'})
      select gen_random_uuid(), n, 'order.created', '{}', now() - interval '1 year', ${sent}${rest} from generate_series(1, ${count}) n`)
  await insert(1200, `now() - interval '8 days'`)
  await insert(3, `now() - interval '6 days'`)
  await insert(2, 'null')
  await insert(1, 'null', `, now() - interval '1 year', 'too large'`)

  const { reap, metrics } = hire(pool)
  t.deepEqual(await reap(), { ...nothingPruned, outbox: 1200 })
  t.deepEqual(await reap(), nothingPruned)

  const [left] = await ask(`select count(sent_at)::int as sent, count(*)::int as all from order_service.outbox`)
  t.deepEqual(left, { sent: 3, all: 6 })
  t.regex(await metrics.registry.metrics(), /order_pruned_total\{table="outbox"\} 1200/)
  const [next] = await ask(
    `insert into order_service.outbox (event_id, order_id, type, payload) values (gen_random_uuid(), 1, 'order.paid', '{}') returning id::int`,
  )
  t.deepEqual(next, { id: 1207 }, 'the numbers of events rise on')
})

test('the reaper skips locked rows, and its next run prunes them', async (t) => {
  const { dsn, pool, ask } = await open(t)
  await ask(`insert into order_service.outbox (event_id, order_id, type, payload, sent_at)
    select gen_random_uuid(), n, 'order.created', '{}', now() - interval '8 days' from generate_series(1, 10) n`)
  const other = new Client({ connectionString: dsn })
  await other.connect()
  await other.query('begin')
  await other.query('select from order_service.outbox where order_id <= 3 for update')
  const { reap } = hire(pool, { batchRows: 5 })
  t.like(await reap(), { outbox: 7 })
  await other.query('commit')
  await other.end()
  t.like(await reap(), { outbox: 3 })
})

test('a run of the reaper that is aborted ends after its current statement', async (t) => {
  const { pool, ask } = await open(t)
  await ask(`insert into order_service.outbox (event_id, order_id, type, payload, sent_at)
    select gen_random_uuid(), n, 'order.created', '{}', now() - interval '8 days' from generate_series(1, 10) n`)
  const stopping = new AbortController()
  const running = hire(pool, { batchRows: 5 }).reap(stopping.signal)
  stopping.abort()
  t.deepEqual(await running, { outbox: 5 })
})

test('reconciliations, ambiguities and unanswered calls are kept for ninety days', async (t) => {
  const { pool, ask } = await open(t)
  await ask(`insert into order_service.reconciliations (product_id, verb, qty, result, at)
    select 1, 'commit', 1, 'done', now() - n * interval '1 day' from generate_series(120, 1, -1) n`)
  await ask(`insert into order_service.ambiguities (product_id, too_many, too_few, explanation, at)
    select 1, 0, 1, 'two fitted', now() - n * interval '1 day' from generate_series(120, 1, -1) n`)
  const insertCalls = (found: string | null) =>
    ask(
      `insert into order_service.unanswered_calls (call_id, product_id, verb, qty, since, found)
       select n, $1, 'reserve', 1, now() - n * interval '1 day', $2 from generate_series(120, 1, -1) n`,
      [found === null ? 2 : 1, found],
    )
  await insertCalls('happened')
  await insertCalls(null)
  t.deepEqual(await hire(pool, { batchRows: 7 }).reap(), { ...nothingPruned, reconciliations: 31, ambiguities: 31, unanswered_calls: 31 })
  const [left] = await ask('select count(*)::int from order_service.unanswered_calls where found is null')
  t.deepEqual(left, { count: 120 }, 'one that nobody has found out about is never forgotten')
})

test('a finished checkout loses address and cart after a month; its key still gets the same order, and its outcome is still told', async (t) => {
  const shop = await openShop()
  t.teardown(shop.close)
  const pool = await connectPool(shop.dsn, { size: 2, logger })
  t.teardown(() => pool.end())
  const product = shop.catalog.product({ stock: 10 })
  const buyer = await shop.customer().wants({ product_id: product, qty: 2 })
  const bought = await buyer.checkout({ key: 'once' })
  t.is(bought.status, 200)
  const refusedCustomer = await shop.customer().wants({ product_id: product, qty: 11 })
  const refused = await refusedCustomer.checkout({ key: 'too-many' })
  t.is(refused.status, 409)
  const refusedId = Number(refused.headers.get('order-id'))
  const { reap } = hire(pool)
  t.like(await reap(), { checkouts: 0 }, 'not before its time')

  await shop.query(`update order_service.checkouts set created_at = created_at - interval '31 days'`)
  t.like(await reap(), { checkouts: 2 })
  t.like(await reap(), { checkouts: 0 })

  const again = await buyer.checkout({ key: 'once' })
  t.deepEqual([again.status, again.body], [200, bought.body])
  t.is(again.headers.get('idempotency-replayed'), 'true')
  t.is((await buyer.checkout({ key: 'once', address: { ...demoAddress, city: 'Cork' } })).status, 422, 'another body is still another one')
  t.is(shop.catalog.inventory(product)?.reserved, 2)
  t.like((await shop.get(`/order/v1/orders/${bought.body.order_id}`)).body, { status: 'CREATED', items: [{ product_id: product, qty: 2 }] })
  t.like((await shop.get(`/order/v1/orders/${refusedId}`)).body, { status: 'CANCELLED', reason: refused.body.detail, items: [] })

  const rows = await shop.query<{ row: string }>(`select c::text as row from order_service.checkouts c order by order_id`)
  for (const { row } of rows) t.notRegex(row, /Demo Street|Dublin|D01XYZ|Product/)
  t.false(rows[1]!.row.includes(refusedCustomer.email))
})

test('the reaper leaves an open checkout alone, however old', async (t) => {
  const { pool, ask } = await open(t)
  const insert = (id: number, state: string, outcome: string | null) =>
    ask(
      `insert into order_service.checkouts (order_id, user_email, request_hash, state, outcome, lines, address, total_cents, deadline_at, created_at)
       values ($1, 'c@example.com', 'hash', $2, $3, '[{"product_id": 1, "qty": 1}]', '{}', 1, now(), now() - interval '1 year')`,
      [id, state, outcome],
    )
  await insert(1, 'OPEN', null)
  await insert(2, 'CANCELLED', JSON.stringify({ status: 503, detail: 'too long' }))
  t.like(await hire(pool).reap(), { checkouts: 1 })
  t.deepEqual(await ask('select order_id from order_service.checkouts where pruned_at is not null'), [{ order_id: 2 }])
})

test('a dead letter that waits for a person is kept whole; one that was dealt with loses its bytes after its time, and is still known', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  const harness = await openHarness(shop)
  t.teardown(() => harness.close())
  const { pool } = harness
  async function died(orderId: number) {
    const message = paymentOf({ orderId, totalCents: 100 }, { provider: 'card', paymentId: `p-${orderId}` })
    const { eventId, attempt } = await harness.written(message)
    await createPaymentEvents(pool, hostClock).deadLetter({ eventId, attempt: attempt! }, 'cancelled', 'so it was')
    const letters = await listLetters(pool, { all: true, limit: 100 })
    return { message, eventId, id: letters.find((letter) => letter.eventId === eventId)!.id }
  }
  const waits = await died(1)
  const [discarded, unpublished, driven] = [await died(2), await died(3), await died(4)]
  await pool.transaction((tx) => discardLetters(tx, [discarded.id, unpublished.id], 'refunded, number 7'))
  await pool.transaction((tx) => replayEvents(tx, [driven.id]))
  await shop.query('update order_service.dead_letters set published_at = now() where id <> $1', [unpublished.id])
  await shop.query(`update order_service.dead_letters set last_at = now() - interval '1 year'`)
  await shop.query(`update order_service.payment_events set received_at = now() - interval '1 year'`)

  t.deepEqual(await hire(pool).reap(), { ...nothingPruned, dead_letters: 1 })

  const whole = await shop.query('select id::int from order_service.dead_letters where value is not null and pruned_at is null order by id')
  t.deepEqual(
    whole.map(({ id }) => id),
    [waits.id, unpublished.id, driven.id],
  )
  t.deepEqual(
    (await shop.query('select id::int from order_service.payment_events where value is null')).map(({ id }) => id),
    [discarded.eventId],
  )
  const env = { POSTGRES_DSN: shop.dsn, REDIS_URL: process.env.REDIS_URL!, REDIS_PREFIX: shop.prefix }
  const { out, code } = await admin(['dead-letters', 'show', String(discarded.id)], env)
  t.is(code, 0)
  t.regex(out, /reason for discarding +refunded, number 7\n/)
  t.regex(out, /bytes +pruned at \d{4}-/)

  // The payment told of once more is a duplicate of the dead one.
  await harness.written(discarded.message)
  const [{ count }] = (await shop.query<{ count: number }>('select count(*)::int from order_service.payment_events')) as [{ count: number }]
  t.is(count, 4)
})

test('a worker prunes at its start, after the days that its environment says', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  await shop.query(`insert into order_service.outbox (event_id, order_id, type, payload, sent_at)
    select gen_random_uuid(), n, 'order.created', '{}', now() - n * interval '1 day' from generate_series(1, 10) n`)
  await shop.start(['worker'], { PORT: '0', RETENTION_OUTBOX_DAYS: '3' })
  const left = await until(
    () => shop.query<{ order_id: number }>('select order_id from order_service.outbox order by 1'),
    (rows) => rows.length < 10,
  )
  t.deepEqual(
    left.map(({ order_id }) => order_id),
    [1, 2],
  )
})

test('items of actions and edited messages go after their time, and the actions stay; so do rows of charts and of ended processes', async (t) => {
  const { pool, ask } = await open(t)
  await ask(`insert into order_service.operator_actions (verb, operator, reason, selection, state, items, ended_at)
    select verb, 'ada@example.com', 'x', '{"items": [1], "value": "e30="}', state, 3, ended_at from (values
      ('edit-letter', 'DONE', now() - interval '91 days'), ('edit-letter', 'DONE', now()), ('retry-payments', 'RUNNING', null)) v (verb, state, ended_at)`)
  await ask(
    `insert into order_service.operator_action_items (action_id, item) select a, i from generate_series(1, 3) a, generate_series(1, 3) i`,
  )
  await ask(`insert into order_service.minutes (minute) values (now() - interval '31 days'), (now())`)
  await ask(`insert into order_service.processes (process, roles, started_at, seen_at, status)
    values ('old', '{}', now(), now() - interval '2 hours', '{}'), ('new', '{}', now(), now(), '{}')`)
  t.deepEqual(await hire(pool, { batchRows: 2 }).reap(), {
    ...nothingPruned,
    operator_actions: 1,
    operator_action_items: 3,
    minutes: 1,
    processes: 1,
  })
  t.deepEqual(await ask(`select id::int, selection ? 'value' as is_whole from order_service.operator_actions order by id`), [
    { id: 1, is_whole: false },
    { id: 2, is_whole: true },
    { id: 3, is_whole: true },
  ])
})
