/**
 * Messages in: one member of a consumer group, for as long as it is wanted. kafkajs' own ways to go on after a fault lose messages,
 * spin or end for good; here a batch that cannot be taken puts its partition off, and a consumer that crashed is replaced by a new one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Kafka as Client, EachBatchPayload, KafkaMessage, RetryOptions } from 'kafkajs'
import type { Message } from '../db/inbox.ts'
import { assignersWith } from '../patches/kafkajs.ts'
import type { Logger } from '../telemetry/logger.ts'
import { type Connections, connections } from './connections.ts'
import { createPauses, type Pauses, pauseMs } from './pauses.ts'

/** Messages of one partition that came together, in their order. */
export interface Batch {
  topic: string
  partition: number
  messages: readonly Message[]
  /** False once the consumer ends or the partition may be another member's: what is not done comes again, here or there. */
  isOurs(): boolean
  /**
   * Everything up to this offset is taken: the group begins after it from now on, and hears that we live.
   * @throws where the group does not take it; the messages come again then
   */
  done(offset: bigint): Promise<void>
}

export interface ConsumeOptions {
  topic: string
  group: string
  /** What it throws puts the partition off for a while; then what it has not called `done` comes again. */
  onBatch(batch: Batch): Promise<void>
  /** The topic no longer has these messages, and the group has not taken them. Told before it goes on, and again where it throws. */
  onLost(lost: LostOffsets): Promise<void>
  /** Makes the topic, with the broker's defaults, where it is missing at the start. Later, and otherwise, it is waited for. */
  createTopic?: boolean
}

export interface LostOffsets {
  partition: number
  from: bigint
  /** The first offset that is still there. */
  upTo: bigint
}

export interface Consumer {
  /** Never throws: a broker or a topic that is away is asked for again. */
  start(): void
  /** Takes no more batches, lets those under way end, and leaves the group; what lasts longer than 3 s is cut off. */
  stop(): Promise<void>
  /** Whether it is a member of its group. */
  joined(): boolean
  /** How many chunks were taken, in all. */
  taken(): number
  /**
   * The partitions on which messages wait for this member, or, while it is none, for anybody. Marks of transactions are no messages.
   * @throws where Kafka cannot be asked
   */
  behind(signal: AbortSignal): Promise<Behind[]>
}

export interface Behind {
  partition: number
  /** Changes with each batch that was tried, whatever came of it, with each membership that failed, and with each offset that the group commits. */
  mark: string
}

export interface PartitionLag {
  partition: number
  /** What the group has not committed yet. */
  messages: number
  /** The first offset that is still there. */
  start: bigint
  /** The offset that the next message gets. What lies between it and the last message are marks of transactions. */
  end: bigint
}

interface Deps extends ConsumeOptions {
  client(sockets: Connections): Client
  retry: RetryOptions
  ensureTopic(topic: string, signal: AbortSignal): Promise<unknown>
  lag: (options: { topic: string; group: string }, signal: AbortSignal) => Promise<PartitionLag[]>
  logger: Logger
}

/** Faults repeat for as long as something is away: one line in so many ms. */
const QUIET_MS = 10_000
/** A member that was killed is replaced after so long. */
const SESSION_MS = 10_000
/** Members hear of a newcomer with their next sign of life, and until then nobody is served. */
const HEARTBEAT_MS = 1000
const END_MS = 3000
/** What PostgreSQL and JSON can both write as a date. */
const LAST_DATE_MS = Date.UTC(9999, 0)

