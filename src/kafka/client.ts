/**
 * Everything that uses kafkajs starts here: producers, topics and lag, and consumers (consumer.ts). kafkajs has no maintainer any more, so
 * another client would be put in here.
 */
import { type Admin, Kafka as Client, type logCreator, type SASLOptions } from 'kafkajs'
import type { KafkaSecurity } from '../config/kafka-security.ts'
import { quietIdleConnections, readCommitted } from '../patches/kafkajs.ts'
import type { Logger } from '../telemetry/logger.ts'
import { registerCodecs } from './codecs.ts'
import { type Connections, connections } from './connections.ts'
import { type Consumer, createConsumer } from './consumer.ts'
import type { ConsumeOptions, PartitionLag } from './membership.ts'
import { createPositions, type Position } from './positions.ts'

export interface Message {
  key: string | Buffer | null
  value: string | Buffer | null
  /** Values of one name keep their order. */
  headers?: Record<string, Buffer[]>
}

/** A connected, idempotent producer. One send at a time: overlapping sends with one key, even idempotent ones, sometimes swapped their order. */
export interface Producer {
  /**
   * Resolves when all in-sync replicas have the messages; messages of one key keep their order.
   *
   * After a rejection do not use this producer again: close it, and send the same messages by a new one. kafkajs resets its sequence number,
   * and if the broker had written the batch, the next one of the same size is acknowledged as a duplicate and dropped.
   * @returns where Kafka put each message, as far as it tells
   * @throws the error of the broker or the connection; {@link faultOfMessage} says whether the message is at fault
   */
  send(topic: string, messages: readonly Message[]): Promise<(Position | undefined)[]>
  /** Ends its connections within a second and rejects a send that is under way. Never throws. */
  close(): Promise<void>
}

export interface Kafka {
  /**
   * Creates a new producer: one whose first connection failed never connects again.
   * @param signal cuts its connections when it is aborted, even while it connects, and rejects what is under way
   * @throws where no broker answers
   */
  connectProducer(signal?: AbortSignal): Promise<Producer>
  /**
   * Creates the topic, with the broker's defaults, if it is missing.
   * @returns whether it was missing
   * @throws where no broker answers, or we may not create topics
   */
  ensureTopic(topic: string, signal?: AbortSignal): Promise<boolean>
  /**
   * Asks a broker for its API versions over a connection of its own: changes nothing, and takes 1.3 ms in all. Overlapping calls share
   * the answer. A connection that is kept would cost 3 % of a core, since kafkajs polls it.
   * @throws where no broker has answered within a second; no connection is left then
   */
  reach(): Promise<void>
  /** Reads a topic as a member of a group. Connects when it is started. */
  consumer(options: ConsumeOptions): Consumer
  /**
   * How far the group is behind, over a connection of its own.
   * @throws where no broker answers, or the topic does not exist
   */
  lag(options: { topic: string; group: string }, signal?: AbortSignal): Promise<PartitionLag[]>
}

export interface KafkaOptions {
  /** `host:port` of one broker or more. */
  brokers: readonly string[]
  clientId: string
  /** Without it, neither TLS nor a login. */
  security?: KafkaSecurity
  logger: Logger
  /** The time limit of one request. A send is rejected after three of them, 15 s by default. */
  requestTimeoutMs?: number
}

const REACH_MS = 1000
const REQUEST_TIMEOUT_MS = 5000
const retry = { retries: 2, initialRetryTime: 100, maxRetryTime: 1000 }

/** kafkajs always begins with the first broker: if that one were silent, no probe would reach the second in time. */
function rotateAtRandom(brokers: readonly string[]): string[] {
  const first = Math.floor(Math.random() * brokers.length)
  return [...brokers.slice(first), ...brokers.slice(0, first)]
}

/** Errors of the broker for a record that it will never accept. Other rejections (its clock, its disk, its leader) concern all records. */
const faultsOfMessage = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD'])

/**
 * @param error the rejection of a send
 * @returns why these messages (one of them, or all together) can never be sent; undefined where sending them again may help
 */
export function faultOfMessage(error: unknown): string | undefined {
  // The rejection is the broker's error or has it as its cause. (The class of these errors cannot be imported from an ES module.)
  for (const fault of [error, (error as Error).cause] as { type?: string; message: string }[]) {
    if (fault?.type && faultsOfMessage.has(fault.type)) return `${fault.type}: ${fault.message}`
  }
  return undefined
}

/** Nothing connects before the first call. */
export function createKafka(options: KafkaOptions): Kafka {
  quietIdleConnections()
  readCommitted()
  registerCodecs()
  const { logger, requestTimeoutMs = REQUEST_TIMEOUT_MS } = options

  /** A client for each use, so that its connections are known and can be ended. */
  const client = (sockets: Connections) => createClient({ ...options, requestTimeoutMs }, sockets)

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

  async function withAdmin<Answer>(signal: AbortSignal | undefined, use: (admin: Admin) => Promise<Answer>): Promise<Answer> {
    const sockets = connections(signal)
    const admin = client(sockets).admin()
    try {
      await admin.connect()
      return await use(admin)
    } finally {
      await sockets.close(() => admin.disconnect())
    }
  }

  const ensureTopic: Kafka['ensureTopic'] = (topic, signal) =>
    withAdmin(signal, (admin) => admin.createTopics({ topics: [{ topic }], timeout: requestTimeoutMs }))
  const lag: Kafka['lag'] = ({ topic, group }, signal) => withAdmin(signal, (admin) => readLag(admin, topic, group))

  return {
    connectProducer: (signal) => connectProducer(client, requestTimeoutMs, signal),
    ensureTopic,
    reach() {
      reaching ??= reach().finally(() => {
        reaching = undefined
      })
      return reaching
    },
    consumer: (consume) => createConsumer({ client, retry, ensureTopic, lag, logger, ...consume }),
    lag,
  }
}

function createClient(
  { brokers, clientId, security = {}, logger, requestTimeoutMs }: KafkaOptions & { requestTimeoutMs: number },
  sockets: Connections,
): Client {
  return new Client({
    brokers: rotateAtRandom(brokers),
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

async function connectProducer(
  client: (sockets: Connections) => Client,
  requestTimeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<Producer> {
  const sockets = connections(signal)
  const positions = createPositions()
  const producer = client(sockets).producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    createPartitioner: positions.partitioner,
    // To discover new partitions. A partition whose leader moved is noticed by the send that fails.
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
      const answer = await producer.send({ topic, messages: [...messages], acks: -1, timeout: requestTimeoutMs })
      return positions.of(messages, answer)
    },
    close,
  }
}

async function readLag(admin: Admin, topic: string, group: string): Promise<PartitionLag[]> {
  const [ends, [committed]] = await Promise.all([admin.fetchTopicOffsets(topic), admin.fetchOffsets({ groupId: group, topics: [topic] })])
  return ends.map(({ partition, high, low }) => {
    const next = Number(committed?.partitions.find((one) => one.partition === partition)?.offset ?? -1)
    // -1: nothing was ever committed. Messages that were deleted before they were committed do not count.
    return { partition, messages: Number(high) - Math.max(next, Number(low)), start: BigInt(low), end: BigInt(high) }
  })
}

/**
 * Logs only the text of kafkajs' lines, always at `debug`. A fault reaches its caller as a rejection and is logged there once; kafkajs logs it
 * about five times, with whole requests and addresses in the fields.
 */
function toLogger(logger: Logger): logCreator {
  return () =>
    ({ namespace, label, log }) =>
      logger.debug({ from: `kafkajs ${namespace}`, label }, String(log.message))
}
