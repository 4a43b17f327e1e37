/** One active process among many: an advisory lock in PostgreSQL, on a session that ends by itself when its holder stops to ping. */
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { sessionOptions } from '../db/session.ts'
import type { Logger } from '../telemetry/logger.ts'

export interface LeadershipOptions {
  /** A direct connection: behind a pooler that hands sessions around there is no lock of one's own. */
  dsn: string
  /** What is led; the lock's number is made of it. */
  name: string
  logger: Logger
  /** Called on the session that holds the lock, when it has just been taken; what it throws gives the lock up again. */
  onTaken?: (session: Client) => Promise<void>
  /** Called whenever it is taken or lost. */
  onChange?: (leads: boolean) => void
  /** PostgreSQL ends a session that said nothing for so long. A frozen holder is replaced after this and one ping. */
  sessionTimeoutMs?: number
  pingMs?: number
}

export interface Leadership {
  /** Never throws: while PostgreSQL is away it is asked again, every 0.1 to 2 s. */
  start(): void
  /** Gives the lock up and ends the session. */
  stop(): Promise<void>
  /**
   * Whether the lock is ours for certain, by our own clock: a process that was frozen sees `false` at once when it wakes, before it has
   * heard from PostgreSQL. Who asks before each deed can be late by that one deed.
   */
  leads(): boolean
}

export function createLeadership(options: LeadershipOptions): Leadership {
  const { dsn, name, logger, onTaken, onChange, sessionTimeoutMs = 2000, pingMs = 500 } = options
  const stopping = new AbortController()
  /** On the monotonic clock: the session cannot have ended before. 0 where the lock is not ours. */
  let sureUntil = 0
  let holds = false
  let running: Promise<void> | undefined

  function change(now: boolean): void {
    if (holds === now) return
    holds = now
    logger.info({ leads: now }, now ? `took the lock of ${name}` : `gave up or lost the lock of ${name}`)
    onChange?.(now)
  }

  const pause = (ms: number) => sleep(ms, undefined, { signal: stopping.signal }).catch(() => {})

  async function run(): Promise<void> {
    let backoffMs = 100
    while (!stopping.signal.aborted) {
      const { session, end } = newSession()
      let againInMs = 0
      try {
        await session.connect()
        await session.query(`set idle_session_timeout = ${sessionTimeoutMs}`)
        backoffMs = 100
        await waitAndHold(session)
      } catch (error) {
        // Whoever had it lets the others ask first: what took it away may lie here.
        againInMs = holds ? 2 * pingMs : backoffMs
        backoffMs = Math.min(backoffMs * 2, 2000)
        logger.warn({ err: error, againInMs }, `the session for the lock of ${name} is lost`)
      }
      sureUntil = 0
      change(false)
      await end()
      await pause(againInMs)
    }
  }

  function newSession(): { session: Client; end: () => Promise<void> } {
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
    // Without a listener the end of a session would end the process.
    session.on('error', () => {
      sureUntil = 0
    })
    return {
      session,
      // The server closes the connection when it has freed the lock; one that hangs is not waited for.
      async end() {
        await Promise.race([session.end().catch(() => {}), sleep(1000, undefined, { ref: false })])
        socket.destroy()
      },
    }
  }

  /** Waiting is asking again every `pingMs`, which keeps the session alive like a ping. Throws when the session is lost. */
  async function waitAndHold(session: Client): Promise<void> {
    while (!stopping.signal.aborted) {
      const askedAt = performance.now()
      if (holds) {
        await session.query('select 1')
        sureUntil = askedAt + sessionTimeoutMs
      } else if (await take(session)) {
        await onTaken?.(session)
        sureUntil = askedAt + sessionTimeoutMs
        change(true)
      }
      await pause(pingMs)
    }
  }

  async function take(session: Client): Promise<boolean> {
    const { rows } = await session.query<{ taken: boolean }>('select pg_try_advisory_lock(hashtextextended($1, 0)) as taken', [
      `order_service.${name}`,
    ])
    return rows[0]!.taken
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
