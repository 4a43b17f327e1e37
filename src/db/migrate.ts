/** Applies `sql/` to the database: numbered files, each once, all or none. */
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import Postgrator from 'postgrator'
import type { Logger } from '../telemetry/logger.ts'

/** Any number will do, as long as nobody else on this database takes it. */
const MIGRATION_LOCK = 7_036_401

/**
 * Brings the tables to the newest version and returns; whoever runs at the same time waits, and finds nothing left to do.
 * postgrator brings neither a lock nor a transaction of its own: both are here, on a session whose end frees them.
 * @throws where PostgreSQL is away, a file fails (nothing of this run stays) or a file that was applied has been edited since
 */
export async function migrate(dsn: string, logger: Logger): Promise<void> {
  const session = new Client({ connectionString: dsn })
  session.on('error', (error) => logger.warn({ err: error }, 'migration session lost'))
  await session.connect()
  try {
    await session.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    await session.query('create schema if not exists order_service')
    await session.query('begin')
    const postgrator = new Postgrator({
      migrationPattern: fileURLToPath(new URL('../../sql/*.sql', import.meta.url)),
      driver: 'pg',
      schemaTable: 'order_service.schema_version',
      currentSchema: 'order_service',
      validateChecksums: true,
      execQuery: (query) => session.query(query),
      execSqlScript: async (script) => {
        await session.query(script)
      },
    })
    const applied = await postgrator.migrate()
    await session.query('commit')
    for (const { version, name } of applied) logger.info({ version, migration: name }, 'migration applied')
  } finally {
    await session.end()
  }
}
