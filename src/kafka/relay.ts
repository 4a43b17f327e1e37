/**
 * Brings rows of a table to Kafka: every row at least once, those of one key in their order, from one process at a time.
 *
 * A row is marked after the acknowledgement, and a process that was frozen within a send may finish it after another has taken over:
 * then it comes twice, and an older row can follow a newer one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../telemetry/logger.ts'
import { bell } from './signal.ts'
import { faultOfMessage, type Kafka, type Producer } from './client.ts'
import { createLeadership } from './leadership.ts'
import { lastOf, toSends, type Unsent } from './sends.ts'

/** A table of rows that wait for Kafka. */
export interface RelaySource<Row extends Unsent> {
  /** The oldest unsent rows, in the order in which they are to be sent; ids rise along it. */
  readUnsent(limit: number): Promise<Row[]>
  /** Kafka has acknowledged these. May be said again. @returns those whose rows somebody keeps locked: to be said again */
  markSent(ids: readonly number[]): Promise<number[]>
  /** This row can never be sent; the others go on without it. */
  setAside(id: number, reason: string): Promise<void>
}

export interface RelayDeps {
  /** For the session that holds the lock and listens; the pool's connections carry no such state. */
  dsn: string
  kafka: Pick<Kafka, 'connectProducer' | 'ensureTopic'>
  topic: string
  logger: Logger
  /** How often the table is read where nobody rings: the net under notifications that get lost with their session. */
  pollMs?: number
  /** How long it gathers after it was woken: at 300 checkouts a second, a send and a mark for fifteen events, not for each. */
  gatherMs?: number
  /** Rows read at a time. kafkajs does not collect: 1,000 in a send are 130 times as fast as 1, and 500 nearly as good. */
  batchRows?: number
  /** How long `stop` goes on sending what waits, before that is cut off and left to the next relay. */
  stopMs?: number
}

export interface RelayOptions<Row extends Unsent> extends RelayDeps {
  /** Names the lock: one at a time leads of those with this name. */
  name: string
  source: RelaySource<Row>
  /** The channel that is rung by whoever writes a row. */
  channel?: string
  /** Called with what Kafka has acknowledged. */
  onSent?: (rows: readonly Row[]) => void
  /** Called whenever the lock is taken or lost. */
  onChange?: (leads: boolean) => void
}

export interface Relay {
  /** Never throws: what is away is asked again, every 0.1 to 5 s. */
  start(): void
  /** Sends what waits, for as long as `stopMs` allows, gives the lock up and ends every connection of its own. */
  stop(): Promise<void>
  /** There may be something to send. Cheap, and heard once however often it is called. */
  wake(): void
  /** Whether this one sends. */
  leads(): boolean
  /** How often it has looked for rows, and sent, in all; with what failed, and without. */
  turns(): { tried: number; succeeded: number }
  /**
   * @returns the id of the oldest row that waits for this relay; undefined where none does, or another one leads
   * @throws where PostgreSQL cannot be asked
   */
  oldestUnsent(): Promise<number | undefined>
  /**
   * Sends the oldest unsent rows; one run at a time, also with the relay's own.
   * @returns how many rows are done with, sent or set aside; 0 where nothing waits or another one leads
   * @throws where PostgreSQL or Kafka is away; the rows stay unsent
   */
  relayOnce(): Promise<number>
}

/** What waits on a connection that was cut is rejected at once; what does not end by then hangs elsewhere, and never sends again. */
const CUT_OFF_MS = 500

