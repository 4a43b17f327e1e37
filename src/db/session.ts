/** The settings of our PostgreSQL sessions, which override those of the database, the role and the server. */
import type { Client } from 'pg'
import { type PostgresOptions, readPostgresDsn } from '../config/postgres-dsn.ts'

/**
 * The settings that our statements, and the reading of their rows, rely on. What a client sends as it connects overrides
 * `ALTER DATABASE ... SET`, `ALTER ROLE ... SET` and postgresql.conf. These settings are left out on purpose:
 * - `default_transaction_read_only`: an operator sets it to stop all writes (a cutover, a nearly full disk). It is respected and reported
 *   ({@link requireWritable}).
 * - Settings that only a superuser may change (`session_replication_role`, `lc_messages`) or that some versions do not know
 *   (`transaction_timeout`): PostgreSQL refuses a connection that sends them.
 * - Settings that change only speed or where rows are stored: work_mem, tablespaces.
 */
export const pinned = {
  client_encoding: 'UTF8',
  // The text format of dates, bytes, numbers, arrays and literals.
  datestyle: 'ISO, MDY',
  intervalstyle: 'postgres',
  timezone: 'UTC',
  bytea_output: 'hex',
  extra_float_digits: '1',
  array_nulls: 'on',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
  // A schema before pg_catalog could replace its functions.
  search_path: 'public',
  // Statements that lose a race are written for it; in the other levels they fail with 40001 (60 to 127 of 400 checkouts).
  default_transaction_isolation: 'read committed',
  // An order that a customer got must survive a crash.
  synchronous_commit: 'on',
  // Each kind of session has its own limits.
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
} as const

/** @returns the options of a session with what is {@link pinned}, and with `more` settings */
export function sessionOptions(dsn: string, more: Readonly<Record<string, string>> = {}): PostgresOptions {
  const { connectionString, ssl } = readPostgresDsn(dsn)
  const url = new URL(connectionString)
  const settings = Object.entries({ ...pinned, ...more }).map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
  url.searchParams.set('options', [url.searchParams.get('options'), ...settings].filter(Boolean).join(' '))
  url.search = url.search.replaceAll('+', '%20') // slonik decodes it as a component, where + is a plus
  return { connectionString: url.href, ssl }
}

/** A fault of the database that only a person can fix: its encoding, or migrations that were edited after they had been applied. */
export class DatabaseFault extends Error {
  override name = 'DatabaseFault'
}

/** @throws where PostgreSQL refuses writes, which callers wait out */
export function requireWritable(isReadOnly: boolean): void {
  if (isReadOnly) throw new Error('PostgreSQL is read-only: it is a standby, or default_transaction_read_only is on')
}

/**
 * Checks that the service can use the database of this session.
 * @throws DatabaseFault, or an Error where it is read-only
 */
export async function requireUsable(session: Client): Promise<void> {
  const { rows } = await session.query<{ encoding: string; is_read_only: boolean }>(
    `select current_setting('server_encoding') as encoding, current_setting('transaction_read_only')::bool as is_read_only`,
  )
  const { encoding, is_read_only: isReadOnly } = rows[0]!
  if (encoding !== 'UTF8') {
    throw new DatabaseFault(`the database has the encoding ${encoding}, which cannot store every name; create one with the encoding UTF8`)
  }
  requireWritable(isReadOnly)
}
