/**
 * Sends rows of a table to Kafka: each at least once, those of one key in their order, from one process at a time.
 *
 * A row is marked after its acknowledgement. A process that was frozen within a send may finish it after another has taken over: then the
 * rows are sent twice, and an older row can follow a newer one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { exponentialBackoffMs } from '../backoff.ts'
import type { Logger } from '../telemetry/logger.ts'
import { within } from '../within.ts'
import type { Kafka } from './client.ts'
import { createLeadership } from './leadership.ts'
import { type RelaySource, Sender } from './sender.ts'
import type { Unsent } from './to-sends.ts'
import { createSignal, type Signal } from './signal.ts'

export interface RelayDeps {
  /** For the session that holds the lock and listens; the pool's connections carry no such state. */
  dsn: string
  kafka: Pick<Kafka, 'connectProducer' | 'ensureTopic'>
  topic: string
  logger: Logger
  /** How often the table is read without a signal, since notifications are lost along with their session. */
  pollMs?: number
  /** How long it gathers after a signal: at 300 checkouts a second, fifteen events share a send and a mark. */
  gatherMs?: number
  /** Rows read at a time. kafkajs does not batch: a send of 1,000 is 130 times as fast as sends of 1, and one of 500 nearly as good. */
  batchRows?: number
  /** How long `stop` continues to send; what remains is left to the next relay. */
  stopMs?: number
}

export interface RelayOptions<Row extends Unsent> extends RelayDeps {
  /** Names the lock: of all relays with this name, one leads. */
  name: string
  source: RelaySource<Row>
  /** The channel that is notified when a row is written. */
  channel?: string
  /** Called with what Kafka has acknowledged. */
  onSent?: (rows: readonly Row[]) => void
  /** Called whenever the lock is acquired or lost. */
  onChange?: (leads: boolean) => void
}

export interface Relay {
  /** Never throws: what is away is tried again, every 0.1 to 5 s. */
  start(): void
  /** Sends what waits, for at most `stopMs`, releases the lock and ends all connections of its own. */
  stop(): Promise<void>
  /** There may be something to send. Cheap; calls while it is busy count as one. */
  wake(): void
  /** Whether this process is the one that sends. */
  leads(): boolean
  /** How often it has read, connected or sent, in all; `tried` includes what failed. */
  progress(): { tried: number; succeeded: number }
  /** Why its last run failed; undefined where it went well. */
  failure(): Error | undefined
  /**
   * @returns the id of the oldest row that waits for this relay; undefined where none does, or another relay leads
   * @throws where PostgreSQL does not answer
   */
  oldestUnsent(): Promise<number | undefined>
  /**
   * Sends the oldest unsent rows; one run at a time, including the relay's own.
   * @returns how many rows were sent or found undeliverable; 0 where nothing waits or another relay leads
   * @throws where PostgreSQL or Kafka is away; the rows stay unsent
   */
  relayOnce(): Promise<number>
}

/** How long `stop` waits after it has cut the connections. Requests on them are rejected at once; anything else hangs, and sends nothing more. */
const CUT_OFF_MS = 500
const FIRST_PAUSE_MS = 100
const MOST_PAUSE_MS = 5000

export function createRelay<Row extends Unsent>(options: RelayOptions<Row>): Relay {
  const { name, source, channel, onSent = () => {}, onChange, dsn, kafka, topic, logger } = options
  const { pollMs = 1000, gatherMs = 50, batchRows = 500, stopMs = 5000 } = options
  const written = createSignal()
  const stopping = new AbortController()
  const cutOff = new AbortController()
  const leadership = createLeadership({
    dsn,
    name,
    logger,
    async onAcquired(session) {
      if (channel === undefined) return
      session.on('notification', () => written.send())
      await session.query(`listen ${channel}`)
    },
    onChange(leads) {
      onChange?.(leads)
      // Rows written before this process listened sent no signal to it.
      if (leads) written.send()
    },
  })
  const sender = new Sender({ name, source, kafka, topic, batchRows, logger, leads: leadership.leads, signal: cutOff.signal, onSent })
  let running: Promise<unknown> = Promise.resolve()
  let loop: Promise<void> | undefined
  let failure: Error | undefined

  function note(error: Error | undefined): void {
    sender.count(!error)
    failure = error
  }

  function relayOnce(): Promise<number> {
    const sendUnsent = () => sender.sendUnsent()
    const next = running.then(sendUnsent, sendUnsent)
    running = next
    next.then(
      () => note(undefined),
      (error: Error) => note(error),
    )
    return next
  }

  return {
    start() {
      leadership.start()
      loop ??= run({ name, relayOnce, written, pollMs, gatherMs, batchRows, stopping: stopping.signal, cutOff: cutOff.signal, logger })
    },

    async stop() {
      stopping.abort()
      written.send()
      const ended = Promise.allSettled([loop, running])
      await within(stopMs, ended).catch(() => {})
      cutOff.abort()
      await within(Math.min(stopMs, CUT_OFF_MS), ended).catch(() => {})
      await sender.closeProducer()
      await leadership.stop()
    },

    wake: written.send,
    leads: leadership.leads,
    progress: () => ({ ...sender.progress }),
    failure: () => failure,
    oldestUnsent: async () => (leadership.leads() ? (await source.readUnsent(1))[0]?.id : undefined),
    relayOnce,
  }
}

interface Loop {
  name: string
  relayOnce(): Promise<number>
  written: Signal
  pollMs: number
  gatherMs: number
  batchRows: number
  stopping: AbortSignal
  cutOff: AbortSignal
  logger: Logger
}

/** Relays until it is stopped, then once more. Never throws. */
async function run({ name, relayOnce, written, pollMs, gatherMs, batchRows, stopping, cutOff, logger }: Loop): Promise<void> {
  const pause = (ms: number) => sleep(ms, undefined, { signal: stopping }).catch(() => {})
  let failures = 0
  for (;;) {
    // The last run begins after the stop and sends what was gathered: no other relay may follow to send it.
    const isLast = stopping.aborted
    try {
      // Only a full batch means that more rows wait. Rows written meanwhile have sent a signal, and are gathered: otherwise every checkout
      // would cost a read, a send and a mark of its own.
      while ((await relayOnce()) >= batchRows) failures = 0
      failures = 0
      if (isLast) return
      await written.received(pollMs)
      await pause(gatherMs)
    } catch (error) {
      if (cutOff.aborted) return
      failures += 1
      const againInMs = exponentialBackoffMs(failures, FIRST_PAUSE_MS, MOST_PAUSE_MS)
      logger.warn({ err: error, relay: name, againInMs }, 'relay cannot send; messages wait for Kafka')
      if (isLast) return
      // Signals are ignored meanwhile: each checkout would repeat what has just failed.
      await pause(againInMs)
    }
  }
}
