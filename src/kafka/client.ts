/**
 * All that is used of kafkajs: messages out, topics made, and, beside it in consumer.ts, messages in. It has no maintainer any more;
 * another client would take its place here.
 */
import { type Admin, Kafka as Client, type logCreator, Partitioners, type SASLOptions } from 'kafkajs'
import type { KafkaSecurity } from '../config/kafka-security.ts'
import { quietIdleConnections, readCommitted } from '../patches/kafkajs.ts'
import type { Logger } from '../telemetry/logger.ts'
import { registerCodecs } from './codecs.ts'
import { type Connections, connections } from './connections.ts'
import { type Consumer, createConsumer } from './consumer.ts'
import type { ConsumeOptions, PartitionLag } from './membership.ts'

export interface Message {
  key: string | Buffer | null
  value: string | Buffer | null
  /** Several of one name keep their order. */
  headers?: Record<string, Buffer[]>
}

/** A connected, idempotent producer. One send at a time: of overlapping sends with one key, even idempotent ones, some came out inverted. */
export interface Producer {
  /**
   * Resolves when all in-sync replicas have the messages; messages of one key keep their order.
   *
   * After a rejection nothing else may be sent by this producer: kafkajs takes its sequence number back, and where the broker had written
   * the batch after all, the next one of the same size is acknowledged as a duplicate and dropped. Close it, take a new one, send the same again.
   * @throws whatever the broker or the connection said; {@link faultOfMessage} tells whose fault it is
   */
  send(topic: string, messages: readonly Message[]): Promise<void>
  /** Ends its connections within a second; a send that is under way is rejected. Never throws. */
  close(): Promise<void>
}

export interface Kafka {
  /**
   * Each call makes a new producer: one whose first connect failed never connects again.
   * @param signal cuts its connections when it is aborted, also while it connects; what is under way is rejected
   * @throws where no broker answers
   */
  connectProducer(signal?: AbortSignal): Promise<Producer>
  /**
   * Makes the topic, with the broker's defaults, where it is missing.
   * @returns true where it was missing
   * @throws where no broker answers, or where we may not make topics
   */
  ensureTopic(topic: string, signal?: AbortSignal): Promise<boolean>
  /**
   * Asks a broker which versions it speaks: changes nothing, and takes 1.3 ms with its connection. A connection that is kept would
   * cost 3 % of a core, since kafkajs never sleeps on one. Who asks meanwhile shares the answer.
   * @throws where none has answered within a second; no connection is left then
   */
  reach(): Promise<void>
  /** Reads a topic as a member of a group; connects when it is started. */
  consumer(options: ConsumeOptions): Consumer
  /**
   * How far the group is behind, by a connection of its own.
   * @throws where no broker answers, or the topic is not there
   */
  lag(options: { topic: string; group: string }, signal?: AbortSignal): Promise<PartitionLag[]>
}

export interface KafkaOptions {
  /** `host:port` of one broker or more. */
  brokers: readonly string[]
  clientId: string
  /** Neither TLS nor a login where it is left out. */
  security?: KafkaSecurity
  logger: Logger
  /** For an answer to one request. A send is rejected after three of them, 15 s as it is: the caller's patience, not Kafka's, is long. */
  requestTimeoutMs?: number
}

const REACH_MS = 1000

/** kafkajs always begins with the first one: were that one silent, no probe would ever come to the second in its time. */
function beginningAnywhere(brokers: readonly string[]): string[] {
  const first = Math.floor(Math.random() * brokers.length)
  return [...brokers.slice(first), ...brokers.slice(0, first)]
}

/** What the broker says of a record that it will never take. Other rejections (its clock, its disk, its leader) concern every record. */
const faultsOfMessage = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD'])

/**
 * @param error what a send was rejected with
 * @returns why what was sent can never be taken (with several messages: one of them, or all together), undefined where sending it again may help
 */
export function faultOfMessage(error: unknown): string | undefined {
  // A rejection is the broker's own answer, or wraps it. (The class of such answers cannot be imported from an ES module.)
  for (const fault of [error, (error as Error).cause] as { type?: string; message: string }[]) {
    if (fault?.type && faultsOfMessage.has(fault.type)) return `${fault.type}: ${fault.message}`
  }
  return undefined
}

