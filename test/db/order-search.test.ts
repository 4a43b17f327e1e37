/** The search for orders and the items of causes: what is found, in which pages, and that a search ends at its bound. */
import test from 'ava'
import { sql } from 'slonik'
import { connectPool, nothing, type Pool } from '../../src/db/pool.ts'
import { countItems, listItems } from '../../src/operators/items.ts'
import { BadQuery, readOrderQuery } from '../../src/operators/order-query.ts'
import { type OrderQuery, searchOrders } from '../../src/operators/orders.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase } from '../support/database.ts'

let database: Awaited<ReturnType<typeof createDatabase>>
let pool: Pool
test.before(async () => {
  database = await createDatabase()
  pool = await connectPool(database.dsn, { size: 2, logger: createLogger('silent') })
  await fill()
})
test.after.always(async () => {
  await pool?.end()
  await database?.drop()
})

/**
 * 1 to 100: orders of the predecessor, of product 7, unpaid where 10 divides the id. 101 to 6100: open checkouts, of product 8, and 150 of 9.
 * 6101 to 6110: rejected; 6111 to 6120: cancelled. 6121 and 6122: orders of this service, the latter with a payment that waits.
 */
async function fill(): Promise<void> {
  const run = (statement: ReturnType<typeof sql.fragment>) => pool.query(sql.type(nothing)`${statement}`)
  await run(sql.fragment`
    insert into public.orders (id, user_email, status, total_cents, created_at)
    select i, 'old-' || i % 5 || '@example.com', case when i % 10 = 0 then 'CREATED' else 'PAID' end, i, '2026-01-01'
    from generate_series(1, 100) i union all select i, 'ada@example.com', 'CREATED', i, now() at time zone 'utc' from generate_series(6121, 6122) i`)
  await run(sql.fragment`
    insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
    select id, 7, 1, total_cents, 'Air Zoom' from public.orders where id <= 100`)
  await run(sql.fragment`
    insert into order_service.checkouts (order_id, user_email, idempotency_key, request_hash, state, recovery_point, lines, address, total_cents,
      deadline_at, cause, service, last_error, outcome)
    select i, 'ada@example.com', case when i > 6120 then 'key-' || i when i <= 6100 then 'cart ' || i end, '', state,
      case when i > 6120 then 'reserve-stock' else 'intent' end, jsonb_build_array(jsonb_build_object('product_id', case i when 150 then 9 else 8 end, 'qty', 1)), '{}', i, now(),
      case when i % 1000 = 101 then 'internal-error' when i <= 6115 then 'downstream-timeout' end,
      case when i % 1000 = 101 then null when i = 200 then 'shipping' else 'catalog' end, 'no answer within 5000 ms',
      case when state in ('REJECTED', 'CANCELLED') then '{"status": 503, "detail": "no answer"}'::jsonb end
    from (select i, case when i <= 6100 then 'OPEN' when i <= 6110 then 'REJECTED' when i <= 6120 then 'CANCELLED' else 'CREATED' end as state
      from generate_series(101, 6122) i) made`)
  await run(sql.fragment`
    insert into order_service.payment_events (identity, type, order_id, payment_id, state, result, cause, service, last_error, topic, partition,
      kafka_offset, value, headers, sent_at)
    values ('a', 'payment.succeeded', 99, '6121', 'APPLIED', 'paid', null, null, null, 'payments', 0, 1, '', '[]', now()),
      ('b', 'payment.succeeded', 6122, 'pay-2', 'WAITING', null, 'downstream-timeout', 'shipping', 'it hangs', 'payments', 0, 2, '', '[]', now()),
      ('c', 'payment.succeeded', 20, 'pay-3', 'DEAD', null, null, null, 'another amount', 'payments', 0, 3, '', '[]', now())`)
  await run(sql.fragment`
    insert into order_service.dead_letters (event_id, topic, partition, kafka_offset, bytes_hash, headers, sent_at, fault, reason)
    select id, 'payments', 0, 3, 'c', '[]', now(), 'wrong-amount', 'another amount' from order_service.payment_events where identity = 'c'
    union all select null, 'payments', 0, 4, 'd', '[]', now(), 'unreadable', 'no JSON'`)
  await run(sql.fragment`
    insert into order_service.products (product_id, expected_stock, reconciling_since, hold_correction)
    values (1, 10, now() - interval '1 minute', 1), (2, 10, now(), 1), (3, 1, now() - interval '1 minute', -2)`)
  await run(sql.fragment`
    insert into order_service.ambiguities (product_id, too_many, too_few, explanation, accepted_at)
    values (4, 1, 0, 'one', null), (5, 1, 0, 'two', now())`)
  await run(sql.fragment`
    insert into order_service.outbox (event_id, order_id, type, payload, undeliverable_at, undeliverable_reason)
    values (gen_random_uuid(), 6121, 'order.created', '{}', now(), 'too large')`)
}