export function createRelay<Row extends Unsent>(options: RelayOptions<Row>): Relay {
  const { name, source, channel, onSent, onChange, dsn, kafka, topic, logger } = options
  const { pollMs = 1000, gatherMs = 50, batchRows = 500, stopMs = 5000 } = options
  const signal = bell()
  const stopping = new AbortController()
  const cutOff = new AbortController()
  const leadership = createLeadership({
    dsn,
    name,
    logger,
    async onTaken(session) {
      if (channel === undefined) return
      session.on('notification', () => signal.ring())
      await session.query(`listen ${channel}`)
    },
    onChange(leads) {
      onChange?.(leads)
      // What was written while nobody listened rings no bell.
      if (leads) signal.ring()
    },
  })

  let producer: Producer | undefined
  /** Rows up to this id were in a send that was rejected: they go one by one, so that one that is itself the fault is set aside alone. */
  let aloneUpTo = 0
  /** Acknowledged, but not marked yet: PostgreSQL went away in between, or somebody keeps their rows locked. They are not sent again. */
  let acknowledged: number[] = []
  const turns = { tried: 0, succeeded: 0 }
  let running: Promise<unknown> = Promise.resolve()
  let loop: Promise<void> | undefined

  /** Makes the topic on the way, where it is missing: a send to a topic that is not there takes seconds to be rejected. */
  async function openProducer(): Promise<Producer> {
    const opened = await kafka.connectProducer(cutOff.signal)
    // Each of the two may take its three tries of 5 s, and a send after them as long: together more than a watchdog waits.
    turns.tried += 1
    await kafka
      .ensureTopic(topic, cutOff.signal)
      .catch((error) => logger.warn({ err: error, topic }, 'could not make sure that the topic is there'))
    turns.tried += 1
    return opened
  }

  async function closeProducer(): Promise<void> {
    const closing = producer
    producer = undefined
    await closing?.close()
  }

  /** @returns what the send was rejected with, undefined where it was acknowledged */
  async function send(by: Producer, rows: readonly Row[]): Promise<Error | undefined> {
    try {
      await by.send(
        topic,
        rows.map(({ message }) => message),
      )
    } catch (error) {
      turns.tried += 1
      return error as Error
    }
    turned()
    acknowledged = [...acknowledged, ...rows.map(({ id }) => id)]
    onSent?.(rows)
    return undefined
  }

  async function markAcknowledged(): Promise<void> {
    if (acknowledged.length === 0) return
    acknowledged = await source.markSent(acknowledged)
  }

  async function relay(): Promise<number> {
    await markAcknowledged()
    if (!leadership.leads()) return 0
    const unsent = await source.readUnsent(batchRows)
    const sends = toSends(
      unsent.filter(({ id }) => !acknowledged.includes(id)),
      aloneUpTo,
    )
    let done = 0
    for (let rows = sends.shift(); rows; rows = sends.shift()) {
      producer ??= await openProducer()
      // Asked before each send: who was frozen since the last one finds out here.
      if (cutOff.signal.aborted || !leadership.leads()) return done
      const rejection = await send(producer, rows)
      if (rejection) {
        // This producer would drop messages that it says are acknowledged: only a new one may go on, and with the same rows.
        await closeProducer()
        const last = lastOf(rows)
        aloneUpTo = Math.max(aloneUpTo, last.id)
        const fault = faultOfMessage(rejection)
        if (!fault) throw rejection
        if (rows.length > 1) {
          sends.unshift(...toSends(rows, aloneUpTo))
          continue
        }
        await source.setAside(last.id, fault)
        logger.error({ err: rejection, relay: name, id: last.id, orderId: last.orderId }, 'a message cannot be sent and is set aside')
      }
      await markAcknowledged()
      done += rows.length
    }
    return done
  }

  function relayOnce(): Promise<number> {
    const next = running.then(relay, relay)
    running = next
    next.then(turned, () => void (turns.tried += 1))
    return next
  }

  function turned(): void {
    turns.tried += 1
    turns.succeeded += 1
  }

  async function run(): Promise<void> {
    const pause = (ms: number) => sleep(ms, undefined, { signal: stopping.signal }).catch(() => {})
    let backoffMs = 100
    for (;;) {
      // The last turn begins after the stop and finds what was gathered: no other relay may come to send it.
      const isLast = stopping.signal.aborted
      try {
        // Only a full batch says that more wait. What came meanwhile has rung, and is gathered: asked for at once, every checkout had a
        // read, a send and a mark of its own.
        while ((await relayOnce()) >= batchRows) backoffMs = 100
        backoffMs = 100
        if (isLast) return
        await signal.heard(pollMs)
        await pause(gatherMs)
      } catch (error) {
        if (cutOff.signal.aborted) return
        logger.warn({ err: error, relay: name, againInMs: backoffMs }, 'messages wait for Kafka')
        if (isLast) return
        // No bell is heard meanwhile: each checkout would ask again what has just failed.
        await pause(backoffMs)
        backoffMs = Math.min(backoffMs * 2, 5000)
      }
    }
  }

  return {
    start() {
      leadership.start()
      loop ??= run()
    },

    async stop() {
      stopping.abort()
      signal.ring()
      const ended = Promise.allSettled([loop, running])
      await settledWithin(ended, stopMs)
      cutOff.abort()
      await settledWithin(ended, Math.min(stopMs, CUT_OFF_MS))
      await closeProducer()
      await leadership.stop()
    },

    wake: signal.ring,
    leads: leadership.leads,
    turns: () => ({ ...turns }),
    oldestUnsent: async () => (leadership.leads() ? (await source.readUnsent(1))[0]?.id : undefined),
    relayOnce,
  }
}

async function settledWithin(work: Promise<unknown>, ms: number): Promise<void> {
  const enough = new AbortController()
  await Promise.race([work, sleep(ms, undefined, { signal: enough.signal }).catch(() => {})])
  enough.abort()
}
