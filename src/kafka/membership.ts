/** One membership in a consumer group, from joining to leaving or crashing: what kafkajs delivers becomes batches. */
import type { Consumer as Client, Kafka, EachBatchPayload, KafkaMessage, RetryOptions } from 'kafkajs'
import type { Message } from '../db/inbox.ts'
import { assignersWith } from '../patches/kafkajs.ts'
import type { Logger } from '../telemetry/logger.ts'
import { type Connections, connections } from './connections.ts'
import { createPauses, type Pauses } from './pauses.ts'

/** Messages of one partition that were fetched together, in their order. */
export interface Batch {
  topic: string
  partition: number
  messages: readonly Message[]
  /** False once the consumer ends or the partition may be another member's: what is not done is delivered again, here or there. */
  isOurs(): boolean
  /**
   * Commits everything up to this offset, and sends the group a heartbeat.
   * @throws where the group refuses the commit; the messages are delivered again then
   */
  done(offset: bigint): Promise<void>
}

export interface ConsumeOptions {
  topic: string
  group: string
  /** If it throws, the partition is paused for a while; then everything it has not called `done` for is delivered again. */
  onBatch(batch: Batch): Promise<void>
  /** The topic no longer has these messages, and the group never committed them. Called before it continues, and again if it throws. */
  onLost(lost: LostOffsets): Promise<void>
  /** Creates the topic, with the broker's defaults, where it is missing at the start. Otherwise, and later, it is waited for. */
  createTopic?: boolean
}

export interface LostOffsets {
  partition: number
  from: bigint
  /** The first offset that still exists. */
  upTo: bigint
}

export interface PartitionLag {
  partition: number
  /** How many messages the group has not committed yet. */
  messages: number
  /** The first offset that still exists. */
  start: bigint
  /** The offset of the next message. Between it and the last message there are only markers of transactions. */
  end: bigint
}

/** What a consumer remembers from one membership to the next. */
export interface MemberState {
  /** The partitions of this member; undefined while it is not a member. */
  assigned: readonly number[] | undefined
  /** Chunks, in all. */
  committed: number
  /** By partition: how often a batch of it was tried. */
  tries: Map<number, number>
  /** By partition: where its last batch ended, if that had no message in it. */
  emptyUpTo: Map<number, bigint>
}

export type Warn = (error: unknown, fields: object, message: string) => void

export interface MemberDeps extends Omit<ConsumeOptions, 'createTopic'> {
  client(sockets: Connections): Kafka
  retry: RetryOptions
  lag: (options: { topic: string; group: string }, signal: AbortSignal) => Promise<PartitionLag[]>
  logger: Logger
  warn: Warn
  beforeJoin(): Promise<void>
  /** Resolves when `signal` is aborted: then the membership ends. */
  stopped: Promise<void>
  signal: AbortSignal
}

/** A member that was killed is replaced after this. */
export const SESSION_MS = 10_000
/** Members learn of a new member with their next heartbeat, and until then no partition is read. */
const HEARTBEAT_MS = 1000
const END_MS = 3000
/** The latest date that both PostgreSQL and JSON can write. */
const LAST_DATE_MS = Date.UTC(9999, 0)

/** Returns when it was stopped. @throws when the consumer crashes */
export async function beMember(deps: MemberDeps, state: MemberState): Promise<void> {
  const { client, topic, beforeJoin, stopped } = deps
  const sockets = connections()
  const consumer = createMember(client(sockets), deps)
  const crashed = trackMember(consumer, topic, state)
  const pauses = createPauses()

  const consuming = (async () => {
    await beforeJoin()
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    // `run` also resolves where the group could not be joined: that counts as a crash.
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: 4,
      eachBatch: (payload) => processBatch(payload, pauses, deps, state),
    })
    await crashed
  })()
  consuming.catch(() => {}) // after a stop nothing awaits it
  crashed.catch(() => {})
  try {
    await Promise.race([consuming, stopped])
  } finally {
    state.assigned = undefined
    pauses.end()
    await sockets.close(() => consumer.disconnect(), END_MS)
  }
}

