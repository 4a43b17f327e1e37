/** What the searches that are repeated all the time read while an old snapshot is open, as a backup keeps one. */
import test from 'ava'
import { Client } from 'pg'
import { createUnsentReader } from '../../src/db/outbox.ts'
import { createRescue } from '../../src/db/rescue.ts'
import { createDatabase, query } from '../support/database.ts'
import { fill, pagesRead } from '../support/pages-read.ts'

const ENDED = 20_000

/** Tables whose rows have all ended since a backup began. */
async function backedUp(t: { teardown(end: () => Promise<unknown>): void }) {
  const database = await createDatabase()
  t.teardown(database.drop)
  const backup = new Client({ connectionString: database.dsn })
  await backup.connect()
  await backup.query('begin isolation level repeatable read; select from order_service.outbox')
  t.teardown(() => backup.end())
  await fill(database.dsn, [
    `insert into order_service.outbox (event_id, order_id, type, payload)
     select gen_random_uuid(), n, 'order.created', '{}' from generate_series(1, ${ENDED}) n`,
    'update order_service.outbox set sent_at = now()',
    `insert into order_service.checkouts (order_id, user_email, request_hash, lines, address, total_cents, deadline_at)
     select n, 'a@example.com', '', '[]', '{}', 0, now() from generate_series(1, ${ENDED}) n`,
    `update order_service.checkouts set state = 'CREATED', recovery_point = 'reserve-stock'`,
    `insert into order_service.payment_events (identity, type, order_id, topic, partition, kafka_offset, value, headers, sent_at)
     select n::text, 'payment.succeeded', n, 'payments', 0, n, '', '[]', now() from generate_series(1, ${ENDED}) n`,
    `update order_service.payment_events set state = 'APPLIED', result = 'paid'`,
    'vacuum analyze',
  ])
  return database.dsn
}

const event = (id: number) =>
  `insert into order_service.outbox (id, event_id, order_id, type, payload) overriding system value
   values (${id}, gen_random_uuid(), ${id}, 'order.created', '{}')`

test('the relay does not step over the events that were sent since a backup began, and misses none that came late', async (t) => {
  const dsn = await backedUp(t)
  let now = 0
  const { answer, pages } = await pagesRead(dsn, async (pool) => {
    const readUnsent = createUnsentReader(pool, () => now)
    const ids = async () => (await readUnsent(10)).map(({ id }) => id)
    const seen = [await ids()]
    // Its id was drawn before the newest that is there now, and its transaction ends after that.
    await query(dsn, 'delete from order_service.outbox where id = 19999')
    await query(dsn, event(19_999))
    now = 16_000
    seen.push(await ids())
    await query(dsn, 'update order_service.outbox set sent_at = now() where sent_at is null')
    await query(dsn, event(20_001))
    for (now = 32_000; now < 37_000; now += 50) seen.push(await ids())
    // Somebody has one sent again.
    await query(dsn, 'update order_service.outbox set sent_at = null where id = 7')
    now = 48_000
    seen.push(await ids())
    return seen
  })
  t.deepEqual(answer, [[], [19_999], ...Array.from({ length: 100 }, () => [20_001]), [7, 20_001]])
  t.true(pages < 8000, `${pages} pages for 104 reads`)
})

test('the rescuer does not step over the checkouts and payments that ended since a backup began', async (t) => {
  const dsn = await backedUp(t)
  let now = 0
  const { pages: ofTwo } = await pagesRead(dsn, (pool) => search(pool, [0, 16_000]))
  const { answer, pages: ofMany } = await pagesRead(dsn, async (pool) => {
    return search(pool, [0, ...Array.from({ length: 14 }, (_, second) => 16_000 + 1000 * second)])
  })
  async function search(pool: Parameters<typeof createRescue>[0], times: number[]) {
    const rescue = createRescue(pool, { now: () => now })
    let found: unknown[] = []
    for (now of times) {
      found = [await rescue.overdueCheckouts(0, 10), await rescue.strandedCheckouts(0, 10), await rescue.strandedPayments(0, 10)]
    }
    return found
  }
  t.deepEqual(answer, [[], [], []])
  t.true(ofMany - ofTwo < 13 * 30, `${ofTwo} pages for two runs, ${ofMany} for fifteen`)
})
