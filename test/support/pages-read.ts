/** How much of PostgreSQL's pages statements of ours read, by its own count. */
import { Client } from 'pg'
import { sql } from 'slonik'
import { z } from 'zod'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { query } from './database.ts'
import { until } from './until.ts'

/** Fills tables over a connection of its own, and closes it. PostgreSQL may count the pages of an idle session ten seconds later. */
export async function fill(dsn: string, statements: readonly string[]): Promise<void> {
  const client = new Client({ connectionString: dsn })
  await client.connect()
  for (const statement of statements) await client.query(statement)
  await client.end()
}

async function countPages(dsn: string): Promise<number> {
  const [row] = await query<{ pages: string }>(
    dsn,
    `select sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0)) as pages
     from pg_statio_user_tables where schemaname = 'order_service'`,
  )
  return Number(row!.pages)
}

/** Switches autovacuum off, and waits until no other session is left but those that keep a snapshot: from then on only our reads count. */
async function othersAreDone(dsn: string): Promise<void> {
  const tables = await query<{ name: string }>(
    dsn,
    `select relid::regclass::text as name from pg_stat_user_tables where schemaname = 'order_service'`,
  )
  await query(dsn, tables.map(({ name }) => `alter table ${name} set (autovacuum_enabled = false)`).join(';'))
  await until(
    () =>
      query(
        dsn,
        `select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
      and state is distinct from 'idle in transaction'`,
      ),
    (sessions) => sessions.length === 0,
  )
}

/**
 * Runs it on a connection of its own, with the settings of the service: a session's counts are there when it has ended. Nobody else may
 * work with the tables meanwhile.
 * @returns what it answered, and how many pages of our tables and their indexes it read
 */
export async function pagesRead<T>(dsn: string, run: (pool: Pool) => Promise<T>): Promise<{ answer: T; pages: number }> {
  await othersAreDone(dsn)
  const before = await countPages(dsn)
  const pool = await connectPool(dsn, { size: 1, logger: createLogger('silent') })
  const { pid } = await pool.one(sql.type(z.object({ pid: z.int() }))`select pg_backend_pid() as pid`)
  const answer = await run(pool).finally(() => pool.end())
  await until(async () => (await query(dsn, 'select from pg_stat_activity where pid = $1', [pid])).length === 0)
  return { answer, pages: (await countPages(dsn)) - before }
}