/** Nothing connects before the first verb. */
export function createKafka({ brokers, clientId, security = {}, logger, requestTimeoutMs = 5000 }: KafkaOptions): Kafka {
  quietIdleConnections()
  readCommitted()
  registerCodecs()
  const retry = { retries: 2, initialRetryTime: 100, maxRetryTime: 1000 }

  /** A client of its own for each use: what its connections are is then known, and they can be ended. */
  function client(sockets: Connections): Client {
    return new Client({
      brokers: beginningAnywhere(brokers),
      clientId,
      connectionTimeout: 2000,
      requestTimeout: requestTimeoutMs,
      retry,
      logCreator: toLogger(logger),
      socketFactory: sockets.open,
      ...(security.ssl ? { ssl: security.ssl } : {}),
      ...(security.sasl ? { sasl: security.sasl as SASLOptions } : {}),
    })
  }

  let reaching: Promise<void> | undefined
  async function reach(): Promise<void> {
    const sockets = connections(AbortSignal.timeout(REACH_MS))
    const admin = client(sockets).admin({ retry: { retries: 0 } })
    try {
      await admin.connect()
    } finally {
      await sockets.close(() => admin.disconnect())
    }
  }

  return {
    async connectProducer(signal) {
      const sockets = connections(signal)
      const producer = client(sockets).producer({
        idempotent: true,
        maxInFlightRequests: 1,
        allowAutoTopicCreation: false,
        createPartitioner: Partitioners.DefaultPartitioner,
        // A topic whose leader moved is seen by the failed send; this is for a topic that grew.
        metadataMaxAge: 30_000,
        retry,
      })
      const close = () => sockets.close(() => producer.disconnect())
      try {
        await producer.connect()
      } catch (error) {
        await close()
        throw error
      }
      return {
        async send(topic, messages) {
          await producer.send({ topic, messages: [...messages], acks: -1, timeout: requestTimeoutMs })
        },
        close,
      }
    },

    ensureTopic,

    reach() {
      reaching ??= reach().finally(() => {
        reaching = undefined
      })
      return reaching
    },

    consumer: (options) => createConsumer({ client, retry, ensureTopic, lag, logger, ...options }),

    lag,
  }

  function lag({ topic, group }: { topic: string; group: string }, signal?: AbortSignal): Promise<PartitionLag[]> {
    return asked(signal, async (admin) => {
      const [ends, [committed]] = await Promise.all([
        admin.fetchTopicOffsets(topic),
        admin.fetchOffsets({ groupId: group, topics: [topic] }),
      ])
      return ends.map(({ partition, high, low }) => {
        const taken = Number(committed?.partitions.find((one) => one.partition === partition)?.offset ?? -1)
        // -1: nothing was ever committed. What was deleted before it was taken is no lag any more.
        return { partition, messages: Number(high) - Math.max(taken, Number(low)), start: BigInt(low), end: BigInt(high) }
      })
    })
  }

  async function asked<Answer>(signal: AbortSignal | undefined, ask: (admin: Admin) => Promise<Answer>): Promise<Answer> {
    const sockets = connections(signal)
    const admin = client(sockets).admin()
    try {
      await admin.connect()
      return await ask(admin)
    } finally {
      await sockets.close(() => admin.disconnect())
    }
  }

  function ensureTopic(topic: string, signal?: AbortSignal): Promise<boolean> {
    return asked(signal, (admin) => admin.createTopics({ topics: [{ topic }], timeout: requestTimeoutMs }))
  }
}

/**
 * Only the text of kafkajs' own lines, at `debug` whatever their level: a fault reaches its caller as a rejection and is logged there once,
 * while kafkajs says it about five times, with whole requests and addresses among the fields.
 */
function toLogger(logger: Logger): logCreator {
  return () =>
    ({ namespace, label, log }) =>
      logger.debug({ from: `kafkajs ${namespace}`, label }, String(log.message))
}