const search = (query: Partial<OrderQuery>) => searchOrders(pool, { limit: 1000, ...query })
const found = async (query: Partial<OrderQuery>) => (await search(query)).rows.map(({ orderId }) => orderId)
const range = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, i) => from - i)

/** All pages, one after the other. */
async function all(query: Partial<OrderQuery>): Promise<number[]> {
  const ids: number[] = []
  let after: string | undefined
  do {
    const page = await search({ ...query, after })
    ids.push(...page.rows.map(({ orderId }) => orderId))
    after = page.next ?? undefined
  } while (after !== undefined)
  return ids
}

test('a number finds the order with this id and the order that a payment with this id concerns', async (t) => {
  t.deepEqual(await found({ q: '6121' }), [6121, 99])
  t.deepEqual(await found({ q: 'pay-2' }), [6122])
  t.deepEqual(await found({ q: '99999999999999999999' }), [])
})

test('an email finds the customer’s orders, also in other capitals, and a key its checkout', async (t) => {
  t.deepEqual(await found({ q: 'OLD-4@example.com', state: 'CREATED' }), [])
  t.deepEqual(
    await found({ q: 'OLD-0@example.com', state: 'CREATED' }),
    range(10, 1).map((ten) => ten * 10),
  )
  t.deepEqual(await found({ q: 'key-6122' }), [6122])
  t.deepEqual(await found({ q: 'cart 101' }), [], 'keys of carts are not those of customers')
})

test('an order of the predecessor is listed without a checkout', async (t) => {
  t.like((await search({ q: '99' })).rows[0], { orderId: 99, state: 'PAID', email: 'old-4@example.com', cause: null, totalCents: 99 })
})

test('the list of all orders has each once, the newest first', async (t) => {
  t.deepEqual(await all({}), range(6122, 1))
  t.deepEqual(await all({ limit: 999 }), range(6122, 1))
})

test('a list by state has orders and checkouts of this state', async (t) => {
  t.deepEqual(await found({ state: 'REJECTED' }), range(6110, 6101))
  t.deepEqual(await found({ state: 'CANCELLED' }), range(6120, 6111))
  t.deepEqual(await found({ state: 'CREATED' }), [6122, 6121, ...range(10, 1).map((ten) => ten * 10)])
  t.deepEqual(await all({ state: 'OPEN' }), range(6100, 101))
})

test('a list by cause has open and failed checkouts, and orders whose payment waits', async (t) => {
  t.deepEqual(await found({ cause: 'downstream-timeout', service: 'shipping' }), [6122, 200])
  t.deepEqual(await found({ service: 'shipping' }), [6122, 200])
  t.deepEqual(await found({ cause: 'internal-error' }), [6101, 5101, 4101, 3101, 2101, 1101, 101])
  t.deepEqual(await found({ cause: 'internal-error', state: 'REJECTED' }), [6101])
  t.deepEqual(await found({ cause: 'downstream-timeout', state: 'CREATED' }), [6122])
  const [row] = (await search({ q: '6122' })).rows
  t.like(row, { state: 'CREATED', cause: 'downstream-timeout', service: 'shipping' })
})

test('a list by product has orders and checkouts with it', async (t) => {
  t.deepEqual(await all({ productId: 7 }), range(100, 1))
  t.deepEqual(await found({ productId: 8, state: 'CANCELLED' }), range(6120, 6111))
  t.deepEqual(await all({ productId: 10 }), [])
  t.deepEqual(await found({ productId: 8, cause: 'downstream-timeout', service: 'shipping' }), [200])
})

test('a list by age begins at the orders that are old enough', async (t) => {
  t.deepEqual(await all({ olderThanMs: 3_600_000 }), range(100, 1))
  t.deepEqual(
    await found({ olderThanMs: 3_600_000, productId: 7, state: 'CREATED' }),
    range(10, 1).map((ten) => ten * 10),
  )
})

