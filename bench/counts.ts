/** How much PostgreSQL and Redis are asked: figures that do not depend on how fast a machine is. */
import { Redis } from 'ioredis'
import { Client } from 'pg'

/** Since each began. */
export interface Counts {
  postgres: number
  /** With those that scripts call. */
  redis: number
}

export interface Counter {
  /**
   * What of PostgreSQL is counted: the statements of this database, where pg_stat_statements is loaded. Elsewhere the transactions of the
   * server that write, by their numbers. `xact_commit` would have the others as well, but a session adds its own once a second at most
   * and, when it is idle, only after 10 s: of a run of 3 s a quarter was missing.
   */
  unit: 'statements' | 'writing transactions'
  read(): Promise<Counts>
  close(): Promise<void>
}

const ofStatements = `select coalesce(sum(calls), 0)::float8 as n from pg_stat_statements
  where dbid = (select oid from pg_database where datname = current_database())`
const ofTransactions = 'select pg_snapshot_xmax(pg_current_snapshot())::text::float8 as n'

/** @param dsn of the database that is counted */
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
