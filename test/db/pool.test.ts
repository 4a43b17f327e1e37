/** What bounds the use of PostgreSQL: on a server of this file's own, whose backends are made to hang. */
import test from 'ava'
import { Client } from 'pg'
import { sql } from 'slonik'
import { z } from 'zod'
import { PoolExhausted } from '../../src/db/semaphore.ts'
import { alone, connectPool, isRefusal, type PoolOptions, sqlState } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { query } from '../support/database.ts'
import { type Postgres, startPostgres } from '../support/services/index.ts'
import { until } from '../support/until.ts'

let postgres: Postgres
test.before(async () => {
  postgres = await startPostgres({ name: 'test-pool' })
})
test.after.always(() => postgres?.stop())

async function open(t: { teardown(end: () => Promise<unknown>): void }, options: Partial<PoolOptions>) {
  const pool = await connectPool(postgres.dsn, { size: 2, logger: createLogger('silent'), ...options })
  t.teardown(() => pool.end())
  return pool
}

const timed = async <T>(promise: Promise<T>) => {
  const began = performance.now()
  const error = await promise.then(
    () => undefined,
    (thrown: Error) => thrown,
  )
  return { error, ms: performance.now() - began }
}

test.serial('the time-outs of a session are set when it connects, and not again', async (t) => {
  const pool = await open(t, { statementTimeoutMs: 7000 })
  const settings = await pool.any(sql.type(z.object({ name: z.string(), setting: z.string(), source: z.string() }))`
    select name, setting, source from pg_settings where name ~ '^(statement|lock|idle_in_transaction_session)_timeout$' order by name`)
  t.deepEqual(
    settings.map(({ name, setting, source }) => [name, setting, source]),
    [
      ['idle_in_transaction_session_timeout', '7000', 'client'],
      ['lock_timeout', '3000', 'client'],
      ['statement_timeout', '7000', 'client'],
    ],
  )
})

test.serial('a statement is planned once for a connection, whatever its parameters', async (t) => {
  const pool = await open(t, { size: 1 })
  await pool.query(sql.unsafe`create table ordinary (id int primary key, state text)`)
  await pool.query(sql.unsafe`insert into ordinary select n, 'waits' from generate_series(1, 10000) n`)
  await pool.query(sql.unsafe`analyze ordinary`)
  for (let run = 0; run < 10; run += 1) {
    // One element: a plan of its own would be priced lower, since PostgreSQL expects ten where it does not know.
    await pool.any(sql.prepared('by-ids', z.object({ id: z.int() }))`select id from ordinary where id = any(${sql.array([run], 'int4')})`)
  }
  const { generic, own } = await pool.one(sql.type(z.object({ generic: z.int(), own: z.int() }))`
    select generic_plans as generic, custom_plans as own from pg_prepared_statements where name like '%by-ids%'`)
  t.deepEqual({ generic, own }, { generic: 10, own: 0 })
})

test.serial('a PostgreSQL backend that hangs loses its statement and its connection, and the pool goes on with another', async (t) => {
  const pool = await open(t, { size: 1, statementTimeoutMs: 500 })
  const { pid } = await pool.one(sql.type(z.object({ pid: z.int() }))`select pg_backend_pid() as pid`)
  process.kill(pid, 'SIGSTOP')
  t.teardown(async () => process.kill(pid, 'SIGCONT'))

  const { error, ms } = await timed(pool.query(sql.unsafe`select 1`))
  t.true(error instanceof Error)
  t.is(sqlState(error), undefined, 'it may have been carried out')
  t.true(ms >= 2400 && ms < 6000, `${ms} ms`)
  const next = await pool.one(sql.type(z.object({ pid: z.int() }))`select pg_backend_pid() as pid`)
  t.not(next.pid, pid)
})

test.serial('a statement waits for a lock of another session, but not for long', async (t) => {
  const pool = await open(t, {})
  await pool.query(sql.unsafe`create table kept (id int)`)
  const keeper = new Client({ connectionString: postgres.dsn })
  await keeper.connect()
  t.teardown(() => keeper.end())
  await keeper.query('begin; lock table kept')
  const { error, ms } = await timed(pool.query(sql.unsafe`select from kept`))
  t.is(sqlState(error), '55P03')
  t.true(ms < 6000, `${ms} ms`)
})

test.serial(
  'a query that gets no connection fails in time, later ones fail at once while the pool is stuck, and then it recovers',
  async (t) => {
    const pool = await open(t, { connectionTimeoutMs: 600 })
    const asleep = () => query(postgres.dsn, `select from pg_stat_activity where wait_event = 'PgSleep'`)
    const sleepers = [pool.query(sql.unsafe`select pg_sleep(2)`), pool.query(sql.unsafe`select pg_sleep(2)`)]
    await until(asleep, (rows) => rows.length === 2)

    const waiters = await Promise.all([timed(pool.query(sql.unsafe`select 1`)), timed(pool.transaction(async () => {}))])
    for (const { error, ms } of waiters) {
      t.true(error instanceof PoolExhausted, String(error))
      t.true(ms >= 590 && ms < 1900, `${ms} ms`)
    }
    const late = await timed(pool.query(sql.unsafe`select 1`))
    t.true(late.error instanceof PoolExhausted)
    t.true(late.ms < 300, `${late.ms} ms`)

    await Promise.all(sleepers)
    const all = await Promise.all(Array.from({ length: 20 }, () => timed(pool.query(sql.unsafe`select 1`))))
    t.deepEqual(
      all.filter(({ error }) => error !== undefined),
      [],
    )
  },
)

test.serial('a statement that fails gives its connection back', async (t) => {
  const pool = await open(t, { connectionTimeoutMs: 600 })
  for (let i = 0; i < 5; i++) t.is(sqlState((await timed(pool.query(sql.unsafe`select 1 / 0`))).error), '22012')
  await t.throwsAsync(
    pool.transaction(async () => Promise.reject(new Error('ours'))),
    { message: 'ours' },
  )
  t.is((await timed(pool.query(sql.unsafe`select 1`))).error, undefined)
})

test.serial('a sequence that is behind its table spoils one row of a batch, and blames no value', async (t) => {
  const pool = await open(t, {})
  await pool.query(sql.unsafe`create table numbered (id bigint generated always as identity primary key, value int check (value > 0))`)
  await pool.query(sql.unsafe`insert into numbered overriding system value values (2, 1), (4, 1)`)
  const insert = async (values: number[]) => {
    await pool.query(sql.unsafe`insert into numbered (value) select * from unnest(${sql.array(values, 'int4')})`)
    return values
  }
  const [first, second, third] = await alone([1, 1, 0], insert)
  t.is(first, 1)
  t.deepEqual([sqlState(second), isRefusal(second)], ['23505', false])
  t.deepEqual([sqlState(third), isRefusal(third)], ['23514', true])
})
