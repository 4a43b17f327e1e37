/** The interface of a command, and the connections that commands share. */
import type { ParseArgsConfig } from 'node:util'
import type { Catalog } from '../clients/catalog.ts'
import type { AdminConfig, CatalogConfig } from '../config.ts'
import { connectPool, type Pool, sqlState } from '../db/pool.ts'
import type { Actions } from '../operators/action.ts'
import type { NextRun } from '../operators/order-life.ts'
import type { Queues } from '../operators/queue-verbs.ts'
import { createLogger } from '../telemetry/logger.ts'

/** The command line is wrong, and nothing was done. */
export class UsageError extends Error {}

/** The time-out has passed. Work that has begun continues, and the command can be repeated. */
export class TimedOut extends Error {}

/** PostgreSQL or Redis is unavailable. The message has neither address nor password. */
export class Unavailable extends Error {}

export interface Command {
  /** The command's name and arguments. */
  usage: string
  about: string
  options: NonNullable<ParseArgsConfig['options']>
  /**
   * Checks the command line.
   * @returns the work. It resolves to whether everything was done, or rejects with TimedOut
   * @throws UsageError
   */
  prepare(given: Given): (tools: Tools) => Promise<boolean>
}

export interface Given {
  values: Record<string, string | boolean | (string | boolean)[] | undefined>
  positionals: readonly string[]
}

const MOST_SECONDS = 3600

/** @returns an option in seconds as ms. @throws UsageError */
export function msOf(option: string, text: Given['values'][string]): number | undefined {
  if (text === undefined) return undefined
  const seconds = Number(text)
  if (!/^\d+(\.\d+)?$/.test(String(text)) || seconds > MOST_SECONDS) {
    throw new UsageError(`${option}: ${JSON.stringify(text)} is not a number of seconds; write one up to ${MOST_SECONDS}`)
  }
  return 1000 * seconds
}

/** Commands by their names. */
export type Group = Record<string, Command>

export interface Tools {
  /** Connects at the first call. @throws Unavailable */
  pool(): Promise<Pool>
  /** Connects at the first call. @throws Unavailable */
  queues(): Promise<Queues>
  /** Connects when it is used. */
  actions(): Promise<Actions>
  /** When a job runs next; it connects at the first call, and rejects while Redis is away. */
  nextRun: NextRun
  /** Where the events of orders go. */
  eventTopic: string
  /** For reading; it connects at the first read. @throws ConfigError */
  catalog(): Promise<Catalog>
  print(line: string): void
  close(): Promise<void>
}

/** @param readCatalog reads the variables that only some commands need */
export function openTools(config: AdminConfig, readCatalog: () => CatalogConfig): Tools {
  const logger = createLogger('silent')
  const closers: (() => Promise<unknown>)[] = []
  const once = <T>(open: () => Promise<T>) => {
    let opening: Promise<T> | undefined
    return () => (opening ??= open())
  }
  const pool = once(async () => {
    const connected = await connectPool(config.POSTGRES_DSN, { size: 2, statementTimeoutMs: 60_000, logger }).catch((error: unknown) => {
      throw postgresUnavailable(error)
    })
    closers.push(() => connected.end())
    return connected
  })
  // Loaded at first use: commands that do not need it start in half the time.
  const openRedis = once(async () => {
    const { connectFailFast, ready } = await import('../redis/connection.ts')
    const redis = connectFailFast(config.REDIS_URL, logger)
    closers.push(async () => redis.disconnect())
    await ready(redis).catch(() => {
      throw new Unavailable('Redis cannot be reached; check REDIS_URL')
    })
    return redis
  })
  const queues = once(async () => {
    const { openQueues } = await import('./queues.ts')
    const opened = openQueues(await openRedis(), config.REDIS_PREFIX)
    closers.push(() => opened.close())
    return opened
  })
  return {
    pool,
    queues,
    actions: once(async () => {
      const { createActions } = await import('../operators/perform-actions.ts')
      return createActions({ read: pool, write: pool, queues, logger })
    }),
    eventTopic: config.TOPIC_ORDER_EVENTS,
    async nextRun(name, jobId) {
      const { nextRun, openQueue } = await import('../queues/queue-state.ts')
      const queue = openQueue(name, await openRedis(), config.REDIS_PREFIX)
      return nextRun(queue, jobId).finally(() => queue.close())
    },
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

/** @returns the error for the operator if PostgreSQL caused this one; otherwise undefined */
export function postgresFault(error: unknown): Unavailable | undefined {
  const { code, name, cause } = error as { code?: unknown; name?: string; cause?: { code?: unknown } }
  const reason = [code, cause?.code].find((one) => typeof one === 'string')
  const isPostgres = sqlState(error) !== undefined || reason !== undefined || /Connection|BackendTerminated|Statement/.test(name ?? '')
  return isPostgres ? postgresUnavailable(error) : undefined
}

function postgresUnavailable(error: unknown): Unavailable {
  const state = sqlState(error)
  if (state === '42P01' || state === '3F000') return new Unavailable('The tables do not exist yet; run node src/main.ts release')
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } }
  const reason = [state, code, cause?.code].find((one) => typeof one === 'string')
  return new Unavailable(`PostgreSQL cannot be used${reason ? ` (${reason})` : ''}; check POSTGRES_DSN`)
}
