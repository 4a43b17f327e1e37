/** What a scrape reads of large tables. It is counted in PostgreSQL's pages, since a busy machine says nothing by its times. */
import test from 'ava'
import { countLetters } from '../../src/db/dead-letters.ts'
import { readBridgeTotals } from '../../src/db/inbox.ts'
import { readInventorySums } from '../../src/db/inventory-view.ts'
import { readLag } from '../../src/db/outbox.ts'
import { createDatabase } from '../support/database.ts'
import { fill, pagesRead } from '../support/pages-read.ts'

const LARGE = 100_000

async function largeShop(t: { teardown(end: () => Promise<void>): void }) {
  const database = await createDatabase()
  t.teardown(database.drop)
  await fill(database.dsn, [
    `insert into order_service.products (product_id, expected_stock, foreign_holds, hold_correction)
     select n, 10, case when n <= 3 then 2 else 0 end, case when n = 4 then -1 else 0 end from generate_series(1, ${LARGE}) n`,
    `insert into order_service.outbox (event_id, order_id, type, payload, created_at)
     select gen_random_uuid(), n, 'order.created', '{"type": "order.created"}', now() - (${LARGE} - n) * interval '1 ms' from generate_series(1, ${LARGE}) n`,
    `insert into order_service.unanswered_calls (call_id, product_id, verb, qty, found)
     select n, n, 'reserve', 1, case when n > 2 then 'happened' end from generate_series(1, ${LARGE}) n`,
    `insert into order_service.payment_events (identity, type, order_id, state, result, topic, partition, kafka_offset, value, headers, sent_at)
     select n::text, 'payment.succeeded', n, 'APPLIED', 'paid', 'payments', 0, n, '', '[]', now() from generate_series(1, ${LARGE}) n`,
    `insert into order_service.dead_letters (topic, partition, kafka_offset, bytes_hash, headers, sent_at, fault, reason, state, published_at)
     select 'payments', 0, n, '', '[]', now(), 'unreadable', 'it is no JSON', 'REPLAYED', now() from generate_series(1, ${LARGE}) n`,
    'vacuum analyze',
  ])
  return database.dsn
}

test('a scrape reads a few pages of large tables, and no table from its beginning to its end', async (t) => {
  const dsn = await largeShop(t)
  const pages: Record<string, number> = {}
  const read = async <T>(of: string, run: Parameters<typeof pagesRead<T>>[1]) => {
    const result = await pagesRead(dsn, run)
    pages[of] = result.pages
    return result.answer
  }

  const lag = await read('outbox', readLag)
  const sums = await read('inventory', readInventorySums)
  const totals = await read('bridge', readBridgeTotals)
  const letters = await read('letters', countLetters)

  t.is(lag.unsent, LARGE)
  t.true(lag.oldestSeconds >= 100)
  t.like(sums, { foreignHolds: 6, oversold: 1, unreconciled: 1, unanswered: 2 })
  t.like(totals, { waiting: 0, dead: 0 })
  t.deepEqual(letters, { waiting: 0, byFault: {}, unpublished: 0 })
  for (const [of, count] of Object.entries(pages)) t.true(count < 500, `${of}: ${count} pages`)
})
