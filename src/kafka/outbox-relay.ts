/**
 * Brings the outbox to Kafka: every event at least once, the events of one order in their order, from one process at a time.
 *
 * What may come twice carries the same `event_id`: a row is marked after the acknowledgement, and a process that was frozen within a
 * send may finish it after another has taken over. Then an older `sequence` can follow a newer one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { markSent, type OutboxEvent, readUnsent, setAside } from '../db/outbox.ts'
import type { Pool } from '../db/pool.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { bell } from './bell.ts'
import { faultOfMessage, type Kafka, type Producer } from './client.ts'
import { createLeadership } from './leadership.ts'
import { lastOf, toSends } from './sends.ts'

/** Rung by the statement that makes events true, once a batch. */
const CHANNEL = 'order_outbox'

export interface OutboxRelayOptions {
  pool: Pool
  /** For the session that holds the lock and listens; the pool's connections carry no such state. */
  dsn: string
  kafka: Kafka
  topic: string
  logger: Logger
  metrics: Pick<Metrics, 'outboxSent' | 'relayLeads'>
  /** How often the table is read where nobody rings: the net under notifications that get lost with their session. */
  pollMs?: number
  /** How long it gathers after it was woken: at 300 checkouts a second, a send and a mark for fifteen events, not for each. */
  gatherMs?: number
  /** Rows read at a time. kafkajs does not collect: 1,000 in a send are 130 times as fast as 1, and 500 nearly as good. */
  batchRows?: number
  /** How long `stop` lets a send go on, before it is cut off and left to the next relay. */
  stopMs?: number
}

export interface OutboxRelay {
  /** Never throws: what is away is asked again, every 0.1 to 5 s. */
  start(): void
  /** Lets the running send end, gives the lock up and ends every connection of its own. */
  stop(): Promise<void>
  /** There may be something to send. Cheap, and heard once however often it is called. */
  wake(): void
  /** Whether this one sends. */
  leads(): boolean
  /**
   * Sends the oldest unsent events; one run at a time, also with the relay's own.
   * @returns how many rows are done with, sent or set aside; 0 where nothing waits or another one leads
   * @throws where PostgreSQL or Kafka is away; the rows stay unsent
   */
  relayOnce(): Promise<number>
}

export function createOutboxRelay(options: OutboxRelayOptions): OutboxRelay {
  const { pool, dsn, kafka, topic, logger, metrics, pollMs = 1000, gatherMs = 50, batchRows = 500, stopMs = 5000 } = options
  const doorbell = bell()
  const stopping = new AbortController()
  const cutOff = new AbortController()
  const leadership = createLeadership({
    dsn,
    name: 'relay',
    logger,
    async onTaken(session) {
      session.on('notification', () => doorbell.ring())
      await session.query(`listen ${CHANNEL}`)
    },
    onChange(leads) {
      metrics.relayLeads.set(leads ? 1 : 0)
      // What was written while nobody listened rings no bell.
      if (leads) doorbell.ring()
    },
  })

  let producer: Producer | undefined
  /** Events up to this id were in a send that was rejected: they go one by one, so that one that is itself the fault is set aside alone. */
  let aloneUpTo = 0
  /** Acknowledged, but not marked yet: PostgreSQL went away in between. They are marked before anything is read, and not sent again. */
  let acknowledged: number[] = []
  let running: Promise<unknown> = Promise.resolve()
  let loop: Promise<void> | undefined

  /** Makes the topic on the way, where it is missing: a send to a topic that is not there takes seconds to be rejected. */
  async function openProducer(): Promise<Producer> {
    const opened = await kafka.connectProducer(cutOff.signal)
    await kafka
      .ensureTopic(topic, cutOff.signal)
      .catch((error) => logger.warn({ err: error, topic }, 'could not make sure that the topic is there'))
    return opened
  }

  async function closeProducer(): Promise<void> {
    const closing = producer
    producer = undefined
    await closing?.close()
  }

  /** @returns what the send was rejected with, undefined where it was acknowledged */
  async function send(by: Producer, events: readonly OutboxEvent[]): Promise<Error | undefined> {
    try {
      await by.send(
        topic,
        events.map(({ orderId, value }) => ({ key: String(orderId), value })),
      )
    } catch (error) {
      return error as Error
    }
    acknowledged = events.map(({ id }) => id)
    for (const { type } of events) metrics.outboxSent.inc({ type })
    return undefined
  }

  async function markAcknowledged(): Promise<void> {
    if (acknowledged.length === 0) return
    await markSent(pool, acknowledged)
    acknowledged = []
  }

  async function relay(): Promise<number> {
    await markAcknowledged()
    if (!leadership.leads()) return 0
    const sends = toSends(await readUnsent(pool, batchRows), aloneUpTo)
    let done = 0
    for (let events = sends.shift(); events; events = sends.shift()) {
      producer ??= await openProducer()
      // Asked before each send: who was frozen since the last one finds out here.
      if (stopping.signal.aborted || !leadership.leads()) return done
      const rejection = await send(producer, events)
      if (rejection) {
        // This producer would drop messages that it says are acknowledged: only a new one may go on, and with the same events.
        await closeProducer()
        const last = lastOf(events)
        aloneUpTo = Math.max(aloneUpTo, last.id)
        const fault = faultOfMessage(rejection)
        if (!fault) throw rejection
        if (events.length > 1) {
          sends.unshift(...toSends(events, aloneUpTo))
          continue
        }
        await setAside(pool, last.id, fault)
        logger.error({ err: rejection, outboxId: last.id, orderId: last.orderId }, 'an event cannot be sent and is set aside')
      }
      await markAcknowledged()
      done += events.length
    }
    return done
  }

  function relayOnce(): Promise<number> {
    const next = running.then(relay, relay)
    running = next
    return next
  }

  async function run(): Promise<void> {
    let backoffMs = 100
    while (!stopping.signal.aborted) {
      try {
        // Only a full batch says that more wait. What came meanwhile has rung, and is gathered: asked for at once, every checkout had a
        // read, a send and a mark of its own.
        while ((await relayOnce()) >= batchRows) backoffMs = 100
        backoffMs = 100
        await doorbell.heard(pollMs)
        await sleep(gatherMs, undefined, { signal: stopping.signal })
      } catch (error) {
        if (stopping.signal.aborted) return
        logger.warn({ err: error, againInMs: backoffMs }, 'events wait in the outbox')
        // No bell is heard meanwhile: each checkout would ask again what has just failed.
        await sleep(backoffMs, undefined, { signal: stopping.signal }).catch(() => {})
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
      doorbell.ring()
      const ended = Promise.allSettled([loop, running])
      await settledWithin(ended, stopMs)
      cutOff.abort()
      await settledWithin(ended, stopMs)
      await closeProducer()
      await leadership.stop()
    },

    wake: doorbell.ring,
    leads: leadership.leads,
    relayOnce,
  }
}

async function settledWithin(work: Promise<unknown>, ms: number): Promise<void> {
  const enough = new AbortController()
  await Promise.race([work, sleep(ms, undefined, { signal: enough.signal }).catch(() => {})])
  enough.abort()
}
