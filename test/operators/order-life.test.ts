/** The life of an order, read from PostgreSQL: dead letters, actions, events, what is being given back, and what the queue does not tell. */
import test from 'ava'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { readOrderLife } from '../../src/operators/order-life.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase, query } from '../support/database.ts'

let database: Awaited<ReturnType<typeof createDatabase>>
let pool: Pool
test.before(async () => {
  database = await createDatabase()
  pool = await connectPool(database.dsn, { size: 2, logger: createLogger('silent') })
})
test.after.always(async () => {
  await pool?.end()
  await database?.drop()
})

const run = (text: string) => query(database.dsn, text)
const life = async (id: number, nextRun?: Parameters<typeof readOrderLife>[2]['nextRun']) =>
  (await readOrderLife(pool, id, { eventTopic: 'order.events', nextRun }))!
const titles = ({ timeline }: Awaited<ReturnType<typeof life>>) => timeline.map(({ title }) => title)

const checkout = (id: number, state: string, more = '') => `
  insert into order_service.checkouts (order_id, user_email, request_hash, state, recovery_point, lines, address, total_cents, deadline_at, outcome)
  values (${id}, 'ada@example.com', '', '${state}', 'reserve-stock', '[{"product_id": ${id}, "qty": 1, "unit_price_cents": 100, "title_snapshot": "a"}]',
    '{}', 100, now() + interval '1 minute', ${state === 'CANCELLED' ? `'{"status": 503, "detail": "no answer"}'` : 'null'}) ${more}`

test('an order that does not exist has no life', async (t) => {
  t.is(await readOrderLife(pool, 99, { eventTopic: 'order.events' }), undefined)
})

test('a cancelled checkout is being given back until the reconciler has taken over what it gave up', async (t) => {
  await run(checkout(1, 'CANCELLED'))
  await run('insert into order_service.products (product_id, expected_stock) values (1, 10)')
  t.regex((await life(1)).summary, /nothing is held for it/)
  await run('insert into order_service.product_changes (product_id, held) values (1, -1)')
  t.regex((await life(1)).summary, /still giving back what it held of product 1\.$/)
  await run(`update order_service.product_changes set created_at = now() + interval '1 hour' where product_id = 1`)
  t.regex((await life(1)).summary, /nothing is held for it/, 'a later change is of another checkout')
  await run('update order_service.products set reconciling_since = now() where product_id = 1')
  const cancelled = await life(1)
  t.regex(cancelled.summary, /still giving back/)
  t.deepEqual(cancelled.actions, [{ verb: 'reconcile-products', item: 1 }])
})

test('actions on the order’s own items are in its life, and those on other items of the same number are not', async (t) => {
  await run(checkout(2, 'OPEN'))
  await run(`
    with acts as (
      insert into order_service.operator_actions (verb, operator, reason, selection, state, items, ended_at)
      values ('retry-checkouts', 'op@example.com', 'the outage is over', '{}', 'DONE', 1, now()),
        ('discard-letters', 'op@example.com', 'a letter of this number', '{}', 'DONE', 1, now())
      returning id)
    insert into order_service.operator_action_items (action_id, item, result, detail, at) select id, 2, 'changed', 'tried again', now() from acts`)
  const { timeline } = await life(2)
  t.like(
    timeline.filter(({ operator }) => operator),
    { 0: { title: 'Retry now: changed', operator: 'op@example.com', detail: 'the outage is over - tried again' }, length: 1 },
  )
})

test('a payment that became a dead letter and was replayed has both in the order’s life', async (t) => {
  await run(checkout(3, 'CANCELLED'))
  await run(`
    with event as (
      insert into order_service.payment_events (identity, type, order_id, state, topic, partition, kafka_offset, value, headers, sent_at)
      values ('a', 'payment.succeeded', 3, 'DEAD', 'payments', 1, 7, '', '[]', now()) returning id)
    insert into order_service.dead_letters (event_id, topic, partition, kafka_offset, bytes_hash, headers, sent_at, fault, reason, state, first_at)
    select id, 'payments', 1, 7, 'a', '[]', now(), 'cancelled', 'checkout 3 was CANCELLED', 'REPLAYED', now() - interval '1 minute' from event`)
  const read = await life(3)
  const [became, replayed] = read.timeline.filter(({ link }) => link?.startsWith('/dead-letters/'))
  t.like(became, { detail: 'checkout 3 was CANCELLED', cause: 'payment-mismatch' })
  t.regex(replayed!.title, /^Dead letter \d+ replayed$/)
  t.is(read.timeline.find(({ title }) => title === 'Message payment.succeeded received')?.detail, 'topic payments, partition 1, offset 7')
})

test('an event that Kafka refuses has its reason in the order’s life, and can be republished', async (t) => {
  await run(checkout(4, 'CREATED'))
  await run(`insert into public.orders (id, user_email, total_cents) values (4, 'ada@example.com', 100)`)
  await run(`insert into order_service.outbox (event_id, order_id, type, payload, undeliverable_at, undeliverable_reason)
    values (gen_random_uuid(), 4, 'order.created', '{}', now(), 'too large')`)
  const read = await life(4)
  t.true(titles(read).includes('Event order.created refused by Kafka'))
  t.is(read.actions[0]?.verb, 'republish-events')
})

test('a queue that hangs or fails leaves the next try unknown, and the life is shown', async (t) => {
  await run(checkout(5, 'OPEN'))
  await run(`update order_service.checkouts set cause = 'downstream-timeout', service = 'shipping' where order_id = 5`)
  const unknown = /the next attempt comes at an unknown time, because Redis does not answer/
  t.regex((await life(5, () => new Promise(() => {}))).summary, unknown)
  t.regex((await life(5, () => Promise.reject(new Error('Redis is away')))).summary, unknown)
  const next = new Date(Date.now() + 5000)
  const known = await life(5, async (queue, jobId) => (queue === 'checkout' && jobId === 'checkout-5' ? next : undefined))
  t.like(
    known.timeline.find(({ title }) => title === 'Next attempt'),
    { at: next, isPlanned: true },
  )
  t.regex((await life(5, async () => 'now')).summary, /runs now, or as soon as a worker takes it/)
})
