/** Counts PostgreSQL statements and Redis commands, which do not depend on the machine's speed. */
import { Redis } from 'ioredis'
import { Client } from 'pg'

/** Counts since each server started. */
export interface Counts {
  postgres: number
  /** Includes the commands that scripts call. */
  redis: number
}

export interface Counter {
  /**
   * What is counted: statements of this database if pg_stat_statements is loaded, otherwise writing transactions of the server, by their
   * ids. `xact_commit` would include reading ones, but a session reports at most once a second, and when idle only after 10 s. A run of
   * 3 s missed a quarter.
   */
  unit: 'statements' | 'writing transactions'
  read(): Promise<Counts>
  close(): Promise<void>
}

const ofStatements = `select coalesce(sum(calls), 0)::float8 as n from pg_stat_statements
  where dbid = (select oid from pg_database where datname = current_database())`
const ofTransactions = 'select pg_snapshot_xmax(pg_current_snapshot())::text::float8 as n'

/** @param dsn of the database whose statements are counted */
export async function openCounter({ dsn, redisUrl }: { dsn: string; redisUrl: string }): Promise<Counter> {
  const client = new Client({ connectionString: dsn })
  await client.connect()
  const loaded = await client.query("select from pg_settings where name = 'shared_preload_libraries' and setting ~ 'pg_stat_statements'")
  const unit = loaded.rowCount ? 'statements' : 'writing transactions'
  if (unit === 'statements') await client.query('create extension if not exists pg_stat_statements')
  const redis = new Redis(redisUrl)
  return {
    unit,
    async read() {
      const { rows } = await client.query<{ n: number }>(unit === 'statements' ? ofStatements : ofTransactions)
      return { postgres: rows[0]!.n, redis: Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))?.[1]) }
    },
    async close() {
      redis.disconnect()
      await client.end()
    },
  }
}
