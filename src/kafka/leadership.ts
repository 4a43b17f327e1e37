/** One active process of many: an advisory lock in PostgreSQL, on a session that ends by itself when its holder stops pinging. */
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { exponentialBackoffMs } from '../backoff.ts'
import { sessionOptions } from '../db/session.ts'
import type { Logger } from '../telemetry/logger.ts'
import { within } from '../within.ts'

export interface LeadershipOptions {
  /** A direct connection: behind a pooler that shares sessions no process has a lock of its own. */
  dsn: string
  /** What is led; the lock's number is derived from it. */
  name: string
  logger: Logger
  /** Called on the session that has just acquired the lock; if it throws, the lock is released again. */
  onAcquired?: (session: Client) => Promise<void>
  /** Called whenever the lock is acquired or lost. */
  onChange?: (leads: boolean) => void
  /** PostgreSQL ends a session that was silent for this long. A frozen holder is replaced after this and one ping. */
  sessionTimeoutMs?: number
  pingMs?: number
}

export interface Leadership {
  /** Never throws: while PostgreSQL is away it connects again every 0.1 to 2 s. */
  start(): void
  /** Releases the lock and ends the session. */
  stop(): Promise<void>
  /**
   * Whether the lock is certainly ours, by our own clock. A process that was frozen gets `false` as soon as it wakes, before it has heard
   * from PostgreSQL. A caller that checks before each action can be late by that one action.
   */
  leads(): boolean
}

const FIRST_PAUSE_MS = 100
const MOST_PAUSE_MS = 2000
/** The server closes the connection once it has freed the lock; a server that hangs is waited for no longer. */
const SESSION_END_MS = 1000

export function createLeadership(options: LeadershipOptions): Leadership {
  const { name, logger, onAcquired, onChange, sessionTimeoutMs = 2000, pingMs = 500 } = options
  const stopping = new AbortController()
  /** On the monotonic clock: the session cannot have ended before. 0 where the lock is not ours. */
  let sureUntil = 0
  let holds = false
  let running: Promise<void> | undefined

  function change(now: boolean): void {
    if (holds === now) return
    holds = now
    logger.info({ leads: now }, now ? `lock of ${name} acquired` : `lock of ${name} released or lost`)
    onChange?.(now)
  }

  const pause = (ms: number) => sleep(ms, undefined, { signal: stopping.signal }).catch(() => {})

  async function run(): Promise<void> {
    let failures = 0
    while (!stopping.signal.aborted) {
      const { session, end } = openSession({ ...options, sessionTimeoutMs }, () => (sureUntil = 0))
      let againInMs = 0
      try {
        await session.connect()
        await session.query(`set idle_session_timeout = ${sessionTimeoutMs}`)
        failures = 0
        await acquireAndHold(session)
      } catch (error) {
        failures += 1
        // A former holder lets the others try first: the cause of its loss may be here.
        againInMs = holds ? 2 * pingMs : exponentialBackoffMs(failures, FIRST_PAUSE_MS, MOST_PAUSE_MS)
        logger.warn({ err: error, againInMs }, `session for the lock of ${name} lost; connecting again`)
      }
      sureUntil = 0
      change(false)
      await end()
      await pause(againInMs)
    }
  }

  /** Tries again every `pingMs`, which also keeps the session alive. @throws when the session is lost */
  async function acquireAndHold(session: Client): Promise<void> {
    while (!stopping.signal.aborted) {
      const askedAt = performance.now()
      if (holds) {
        await session.query('select 1')
        sureUntil = askedAt + sessionTimeoutMs
      } else if (await tryAcquire(session, name)) {
        await onAcquired?.(session)
        sureUntil = askedAt + sessionTimeoutMs
        change(true)
      }
      await pause(pingMs)
    }
  }

  return {
    start() {
      running ??= run()
    },
    async stop() {
      stopping.abort()
      await running
    },
    leads: () => holds && performance.now() < sureUntil,
  }
}

/** @param onError called when the session breaks; a session without a listener would end the process */
function openSession(
  { dsn, name, sessionTimeoutMs }: Pick<LeadershipOptions, 'dsn' | 'name'> & { sessionTimeoutMs: number },
  onError: () => void,
): { session: Client; end: () => Promise<void> } {
  const socket = new Socket()
  const session = new Client({
    ...sessionOptions(dsn),
    stream: () => socket,
    application_name: `order-service ${name}`,
    connectionTimeoutMillis: 2000,
    // By our side's clock: a server that hangs keeps to no time-out of its own.
    query_timeout: sessionTimeoutMs,
    keepAlive: true,
  })
  session.on('error', onError)
  return {
    session,
    async end() {
      await within(SESSION_END_MS, session.end()).catch(() => {})
      socket.destroy()
    },
  }
}

async function tryAcquire(session: Client, name: string): Promise<boolean> {
  const { rows } = await session.query<{ taken: boolean }>('select pg_try_advisory_lock(hashtextextended($1, 0)) as taken', [
    `order_service.${name}`,
  ])
  return rows[0]!.taken
}
