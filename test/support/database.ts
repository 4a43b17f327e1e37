/** A database of its own for a test file: copied from a migrated template in about 20 ms. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { Client, Pool, type QueryResultRow } from 'pg'
import { migrate } from '../../src/db/migrate.ts'
import { createLogger } from '../../src/telemetry/logger.ts'

const TEMPLATE_LOCK = 7_036_402
const sqlDirectory = new URL('../../sql/', import.meta.url)

function adminDsn(): string {
  const dsn = process.env.POSTGRES_DSN
  if (!dsn) throw new Error('POSTGRES_DSN is not set; run the tests by bin/test')
  return dsn
}

/** `dsn` with another database in it. */
export function withDatabase(dsn: string, database: string): string {
  const url = new URL(dsn)
  url.pathname = `/${database}`
  return url.href
}

/** Whoever waits for something asks fifty times a second, and a session of its own takes ten times as long as what is asked in it (7 to 0.6 ms). */
const IDLE_MS = 300

const pools = new Map<string, Pool>()

function poolOf(dsn: string): Pool {
  const known = pools.get(dsn)
  if (known) return known
  const pool = new Pool({ connectionString: dsn, query_timeout: 60_000, idleTimeoutMillis: IDLE_MS, allowExitOnIdle: true })
  pool.on('error', () => {}) // a session that ended while nobody asked anything
  pools.set(dsn, pool)
  return pool
}

/** Runs one statement, away from the pool under test. */
export async function query<Row extends QueryResultRow>(dsn: string, text: string, values: unknown[] = []): Promise<Row[]> {
  return (await poolOf(dsn).query<Row>(text, values)).rows
}

const templates = new Map<string, string>()

async function template(admin: string): Promise<string> {
  const name = templates.get(admin) ?? (await makeTemplate(admin))
  templates.set(admin, name)
  return name
}

/** The template's name carries a hash of the migrations: a changed file makes a new one. */
async function makeTemplate(admin: string): Promise<string> {
  const hash = createHash('sha256')
  for (const file of readdirSync(sqlDirectory).sort()) hash.update(readFileSync(new URL(file, sqlDirectory)))
  const name = `order_template_${hash.digest('hex').slice(0, 12)}`
  const client = new Client({ connectionString: admin, query_timeout: 60_000 })
  await client.connect()
  try {
    await client.query('select pg_advisory_lock($1)', [TEMPLATE_LOCK])
    const { rowCount } = await client.query('select from pg_database where datname = $1 and datistemplate', [name])
    if (!rowCount) {
      await client.query(`drop database if exists ${name} with (force)`)
      await client.query(`create database ${name}`)
      await migrate(withDatabase(admin, name), createLogger('silent'))
      await client.query(`alter database ${name} is_template true`)
    }
  } finally {
    await client.end()
  }
  return name
}

let made = 0

/** @param migrated false gives an empty database, as another service's tables would be put into it */
export async function createDatabase({ migrated = true } = {}): Promise<{ dsn: string; drop: () => Promise<void> }> {
  const admin = adminDsn()
  made += 1
  const name = `test_${process.pid}_${Date.now().toString(36)}_${made}`
  await query(admin, migrated ? `create database ${name} template ${await template(admin)}` : `create database ${name}`)
  const dsn = withDatabase(admin, name)
  return {
    dsn,
    drop: async () => {
      const ended = pools.get(dsn)?.end()
      pools.delete(dsn)
      // Also where a statement still waits in one of the sessions.
      await query(admin, `drop database if exists ${name} with (force)`)
      await ended
    },
  }
}