export function createConsumer({ client, retry, ensureTopic, lag, logger, topic, group, onBatch, onLost, createTopic }: Deps): Consumer {
  const stopping = new AbortController()
  const stopped = new Promise<void>((resolve) => stopping.signal.addEventListener('abort', () => resolve()))
  /** The partitions that this member has; undefined while it is none. */
  let assigned: readonly number[] | undefined
  let taken = 0
  /** How often it could not be a member, or was none any more. */
  let failures = 0
  /** By partition: how often a batch of it was tried, and where it ended if nothing was left in it to be taken. */
  const tries = new Map<number, number>()
  const emptyUpTo = new Map<number, bigint>()
  let mayCreateTopic = createTopic
  let running: Promise<void> | undefined
  let saidAt = Number.NEGATIVE_INFINITY

  function say(error: unknown, about: object, message: string): void {
    const isTold = performance.now() - saidAt < QUIET_MS
    if (!isTold) saidAt = performance.now()
    logger[isTold ? 'debug' : 'warn']({ err: error, topic, ...about }, message)
  }

  async function run(): Promise<void> {
    for (let faults = 1; !stopping.signal.aborted; faults++) {
      const began = performance.now()
      try {
        await beMember()
      } catch (error) {
        if (stopping.signal.aborted) return
        failures += 1
        // One that went well for a while failed for a new reason.
        if (performance.now() - began > SESSION_MS) faults = 1
        const againInMs = pauseMs(faults)
        say(
          error,
          { againInMs },
          isMissing(error) ? 'the topic is missing; waiting for its owner to make it' : 'the topic cannot be read now',
        )
        await sleep(againInMs, undefined, { signal: stopping.signal }).catch(() => {})
      }
    }
  }

  /** Not again once it was there: a topic that is deleted later is made anew by its owner, with its partitions. */
  async function createTopicOnce(): Promise<void> {
    if (!mayCreateTopic) return
    try {
      await ensureTopic(topic, stopping.signal)
      mayCreateTopic = false
    } catch (error) {
      say(error, {}, 'could not make sure that the topic is there')
    }
  }

  /** Throws when the consumer crashes, returns when it was stopped. */
  async function beMember(): Promise<void> {
    const sockets = connections()
    const consumer = client(sockets).consumer({
      groupId: group,
      sessionTimeout: SESSION_MS,
      heartbeatInterval: HEARTBEAT_MS,
      // How long an idle fetch stays at the broker: with it, how long a stop or the end of a pause has to wait. New messages do not.
      maxWaitTimeInMs: 500,
      // For a topic that grew.
      metadataMaxAge: 30_000,
      allowAutoTopicCreation: false,
      partitionAssigners: assignersWith(passOver),
      // A crashed consumer restarts itself only for some errors, and 10 s late; a new one is built for all of them.
      retry: { ...retry, restartOnFailure: async () => false },
    })
    const { CRASH, GROUP_JOIN, REBALANCING, END_BATCH_PROCESS } = consumer.events
    const crashed = new Promise<never>((_resolve, reject) => consumer.on(CRASH, ({ payload }) => reject(payload.error)))
    consumer.on(GROUP_JOIN, ({ payload }) => void (assigned = payload.memberAssignment[topic] ?? []))
    consumer.on(REBALANCING, () => void (assigned = undefined))
    // Nothing but marks of transactions, and what they took back: kafkajs goes on without us, and commits nothing.
    consumer.on(END_BATCH_PROCESS, ({ payload: { batchSize, partition, lastOffset } }) => {
      if (batchSize === 0) emptyUpTo.set(partition, BigInt(lastOffset) + 1n)
    })
    const pauses = createPauses()

    const consuming = (async () => {
      await createTopicOnce()
      await consumer.connect()
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      // It resolves also where the group could not be joined: that is a crash, too.
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        partitionsConsumedConcurrently: 4,
        eachBatch: (payload) => take(payload, pauses),
      })
      await crashed
    })()
    consuming.catch(() => {}) // after a stop nobody waits for it
    crashed.catch(() => {})
    try {
      await Promise.race([consuming, stopped])
    } finally {
      assigned = undefined
      pauses.end()
      await sockets.close(() => consumer.disconnect(), END_MS)
    }
  }

  /** Offsets that are gone before they were taken are put on record, then passed over. */
  async function passOver({ partition, offset: wanted }: { partition: number; offset: bigint }): Promise<bigint> {
    const lags = await lag({ topic, group }, stopping.signal)
    const { start, end } = lags.find((one) => one.partition === partition)!
    if (wanted >= start && wanted <= end) return wanted
    if (wanted > end) {
      logger.error(
        { topic, partition, wanted: String(wanted), start: String(start), end: String(end) },
        'a partition ends before what was taken from it; reading it from its start',
      )
      return start
    }
    await onLost({ partition, from: wanted, upTo: start })
    return start
  }

  /** Never throws: kafkajs would take the batch six times in 10 s without a sign of life to the group, and leave it. */
  async function take(payload: EachBatchPayload, pauses: Pauses): Promise<void> {
    const { batch, isRunning, isStale, resolveOffset, commitOffsetsIfNecessary, heartbeat, pause } = payload
    const { partition } = batch
    const last = BigInt(batch.messages.at(-1)!.offset)
    let isMember = true
    try {
      await onBatch({
        topic,
        partition,
        messages: batch.messages.map(messageOf),
        isOurs: () => isRunning() && !isStale() && isMember,
        async done(offset) {
          // What lies between the last message and the end of the batch are marks of transactions.
          const next = (offset === last ? BigInt(batch.lastOffset()) : offset) + 1n
          // Of kafkajs' ways to commit, the one that also does so while the consumer ends.
          await commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset: String(next) }] }] })
          resolveOffset(String(offset))
          taken += 1
          tried(partition)
          // Thrown when the group is being shared out anew. kafkajs notices by itself, once it has the batch back.
          await heartbeat().catch(() => void (isMember = false))
        },
      })
      pauses.none(partition)
    } catch (error) {
      const againInMs = pauses.after(partition, pause())
      say(error, { partition, againInMs }, 'a batch could not be taken yet')
    }
    tried(partition)
  }

  function tried(partition: number): void {
    tries.set(partition, (tries.get(partition) ?? 0) + 1)
  }

  return {
    start() {
      running ??= run()
    },
    async stop() {
      stopping.abort()
      await running
    },
    joined: () => assigned !== undefined,
    taken: () => taken,
    async behind(signal) {
      const lags = await lag({ topic, group }, signal)
      return lags
        .filter(({ partition, messages, end }) => {
          const isOurs = !assigned || assigned.includes(partition)
          return isOurs && messages > 0 && end !== emptyUpTo.get(partition)
        })
        .map(({ partition, messages, end }) => ({ partition, mark: `${end - BigInt(messages)} ${tries.get(partition)} ${failures}` }))
    },
  }
}

/** kafkajs says it by itself, or wraps it. */
function isMissing(error: unknown): boolean {
  return [error, (error as Error).cause].some((one) => (one as { type?: string } | undefined)?.type === 'UNKNOWN_TOPIC_OR_PARTITION')
}

/**
 * Headers of one name stand together: that is how kafkajs hands them over. It gathers them in an object that inherits, so that beside a
 * header called `constructor` stands a function (and one called `__proto__` is lost). A time that is no date of ours is the nearest that is.
 */
function messageOf({ offset, key, value, headers = {}, timestamp }: KafkaMessage): Message {
  return {
    offset: BigInt(offset),
    key,
    value,
    headers: Object.entries(headers).flatMap(([name, values]) =>
      [values].flat().flatMap((one) => (typeof one === 'function' ? [] : [[name, Buffer.from(one ?? '')] as const])),
    ),
    sentAt: new Date(Math.min(Math.max(Number(timestamp), 0), LAST_DATE_MS)),
  }
}