test('a search that matches little ends at its bound, and continues there', async (t) => {
  const first = await search({ state: 'OPEN', productId: 9 })
  t.deepEqual(first, { rows: [], next: '3101' })
  t.deepEqual(await all({ state: 'OPEN', productId: 9 }), [150])
})

test('a query that cannot be made is refused with its value', (t) => {
  const message = (given: Record<string, string>) => t.throws(() => readOrderQuery(given), { instanceOf: BadQuery })?.message
  t.is(message({ product: '99999999999' }), 'Product: "99999999999" is not a whole number from 0 to 2147483647')
  t.is(message({ state: 'LOST' }), 'State: "LOST" is none of OPEN, CREATED, PAID, REJECTED, CANCELLED')
  t.is(message({ after: '-1' }), 'After: "-1" is not a whole number from 1 to 2147483647')
  t.regex(message({ cause: 'constructor' })!, /^There is no cause "constructor"/)
  t.regex(message({ q: 'a\0' })!, /NUL/)
  t.regex(message({ q: 'a'.repeat(256) })!, /at most 255/)
  t.like(readOrderQuery({ q: ' ', state: '', olderThan: '60' }), { q: undefined, state: undefined, olderThanMs: 60_000, limit: 50 })
})

const items = async (cause: Parameters<typeof listItems>[1]['cause']) => (await listItems(pool, { cause, service: null, limit: 50 })).items

test('the items of a cause are its payments first, then its open checkouts, in pages', async (t) => {
  const query = { cause: 'downstream-timeout', service: 'shipping' } as const
  const first = await listItems(pool, { ...query, limit: 1 })
  t.like(first.items[0], { kind: 'payment', orderId: 6122, attempts: 1, evidence: 'it hangs', nextTryAt: null })
  const second = await listItems(pool, { ...query, limit: 1, after: first.next! })
  t.like(second, { next: null })
  t.like(second.items[0], { kind: 'checkout', id: 200, orderId: 200 })

  const seen: number[] = []
  for (let after: string | undefined; ; ) {
    const page = await listItems(pool, { cause: 'downstream-timeout', service: 'catalog', limit: 1000, after })
    seen.push(...page.items.map(({ id }) => id))
    if (page.next === null) break
    after = page.next
  }
  t.deepEqual(
    seen,
    range(6100, 101)
      .toReversed()
      .filter((id) => id % 1000 !== 101 && id !== 200),
  )
})

test('the items of a cause of dead letters, products and events are of these kinds', async (t) => {
  t.like(await items('payment-mismatch'), { 0: { kind: 'letter', orderId: 20, evidence: 'another amount' }, length: 1 })
  t.like(await items('message-unreadable'), { 0: { kind: 'letter', orderId: null, evidence: 'no JSON' }, length: 1 })
  t.like(await items('product-unreconciled'), { 0: { kind: 'product', id: 1 }, length: 1 }, 'the others are not old enough')
  t.like(await items('product-oversold'), { 0: { kind: 'product', id: 3 }, length: 1 })
  t.like(await items('product-ambiguous'), { 0: { kind: 'product', id: 4 }, length: 1 }, 'an accepted one is over')
  t.like(await items('event-undeliverable'), { 0: { kind: 'event', orderId: 6121, evidence: 'too large' }, length: 1 })
  t.deepEqual(await items('no-worker'), [])
})

test('items are counted up to a limit', async (t) => {
  const count = (cause: Parameters<typeof countItems>[1]['cause'], limit: number) => countItems(pool, { cause, service: null }, limit)
  t.deepEqual(await count('downstream-timeout', 100), { n: 100, isMore: true })
  t.deepEqual(await count('downstream-timeout', 10_000), { n: 5995, isMore: false })
  t.deepEqual(await count('payment-mismatch', 10), { n: 1, isMore: false })
  t.deepEqual(await count('drained', 10), { n: 0, isMore: false })
})

test('a position of another list is refused', async (t) => {
  await t.throwsAsync(listItems(pool, { cause: 'payment-mismatch', service: null, limit: 1, after: 'payment:1:1' }), {
    instanceOf: BadQuery,
  })
})

test('a page after an id that no order or product can have is a bad query', async (t) => {
  for (const [cause, kind] of [
    ['downstream-timeout', 'checkout'],
    ['product-oversold', 'product'],
  ] as const)
    await t.throwsAsync(listItems(pool, { cause, service: null, limit: 1, after: `${kind}:2147483648` }), { instanceOf: BadQuery })
})
