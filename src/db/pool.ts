/** The connection pool to PostgreSQL: slonik with rows checked by zod, and integers and dates as JavaScript values. */
import {
  createPool,
  type DatabasePool,
  type DatabaseTransactionConnection,
  type Interceptor,
  InvalidInputError,
  SchemaValidationError,
  sql,
} from 'slonik'
import { z } from 'zod'
import { boundAnswers } from '../patches/slonik.ts'
import type { Logger } from '../telemetry/logger.ts'
import { semaphore } from './semaphore.ts'
import { sessionOptions } from './session.ts'

export type Pool = DatabasePool
export type Transaction = DatabaseTransactionConnection

/** The row type of a statement that returns no rows, or whose rows are not read. */
export const nothing = z.object({})

/** slonik leaves the check of rows to an interceptor. */
const checkRows: Interceptor = {
  name: 'check-rows',
  transformRow: (context, query, row) => {
    if (!context.resultParser) return row
    const result = context.resultParser['~standard'].validate(row)
    if (result instanceof Promise) throw new TypeError('row schemas must be synchronous')
    if (result.issues) throw new SchemaValidationError(query, row, result.issues)
    return result.value as typeof row
  },
}

function exactInteger(text: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number))
    throw new RangeError(`${text} is outside the integers that JavaScript represents exactly (±(2^53 - 1))`)
  return number
}

/** How long a statement waits for a lock. Our transactions take milliseconds, but another process may be frozen within one. */
const LOCK_MS = 3000
/** How long an answer is awaited beyond the statement's time-out. A stalled PostgreSQL does not keep its own time-outs. */
const SILENCE_MS = 2000

export interface PoolOptions {
  /**
   * Connections at most. No statement may leave session state (SET, LISTEN, session locks) on them: they are not reset between uses, which
   * saves a round trip per query.
   */
  size: number
  /** How long to wait for a new connection, or for a free one. */
  connectionTimeoutMs?: number
  statementTimeoutMs?: number
  logger: Logger
}

/** The methods that use a connection of the pool. */
const methods = [
  'any',
  'anyFirst',
  'connect',
  'exists',
  'many',
  'manyFirst',
  'maybeOne',
  'maybeOneFirst',
  'one',
  'oneFirst',
  'query',
  'transaction',
] as const

/**
 * - `enable_seqscan`: every statement finds its rows by an index, but tables begin empty. A plan that scans an empty table is kept, and
 *   takes 30 times as long a minute later (13 ms instead of 0.4 for the record of 32 reserves).
 * - `jit`: scans that remain are priced so high that PostgreSQL would compile the statement at every run: a fifth of its CPU in a checkout.
 * - `plan_cache_mode`: PostgreSQL would often plan a statement again at each run: 0.8 ms of a checkout. A statement whose plan depends on a
 *   value (a partial index) has the value in its text.
 */
const settings = {
  enable_seqscan: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
  lock_timeout: String(LOCK_MS),
  'order_service.counts': 'off',
}

/**
 * Connects at once, since slonik reads the types of the database.
 * @returns a pool whose methods throw PoolExhausted where all connections are in use for too long
 * @throws while PostgreSQL is unavailable
 */
export async function connectPool(dsn: string, options: PoolOptions): Promise<Pool> {
  const { size, connectionTimeoutMs = 2000, statementTimeoutMs = 10_000, logger } = options
  const { connectionString, ssl } = sessionOptions(dsn, settings)
  boundAnswers(statementTimeoutMs + SILENCE_MS)
  const pool = await createPool(connectionString, {
    ...(ssl ? { ssl } : {}),
    maxPoolSize: size,
    connectionTimeout: connectionTimeoutMs,
    statementTimeout: statementTimeoutMs,
    idleInTransactionSessionTimeout: statementTimeoutMs,
    idleTimeout: 60_000,
    // A connection keeps its plans. Plans made on empty tables are 7 times slower, so no connection lives long.
    maximumConnectionAge: 600_000,
    connectionRetryLimit: 0,
    queryRetryLimit: 0,
    resetConnection: async () => {},
    interceptors: [checkRows],
    typeParsers: [
      { name: 'int8', parse: exactInteger },
      { name: 'timestamp', parse: (text) => new Date(`${text.replace(' ', 'T')}Z`) },
      { name: 'timestamptz', parse: (text) => new Date(text) },
    ],
  })
  pool.on('error', (error) => logger.warn({ err: error }, 'PostgreSQL connection lost'))
  const withPermit = semaphore(size, connectionTimeoutMs)
  for (const method of methods) {
    const run = pool[method] as (...args: unknown[]) => Promise<unknown>
    Object.assign(pool, { [method]: (...args: unknown[]) => withPermit(() => run(...args)) })
  }
  return pool
}

const readOnlyRow = z.object({ is_read_only: z.boolean() })

/** Whether PostgreSQL refuses writes of this pool now. */
export const isReadOnly = (pool: Pool): Promise<boolean> =>
  pool.oneFirst(sql.type(readOnlyRow)`select current_setting('transaction_read_only')::bool as is_read_only`)

/** The SQLSTATE of an error of slonik or pg; undefined where PostgreSQL did not answer. */
export function sqlState(error: unknown): string | undefined {
  if (error instanceof InvalidInputError) return '22P02' // slonik drops the code and the cause of this error
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } }
  return [code, cause?.code].find((one): one is string => typeof one === 'string' && SQLSTATE.test(one))
}

/** No SQLSTATE class begins with E. Node's codes do (EPIPE), and do not tell what PostgreSQL did. */
const SQLSTATE = /^(?!E)[0-9A-Z]{5}$/

/**
 * Whether PostgreSQL refused a value (SQLSTATE class 22, 23 or 54), so that a retry cannot succeed. Faults of a sequence do not count,
 * since an operator can repair it: it is exhausted (2200H), or behind its table after a failover (23505). Rows that may come twice are
 * inserted with ON CONFLICT.
 */
export const isRefusal = (error: unknown): boolean => /^(22(?!00H)|23(?!505)|54)/.test(sqlState(error) ?? '')

/**
 * Whether waiting cannot fix an error: PostgreSQL refused the login, a right is missing, it does not understand a statement, or our code
 * has a bug. Errors that waiting can fix: PostgreSQL is unreachable (08), starts or stops (57), has no resources (53), is read-only
 * (25006), or the database does not exist yet (3D).
 */
export function isFaultOfPostgres(error: unknown): boolean {
  const state = sqlState(error)
  if (state !== undefined) return !/^(08|25006|3D|40|53|55|57|58|XX)/.test(state)
  return [TypeError, RangeError, ReferenceError, SyntaxError, SchemaValidationError].some((bug) => error instanceof bug)
}

/**
 * Runs a statement over a batch. Where PostgreSQL refuses a value in it, or reports a duplicate number (23505), the statement runs once per
 * row, so that only the refused row fails.
 * @returns results in the order of the batch; an `Error` for a refused row
 */
export async function alone<In, Out>(batch: In[], run: (batch: In[]) => Promise<Out[]>): Promise<(Out | Error)[]> {
  try {
    return await run(batch)
  } catch (error) {
    if (batch.length === 1 || !(isRefusal(error) || sqlState(error) === '23505')) throw error
    const results: (Out | Error)[] = []
    for (const row of batch) results.push(...(await run([row]).catch((refused: Error) => [refused])))
    return results
  }
}
