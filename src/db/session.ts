/** Sessions of PostgreSQL: every one of ours begins with the same settings, whatever the database, the role or the server has set. */
import type { Client } from 'pg'
import { type PostgresOptions, readPostgresDsn } from '../config/postgres-dsn.ts'

/**
 * What our statements and the reading of their answers rely on. `ALTER DATABASE ... SET`, `ALTER ROLE ... SET` and postgresql.conf
 * cannot change it: what a client sends as it connects wins. Not here, on purpose:
 * - `default_transaction_read_only`: whoever sets it wants nobody to write (a cutover, a disk that is nearly full), so it is heeded and
 *   reported ({@link requireWritable}).
 * - What only a superuser may set (`session_replication_role`, `lc_messages`), or not every version knows (`transaction_timeout`): a
 *   connection that asks for it is refused.
 * - What changes only how quickly or where rows are stored: work_mem, tablespaces.
 */
export const pinned = {
  client_encoding: 'UTF8',
  // What is read as text: dates, bytes, numbers; and, the other way, arrays and literals.
  datestyle: 'ISO, MDY',
  intervalstyle: 'postgres',
  timezone: 'UTC',
  bytea_output: 'hex',
  extra_float_digits: '1',
  array_nulls: 'on',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
  // A schema in front of pg_catalog would bring functions of its own.
  search_path: 'public',
  // Statements that lose a race are written for it; in the other levels they fail with 40001 (60 to 127 of 400 checkouts).
  default_transaction_isolation: 'read committed',
  // An order that was answered outlives a crash.
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

/** What only a person can put right in the database: its encoding, or migrations that were edited after they had been applied. */
export class DatabaseFault extends Error {
  override name = 'DatabaseFault'
}

/** @throws where PostgreSQL takes no writes, which is waited for */
export function requireWritable(isReadOnly: boolean): void {
  if (isReadOnly) throw new Error('PostgreSQL is read-only: it is a standby, or default_transaction_read_only is on')
}

/**
 * Whether one can work with the database of this session.
 * @throws DatabaseFault, or where it is read-only
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
