/** An outbox with a database and a topic of its own, and relays that end with the test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createKafka, type Kafka } from '../../src/kafka/client.ts'
import { createOutboxRelay, type OutboxRelayOptions } from '../../src/kafka/outbox-relay.ts'
import type { Relay } from '../../src/kafka/relay.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createDatabase, query } from '../support/database.ts'
import { type Landed, type Position, newTopic, readTopic } from '../support/topic.ts'
import { until } from '../support/until.ts'

const logger = createLogger(process.env.TEST_LOG_LEVEL ?? 'silent')

/** One event of an order, padded with so many characters. */
export interface Written {
  orderId: number
  pad?: number
}

export interface OutboxShop {
  dsn: string
  topic: string
  kafka: Kafka
  /** All in one transaction; `notify` rings as the completing statement does. */
  write(events: Written[], options?: { notify?: boolean }): Promise<void>
  relay(options?: Partial<OutboxRelayOptions>): Relay
  /** A relay in a process of its own. */
  relayProcess(): ChildProcess
  /** Until Kafka has acknowledged everything that can be sent. */
  allSent(): Promise<void>
  /** What stands on the topic now. */
  landed(): Promise<(Landed & Position)[]>
  query: (text: string, values?: unknown[]) => Promise<Record<string, unknown>[]>
}

export async function open(
  t: ExecutionContext,
  { bootstrap = process.env.KAFKA_BOOTSTRAP!, requestTimeoutMs = 5000, dsn = '' } = {},
): Promise<OutboxShop> {
  const database = dsn ? { dsn, drop: async () => {} } : await createDatabase()
  const pool: Pool = await connectPool(database.dsn, { size: 4, logger })
  const topic = newTopic()
  const kafka = createKafka({ brokers: [bootstrap], clientId: 'outbox-test', logger, requestTimeoutMs })
  const relays: Relay[] = []
  const children: ChildProcess[] = []
  const ask = (text: string, values: unknown[] = []) => query(database.dsn, text, values)

  t.teardown(async () => {
    for (const child of children.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    await Promise.all(relays.map((relay) => relay.stop()))
    await pool.end()
    await database.drop()
  })

  return {
    dsn: database.dsn,
    topic,
    kafka,
    query: ask,
    async write(events, { notify = true } = {}) {
      await ask(
        `with e as (insert into order_service.outbox (event_id, order_id, type, payload)
           select id, order_id, 'order.created', jsonb_build_object('type', 'order.created', 'order_id', order_id, 'event_id', id, 'pad', repeat('x', pad))
           from (select gen_random_uuid() as id, order_id, pad from unnest($1::int[], $2::int[]) with ordinality as w (order_id, pad, n) order by n) w)
         select case when $3 then pg_notify('order_outbox', '') end`,
        [events.map(({ orderId }) => orderId), events.map(({ pad = 100 }) => pad), notify],
      )
    },
    relay(options = {}) {
      const relay = createOutboxRelay({ pool, dsn: database.dsn, kafka, topic, logger, metrics: createMetrics(), ...options })
      relays.push(relay)
      return relay
    },
    relayProcess() {
      const script = fileURLToPath(new URL('relay-process.ts', import.meta.url))
      const child = spawn(process.execPath, [script, database.dsn, bootstrap, topic], {
        stdio: ['ignore', 'ignore', 'inherit'],
      })
      children.push(child)
      return child
    },
    async allSent() {
      await until(async () => {
        const [row] = await ask('select count(*)::int as n from order_service.outbox where sent_at is null and undeliverable_at is null')
        return row!.n === 0
      })
    },
    landed: () => readTopic(bootstrap, topic),
  }
}

/** The sequences of each order as they stand on the topic, repeats left out. */
export function sequencesByOrder(landed: readonly Landed[]): Map<string, number[]> {
  const byOrder = new Map<string, number[]>()
  const seen = new Set<string>()
  for (const { key, event } of landed) {
    if (seen.has(event.event_id)) continue
    seen.add(event.event_id)
    byOrder.set(key, [...(byOrder.get(key) ?? []), event.sequence])
  }
  return byOrder
}

export const isRising = (numbers: readonly number[]) => numbers.every((number, i) => i === 0 || number > numbers[i - 1]!)