function createMember(client: Kafka, deps: MemberDeps): Client {
  return client.consumer({
    groupId: deps.group,
    sessionTimeout: SESSION_MS,
    heartbeatInterval: HEARTBEAT_MS,
    // How long an idle fetch waits at the broker. A stop, or the end of a pause, waits as long; new messages do not.
    maxWaitTimeInMs: 500,
    // To discover new partitions.
    metadataMaxAge: 30_000,
    allowAutoTopicCreation: false,
    partitionAssigners: assignersWith((wanted) => resolveOutOfRange(wanted, deps)),
    // A crashed consumer restarts itself only for some errors, and 10 s late; for all of them a new one is built instead.
    retry: { ...deps.retry, restartOnFailure: async () => false },
  })
}

/** Keeps `state` up to date with what the consumer reports. @returns a promise that rejects when it crashes */
function trackMember(consumer: Client, topic: string, state: MemberState): Promise<never> {
  const { CRASH, GROUP_JOIN, REBALANCING, END_BATCH_PROCESS } = consumer.events
  consumer.on(GROUP_JOIN, ({ payload }) => void (state.assigned = payload.memberAssignment[topic] ?? []))
  consumer.on(REBALANCING, () => void (state.assigned = undefined))
  // Only markers of transactions and aborted messages: kafkajs continues without calling us, and commits nothing.
  consumer.on(END_BATCH_PROCESS, ({ payload: { batchSize, partition, lastOffset } }) => {
    if (batchSize === 0) state.emptyUpTo.set(partition, BigInt(lastOffset) + 1n)
  })
  return new Promise<never>((_resolve, reject) => consumer.on(CRASH, ({ payload }) => reject(payload.error)))
}

/** Offsets that were removed before they were committed are recorded as lost, then skipped. @returns the offset to continue at */
async function resolveOutOfRange(
  { partition, offset: wanted }: { partition: number; offset: bigint },
  { lag, topic, group, onLost, logger, signal }: MemberDeps,
): Promise<bigint> {
  const lags = await lag({ topic, group }, signal)
  const { start, end } = lags.find((one) => one.partition === partition)!
  if (wanted >= start && wanted <= end) return wanted
  if (wanted > end) {
    logger.error(
      { topic, partition, wanted: String(wanted), start: String(start), end: String(end) },
      'partition ends before the committed offset; reading it from its start',
    )
    return start
  }
  await onLost({ partition, from: wanted, upTo: start })
  return start
}

/** Never throws: kafkajs would repeat the batch six times in 10 s without a heartbeat, and lose the membership. */
async function processBatch(payload: EachBatchPayload, pauses: Pauses, deps: MemberDeps, state: MemberState): Promise<void> {
  const { batch, isRunning, isStale, resolveOffset, commitOffsetsIfNecessary, heartbeat, pause } = payload
  const { topic, onBatch, warn } = deps
  const { partition } = batch
  const last = BigInt(batch.messages.at(-1)!.offset)
  const countTry = () => state.tries.set(partition, (state.tries.get(partition) ?? 0) + 1)
  let isMember = true
  try {
    await onBatch({
      topic,
      partition,
      messages: batch.messages.map(messageOf),
      isOurs: () => isRunning() && !isStale() && isMember,
      async done(offset) {
        // Between the last message and the end of the batch there are only markers of transactions.
        const next = (offset === last ? BigInt(batch.lastOffset()) : offset) + 1n
        // The only one of kafkajs' ways to commit that also works while the consumer ends.
        await commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset: String(next) }] }] })
        resolveOffset(String(offset))
        state.committed += 1
        countTry()
        // It throws during a rebalance, which kafkajs notices by itself once the batch has ended.
        await heartbeat().catch(() => void (isMember = false))
      },
    })
    pauses.reset(partition)
  } catch (error) {
    const againInMs = pauses.resumeLater(partition, pause())
    warn(error, { partition, againInMs }, 'batch cannot be processed yet; trying again')
  }
  countTry()
}

/**
 * kafkajs gathers headers in an object that inherits, so a header called `constructor` comes with a function (and `__proto__` is lost).
 * Headers of one name come together. A timestamp outside our range of dates becomes the nearest date in it.
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
