/** What a command of the operators is, and what it works with. */
import type { ParseArgsConfig } from 'node:util'
import type { Catalog } from '../clients/catalog.ts'
import type { AdminConfig, CatalogConfig } from '../config.ts'
import { connectPool, type Pool, sqlState } from '../db/pool.ts'
import type { PaymentQueue } from '../queues/payment.ts'
import { createLogger } from '../telemetry/logger.ts'

/** The command line is wrong; nothing was done. */
export class UsageError extends Error {}

/** The time that it was given is over; what was begun goes on, and the command can be repeated. */
export class TimedOut extends Error {}

/** PostgreSQL or Redis cannot be used. The message names neither address nor password. */
export class Unavailable extends Error {}

export interface Command {
  /** Its name and what follows it. */
  usage: string
  about: string
  options: NonNullable<ParseArgsConfig['options']>
  /**
   * @returns what is to be done; it resolves to whether all of it could be done, or rejects with TimedOut
   * @throws UsageError
   */
  prepare(given: Given): (tools: Tools) => Promise<boolean>
}

export interface Given {
  values: Record<string, string | boolean | (string | boolean)[] | undefined>
  positionals: readonly string[]
}

const MOST_SECONDS = 3600

/** @returns what an option says in seconds, in ms. @throws UsageError */
export function msOf(option: string, text: Given['values'][string]): number | undefined {
  if (text === undefined) return undefined
  const seconds = Number(text)
  if (!/^\d+(\.\d+)?$/.test(String(text)) || seconds > MOST_SECONDS) {
    throw new UsageError(`${option} is a number of seconds up to ${MOST_SECONDS}, not ${JSON.stringify(text)}`)
  }
  return 1000 * seconds
}

/** Commands by their names. */
export type Group = Record<string, Command>

export interface Tools {
  /** Connects when it is first asked for. @throws Unavailable */
  pool(): Promise<Pool>
  /** Connects when it is first asked for. @throws Unavailable */
  payments(): Promise<PaymentQueue>
  /** To look at: it connects with the first look. @throws ConfigError */
  catalog(): Promise<Catalog>
  print(line: string): void
  close(): Promise<void>
}

/** @param readCatalog is asked for what only some commands need */
export function openTools(config: AdminConfig, readCatalog: () => CatalogConfig): Tools {
  const logger = createLogger('silent')
  const closers: (() => Promise<unknown>)[] = []
  const once = <T>(open: () => Promise<T>) => {
    let opening: Promise<T> | undefined
    return () => (opening ??= open())
  }
  return {
    pool: once(async () => {
      const pool = await connectPool(config.POSTGRES_DSN, { size: 2, statementTimeoutMs: 60_000, logger }).catch((error: unknown) => {
        throw postgresAway(error)
      })
      closers.push(() => pool.end())
      return pool
    }),
    // What few commands use is loaded with its first use: the others are there in half the time.
    payments: once(async () => {
      const [{ connectFailFast, ready }, { createPaymentQueue }] = await Promise.all([
        import('../redis/connection.ts'),
        import('../queues/payment.ts'),
      ])
      const redis = connectFailFast(config.REDIS_URL, logger)
      closers.push(async () => redis.disconnect())
      await ready(redis).catch(() => {
        throw new Unavailable('Redis cannot be reached; is REDIS_URL right?')
      })
      const queue = createPaymentQueue(redis, config.REDIS_PREFIX, { wallTime: Date.now })
      closers.push(() => queue.close())
      return queue
    }),
    async catalog() {
      const [{ createDownstream }, { createCatalog }, { createMetrics }] = await Promise.all([
        import('../clients/http.ts'),
        import('../clients/catalog.ts'),
        import('../telemetry/metrics.ts'),
      ])
      const { CATALOG_BASE: base, CATALOG_CONCURRENCY: concurrency, CALL_TIMEOUT_MS: timeoutMs } = readCatalog()
      const downstream = createDownstream({ name: 'catalog', base, headers: {}, concurrency, timeoutMs, metrics: createMetrics() })
      closers.push(() => downstream.close())
      return createCatalog(downstream)
    },
    print: (line) => void process.stdout.write(`${line}\n`),
    async close() {
      for (const close of closers.toReversed()) await close().catch(() => {})
    },
  }
}

/** @returns what to tell an operator where PostgreSQL did not do what it was asked; undefined for any other error */
export function postgresFault(error: unknown): Unavailable | undefined {
  const { code, name, cause } = error as { code?: unknown; name?: string; cause?: { code?: unknown } }
  const said = [code, cause?.code].find((one) => typeof one === 'string')
  const isPostgres = sqlState(error) !== undefined || said !== undefined || /Connection|BackendTerminated|Statement/.test(name ?? '')
  return isPostgres ? postgresAway(error) : undefined
}

function postgresAway(error: unknown): Unavailable {
  const state = sqlState(error)
  if (state === '42P01' || state === '3F000') return new Unavailable('The tables are not there yet; node src/main.ts release makes them')
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } }
  const said = [state, code, cause?.code].find((one) => typeof one === 'string')
  return new Unavailable(`PostgreSQL cannot be used${said ? ` (${said})` : ''}; is POSTGRES_DSN right?`)
}
