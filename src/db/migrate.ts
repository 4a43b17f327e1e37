/** Applies the numbered files of `sql/` to the database: each once, in a transaction of its own. */
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import Postgrator from 'postgrator'
import type { Logger } from '../telemetry/logger.ts'
import { sqlState } from './pool.ts'
import { DatabaseFault, requireUsable, sessionOptions } from './session.ts'

/** An arbitrary number that no other program on this database may use. */
const MIGRATION_LOCK = 7_036_401
/** A migration of a large table may take long. */
const MIGRATION_MS = 86_400_000
/** A session that waits for a table lock blocks all later ones. The migration gives up instead, and is started again. */
const LOCK_MS = 10_000
const sqlDirectory = new URL('../../sql/', import.meta.url)
const versions = readdirSync(sqlDirectory)
  .map((file) => Number.parseInt(file, 10))
  .sort((a, b) => a - b)

async function openSession(dsn: string, onLost: (error: Error) => void): Promise<Client> {
  const session = new Client({ ...sessionOptions(dsn), connectionTimeoutMillis: 5000, query_timeout: MIGRATION_MS })
  session.on('error', onLost)
  await session.connect()
  await requireUsable(session).catch(async (error: unknown) => {
    await session.end()
    throw error
  })
  return session
}

/**
 * Brings the tables to the newest version. A process that runs it at the same time waits, and finds nothing to do.
 * postgrator has neither a lock nor transactions: both are taken here, on a session whose end frees them. Each file has its own
 * transaction, since the triggers' locks would otherwise last while holds are counted: 11 s for 2,000,000 lines on a busy machine.
 * @throws where PostgreSQL is unavailable or read-only, or a file fails, which is then rolled back
 * @throws DatabaseFault where the files are wrong: one was edited after it had been applied, or two have the same number
 */
export async function migrate(dsn: string, logger: Logger): Promise<void> {
  let lost = false
  const session = await openSession(dsn, (error) => {
    lost = true
    logger.warn({ err: error }, 'PostgreSQL connection of the migration lost')
  })
  try {
    await session.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    await session.query('create schema if not exists order_service')
    await session.query(`set lock_timeout = ${LOCK_MS}`)
    const postgrator = new Postgrator({
      migrationPattern: `${fileURLToPath(sqlDirectory)}*.sql`,
      driver: 'pg',
      schemaTable: 'order_service.schema_version',
      currentSchema: 'order_service',
      validateChecksums: true,
      execQuery: (query) => session.query(query),
      execSqlScript: async (script) => {
        await session.query(script)
      },
    })
    for (const target of versions) {
      await session.query('begin')
      const applied = await postgrator.migrate(String(target)).catch((error: Error) => {
        throw lost || sqlState(error) ? error : new DatabaseFault(error.message, { cause: error })
      })
      await session.query('commit')
      for (const { version, name } of applied) logger.info({ version, migration: name }, 'migration applied')
    }
  } finally {
    await session.end()
  }
}

/**
 * Checks that the process `release` has applied the migrations.
 * @throws where PostgreSQL is unavailable or read-only, or the tables are older than this program
 */
export async function requireMigrated(dsn: string): Promise<void> {
  const newest = versions.at(-1)!
  const session = await openSession(dsn, () => {})
  try {
    const { rows } = await session
      .query<{ version: number }>('select max(version)::int as version from order_service.schema_version')
      .catch((error) => {
        if (/^(42P01|3F000)$/.test(sqlState(error) ?? '')) return { rows: [] }
        throw error
      })
    const version = rows[0]?.version ?? 0
    if (version < newest) throw new Error(`the tables are at version ${version}, not ${newest}; run the process release`)
  } finally {
    await session.end()
  }
}
