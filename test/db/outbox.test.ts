/** The outbox's verbs: what is unsent, in which order, and what a mark may touch. */
import test from 'ava'
import { Client } from 'pg'
import { createUnsentReader, markSent, readLag, markUndeliverable } from '../../src/db/outbox.ts'
import { connectPool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase, query } from '../support/database.ts'
import { until } from '../support/until.ts'

async function open(t: { teardown(end: () => Promise<void>): void }) {
  const database = await createDatabase()
  const pool = await connectPool(database.dsn, { size: 2, logger: createLogger('silent') })
  t.teardown(async () => {
    await pool.end()
    await database.drop()
  })
  /** @returns the new rows' ids */
  async function write(count: number, payload = '{"type":"order.created"}', age = '0 s'): Promise<number[]> {
    const rows = await query<{ id: string }>(
      database.dsn,
      `insert into order_service.outbox (event_id, order_id, type, payload, created_at)
       select gen_random_uuid(), n, 'order.created', $2::jsonb, now() - $3::interval from generate_series(1, $1) n returning id`,
      [count, payload, age],
    )
    return rows.map(({ id }) => Number(id))
  }
  return { pool, write, readUnsent: createUnsentReader(pool), dsn: database.dsn }
}

const asSent = (ids: readonly number[]) => ids.map((id) => ({ id }))

test('unsent events are read in the order of their ids, so many at a time, with their sequence', async (t) => {
  const { write, readUnsent } = await open(t)
  const ids = await write(5)
  const read = await readUnsent(3)
  t.deepEqual(
    read.map(({ id }) => id),
    ids.slice(0, 3),
  )
  t.like(read[0], { orderId: 1, type: 'order.created' })
  t.deepEqual(JSON.parse(read[0]!.value), { type: 'order.created', sequence: ids[0] })
})

test('an event payload is sent as it was written: amounts beyond 32 bits, any script, null', async (t) => {
  const { write, readUnsent } = await open(t)
  const payload = { amount_cents: 9_007_199_254_740_991, user_email: 'žofie+🛒@example.com', nested: [{ a: null, b: '"\\' }] }
  const [id] = await write(1, JSON.stringify(payload))
  const [event] = await readUnsent(10)
  t.deepEqual(JSON.parse(event!.value), { ...payload, sequence: id })
})

test('an event marked sent is not read again, and may be marked twice', async (t) => {
  const { pool, write, readUnsent, dsn } = await open(t)
  const ids = await write(3)
  await markSent(pool, asSent(ids.slice(0, 2)))
  const at = await query(dsn, 'select sent_at from order_service.outbox order by id')
  await markSent(pool, asSent(ids.slice(0, 2)))
  await markSent(pool, asSent([]))
  t.deepEqual(await query(dsn, 'select sent_at from order_service.outbox order by id'), at)
  t.deepEqual(
    (await readUnsent(10)).map(({ id }) => id),
    ids.slice(2),
  )
})

test('an event whose row a person keeps locked holds up no other: it is reported, and marked when it is free', async (t) => {
  const { pool, write, readUnsent, dsn } = await open(t)
  const ids = await write(3)
  const person = new Client({ connectionString: dsn })
  await person.connect()
  await person.query('begin')
  await person.query('select from order_service.outbox where id = $1 for update', [ids[1]])
  t.deepEqual(await markSent(pool, asSent(ids)), [ids[1]])
  await person.end()
  await until(
    () => markSent(pool, asSent([ids[1]!])),
    (locked) => locked.length === 0,
  )
  t.deepEqual(await readUnsent(10), [])
})

test('an event that is undeliverable is not read, keeps its reason, and counts neither as sent nor as unsent', async (t) => {
  const { pool, write, readUnsent, dsn } = await open(t)
  const [first, second] = await write(2)
  await markUndeliverable(pool, first!, 'MESSAGE_TOO_LARGE')
  await markSent(pool, asSent([first!, second!]))
  await markUndeliverable(pool, second!, 'too late')
  const rows = await query(dsn, 'select sent_at is not null as sent, undeliverable_reason as reason from order_service.outbox order by id')
  t.deepEqual(rows, [
    { sent: false, reason: 'MESSAGE_TOO_LARGE' },
    { sent: true, reason: null },
  ])
  t.deepEqual(await readUnsent(10), [])
})

test('the lag of the outbox has the number of unsent events and the age of the oldest', async (t) => {
  const { pool, write } = await open(t)
  t.deepEqual(await readLag(pool), { unsent: 0, oldestSeconds: 0, undeliverable: 0 })
  const [old] = await write(1, '{}', '90 s')
  const [, sent, aside] = await write(3)
  await markSent(pool, asSent([sent!]))
  await markUndeliverable(pool, aside!, 'MESSAGE_TOO_LARGE')
  const lag = await readLag(pool)
  t.like(lag, { unsent: 2, undeliverable: 1 })
  t.true(lag.oldestSeconds >= 90 && lag.oldestSeconds < 120)
  await markSent(pool, asSent([old!]))
  t.true((await readLag(pool)).oldestSeconds < 60)
})
