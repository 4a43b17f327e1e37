/** The connection to PostgreSQL: slonik with rows checked by zod and values as JavaScript has them. */
import { Client, defaults } from 'pg'
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
import type { Logger } from '../telemetry/logger.ts'
import { places } from './semaphore.ts'
import { sessionOptions } from './session.ts'

export type Pool = DatabasePool
export type Transaction = DatabaseTransactionConnection

/** The row of a statement that gives none, or of which nothing is read. */
export const nothing = z.object({})

/** slonik parses rows only where an interceptor does it. */
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

/** For a lock that another process holds: it may be frozen within its transaction, and ours are over in milliseconds. */
const LOCK_MS = 3000
/** A PostgreSQL that stands still keeps to no time-out of its own: beyond the statement's, so long is its answer waited for. */
const SILENCE_MS = 2000

export interface PoolOptions {
  /** Connections at most. None of them may carry session state (SET, LISTEN, session locks): they are not reset between uses, which saves a round trip a query. */
  size: number
  /** How long until there is a connection: a new one, or a place among those there are. */
  connectionTimeoutMs?: number
  statementTimeoutMs?: number
  logger: Logger
}

/**
 * slonik's driver reads the types over a client of its own, and listens to no error of it (@slonik/pg-driver 49.10.9): a session that
 * PostgreSQL ends between two answers would end the process. What waits for an answer is rejected all the same.
 */
const { connect } = Client.prototype
Client.prototype.connect = function (this: Client, ...args: Parameters<typeof connect>) {
  this.on('error', () => {})
  return connect.apply(this, args)
} as typeof connect

/** What runs on a connection of the pool. */
const verbs = [
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
 * Every statement of ours finds its rows by an index, and its tables begin empty: a plan that scans them, made at such a moment and
 * kept, takes 30 times as long a minute later (13 ms instead of 0.4 for the record of 32 reserves). A scan that is left is priced so
 * high that PostgreSQL would compile its statement to machine code first, at every run: a fifth of its CPU in a checkout. And it
 * would often plan a statement anew at each run, for parameters that change nothing: 0.8 ms of a checkout by itself. What depends on
 * a parameter's value (a partial index) has to have it in its text.
 */
const settings = {
  enable_seqscan: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
  lock_timeout: String(LOCK_MS),
  'order_service.counts': 'off',
}

/**
 * Connects at once (slonik reads the types of the database), so it throws while PostgreSQL is away.
 * Its verbs throw PoolExhausted where all connections are in use for too long.
 */
export async function connectPool(dsn: string, options: PoolOptions): Promise<Pool> {
  const { size, connectionTimeoutMs = 2000, statementTimeoutMs = 10_000, logger } = options
  const { connectionString, ssl } = sessionOptions(dsn, settings)
  // slonik hands nothing on to pg that would end a wait for an answer. This holds for all clients of this process that name no time of their own.
  defaults.query_timeout = statementTimeoutMs + SILENCE_MS
  const pool = await createPool(connectionString, {
    ...(ssl ? { ssl } : {}),
    maxPoolSize: size,
    connectionTimeout: connectionTimeoutMs,
    statementTimeout: statementTimeoutMs,
    idleInTransactionSessionTimeout: statementTimeoutMs,
    idleTimeout: 60_000,
    // A connection keeps the plans it made; one that met empty tables keeps bad ones (7 times slower), so none lives long.
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
  const inPlace = places(size, connectionTimeoutMs)
  for (const verb of verbs) {
    const run = pool[verb] as (...args: unknown[]) => Promise<unknown>
    Object.assign(pool, { [verb]: (...args: unknown[]) => inPlace(() => run(...args)) })
  }
  return pool
}

const readOnlyRow = z.object({ is_read_only: z.boolean() })

/** Whether PostgreSQL takes no writes of this pool now. */
export const isReadOnly = (pool: Pool): Promise<boolean> =>
  pool.oneFirst(sql.type(readOnlyRow)`select current_setting('transaction_read_only')::bool as is_read_only`)

/** The SQLSTATE of an error, wherever slonik or pg put it; undefined where PostgreSQL did not answer. */
export function sqlState(error: unknown): string | undefined {
  if (error instanceof InvalidInputError) return '22P02' // slonik drops the code of this one, and the error that it came with
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } }
  return [code, cause?.code].find((one): one is string => typeof one === 'string' && SQLSTATE.test(one))
}

/** No class begins with an E; codes of Node do (EPIPE), and say nothing of what PostgreSQL did. */
const SQLSTATE = /^(?!E)[0-9A-Z]{5}$/

/**
 * Whether PostgreSQL refused a value (SQLSTATE class 22, 23 or 54): asking again is in vain. Not so where numbers of ours are at fault,
 * and a person has to put them right: a sequence is at its end (2200H), or behind its table, as after a failover (23505; whatever may
 * come twice is inserted with ON CONFLICT).
 */
export const isRefusal = (error: unknown): boolean => /^(22(?!00H)|23(?!505)|54)/.test(sqlState(error) ?? '')

/**
 * Whether PostgreSQL answered with what no waiting mends: a login that it refuses, a right that is missing, a statement that it does not
 * understand; or whether we did not get so far by a bug of ours. Not so where it is away, starts or ends (57), has no room (53), takes no
 * writes for now (25006), or the database is not there yet (3D).
 */
export function isFaultOfPostgres(error: unknown): boolean {
  const state = sqlState(error)
  if (state !== undefined) return !/^(08|25006|3D|40|53|55|57|58|XX)/.test(state)
  return [TypeError, RangeError, ReferenceError, SyntaxError, SchemaValidationError].some((bug) => error instanceof bug)
}

/**
 * Runs a statement over a batch; where PostgreSQL refuses a value in it, or a number that is taken (23505), row by row, so that one row
 * fails alone.
 * @returns results in the order of the batch, an `Error` where a row was refused
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
