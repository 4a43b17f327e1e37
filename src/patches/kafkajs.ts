/**
 * Workarounds for kafkajs 2.2.4, which nobody maintains any more. They replace its internals, so its version is pinned.
 * All of them can go when another client takes its place in `src/kafka/client.ts` (docs/decisions/0031).
 */
import { createRequire } from 'node:module'
import { type PartitionAssigner, PartitionAssigners } from 'kafkajs'

const require = createRequire(import.meta.url)
const patched = new WeakSet<object>()

// 1. Idle connections: issue 1751 of kafkajs, fixed on its main branch but never released.

interface RequestQueue {
  pending: readonly unknown[]
  scheduleCheckPendingRequests(): void
}

/**
 * Stops the timer of idle connections. May be called again.
 *
 * After each answer kafkajs plans a check for requests that wait for their turn. Without throttling that time is in the past, so each check
 * plans the next: a timer every millisecond, 2.4 % of a core for an idle connection instead of 0.5. A new request plans its own check.
 */
export function quietIdleConnections(): void {
  const { prototype } = require('kafkajs/src/network/requestQueue/index.js') as { prototype: RequestQueue }
  if (patched.has(prototype)) return
  patched.add(prototype)
  const plan = prototype.scheduleCheckPendingRequests
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) plan.call(this)
  }
}

// 2. Offsets out of range: kafkajs silently resets to `fromBeginning` and has no hook for it.

/**
 * The group wants an offset that the partition does not have: retention removed it, or the topic was created again and is shorter.
 * @returns the offset to continue at; the group commits it
 */
export type OnOutOfRange = (wanted: { partition: number; offset: bigint }) => Promise<bigint>

interface ConsumerGroup {
  assigners: { onOutOfRange?: OnOutOfRange }[]
  offsetManager: {
    nextOffset(topic: string, partition: number): { toString(): string }
    commitOffsets(offsets: { topics: { topic: string; partitions: { partition: number; offset: string }[] }[] }): Promise<void>
    resolveOffset(offset: { topic: string; partition: number; offset: string }): void
  }
  recoverFromOffsetOutOfRange(error: { topic: string; partition: number }): Promise<void>
}

/** For the option `partitionAssigners` of a consumer of one topic: the only option that kafkajs passes on to its recovery. */
export function assignersWith(onOutOfRange: OnOutOfRange): PartitionAssigner[] {
  const { prototype } = require('kafkajs/src/consumer/consumerGroup.js') as { prototype: ConsumerGroup }
  if (!patched.has(prototype)) {
    patched.add(prototype)
    const recover = prototype.recoverFromOffsetOutOfRange
    prototype.recoverFromOffsetOutOfRange = async function (error) {
      const { topic, partition } = error
      const handler = this.assigners[0]?.onOutOfRange
      if (!handler) return recover.call(this, error)
      const offset = await handler({ partition, offset: BigInt(String(this.offsetManager.nextOffset(topic, partition))) })
      await this.offsetManager.commitOffsets({ topics: [{ topic, partitions: [{ partition, offset: String(offset) }] }] })
      this.offsetManager.resolveOffset({ topic, partition, offset: String(offset - 1n) })
    }
  }
  return [(config) => ({ ...PartitionAssigners.roundRobin(config), onOutOfRange })]
}

// 3. Transactions and record batches: seen in comparison with Kafka's Java client (test/kafka/read-committed.test.ts).

interface RecordBatch {
  firstOffset: string
  lastOffsetDelta: number
  producerId: string
  inTransaction: boolean
  isControlBatch: boolean
  maxTimestamp: string
}

interface Fetched {
  offset: string
  key: Buffer | null
  /** kafkajs skips such records and continues after them. */
  isControlRecord?: boolean
  /** Missing on records of Kafka before 0.11, which had no transactions. */
  batchContext?: RecordBatch
}

interface FetchedPartition {
  /** In the order in which they were aborted, not in that of their offsets. */
  abortedTransactions?: { producerId: string; firstOffset: string }[]
  messages: Fetched[]
}

interface Decoder {
  readInt32(): number
  canReadBytes(length: number): boolean
  readBytes(length: number): Buffer
}

const DECODE_MESSAGES = 'kafkajs/src/protocol/requests/fetch/v4/decodeMessages.js'
/** kafkajs' own bound: with fewer bytes left there is no further batch. */
const LEAST_BATCH_BYTES = 49
const MAGIC_AT = 16
const ABORT = 0

const endOf = ({ firstOffset, lastOffsetDelta }: RecordBatch) => BigInt(firstOffset) + BigInt(lastOffsetDelta)

/**
 * Fixes how fetched records are read, for all consumers of this process. Call it before a consumer is built; it may be called again.
 *
 * - Aborted transactions are hidden, and nothing else. kafkajs reads the list in the order of aborts, one entry a message at most, and takes
 *   any message with the key `00 00 00 00` for an abort. Payments of aborted transactions made orders PAID.
 * - A batch that compaction emptied, or whose last records it removed, is skipped. kafkajs fetches it again for ever.
 * - A batch may have any number of records. kafkajs' consumer ends for good at a batch of 130,000.
 */
export function readCommitted(): void {
  const { prototype } = require('kafkajs/src/broker/index.js') as {
    prototype: { fetch(...request: unknown[]): Promise<{ responses: { partitions: FetchedPartition[] }[] }> }
  }
  const path = require.resolve(DECODE_MESSAGES)
  const { exports: decode } = require.cache[path] ?? { exports: require(path) }
  if (decode === decodeMessages) return
  require.cache[path]!.exports = decodeMessages
  // Response modules are loaded with the first fetch of their version; those already loaded would keep the old decoder.
  for (const loaded of Object.keys(require.cache)) if (/requests.fetch.v\d+.response\.js$/.test(loaded)) delete require.cache[loaded]

  const { fetch } = prototype
  prototype.fetch = async function (...request) {
    const fetched = await fetch.apply(this, request)
    for (const { partitions } of fetched.responses) for (const partition of partitions) hideAborted(partition)
    return fetched
  }
}

/** The same steps as `CompletedFetch.nextFetchedRecord` of Kafka's Java client. */
function hideAborted(partition: FetchedPartition): void {
  const { abortedTransactions, messages } = partition
  if (!abortedTransactions?.length) return
  const begun = abortedTransactions
    .map(({ producerId, firstOffset }) => ({ producerId, first: BigInt(firstOffset) }))
    .sort((a, b) => (a.first < b.first ? -1 : 1))
  const aborted = new Set<string>()
  let next = 0
  for (const message of messages) {
    const batch = message.batchContext
    if (!batch) continue
    for (const end = endOf(batch); next < begun.length && begun[next]!.first <= end; next++) aborted.add(begun[next]!.producerId)
    if (batch.isControlBatch && message.key?.readInt16BE(2) === ABORT) aborted.delete(batch.producerId)
    else if (batch.inTransaction && aborted.has(batch.producerId)) message.isControlRecord = true
  }
  partition.abortedTransactions = [] // so that kafkajs' own filter hides nothing more
}

/** A copy of kafkajs' decoder; only the loop differs. */
async function decodeMessages(decoder: Decoder): Promise<Fetched[]> {
  const KafkaDecoder = require('kafkajs/src/protocol/decoder.js') as new (bytes: Buffer) => Decoder
  const decodeMessageSet = require('kafkajs/src/protocol/messageSet/decoder.js') as (from: Decoder, size: number) => Promise<Fetched[]>
  const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as (
    from: Decoder,
  ) => Promise<RecordBatch & { records: Fetched[] }>

  const size = decoder.readInt32()
  if (size <= 0 || !decoder.canReadBytes(size)) return []
  const bytes = decoder.readBytes(size)
  const batches = new KafkaDecoder(bytes)
  if (bytes[MAGIC_AT] !== 2) return decodeMessageSet(batches, size)
  const messages: Fetched[] = []
  while (batches.canReadBytes(LEAST_BATCH_BYTES)) {
    const batch = await decodeBatch(batches).catch((error: Error) => {
      if (error.name !== 'KafkaJSPartialMessageError') throw error
    })
    if (!batch) break // the broker truncates the last batch where the fetch is full
    const { records, ...batchContext } = batch
    for (const record of records) messages.push(record)
    // Compaction removes records but keeps the batch's end, where the next fetch has to begin.
    const offset = String(endOf(batch))
    if (records.at(-1)?.offset !== offset) {
      messages.push({
        offset,
        key: null,
        value: null,
        headers: {},
        timestamp: batch.maxTimestamp,
        isControlRecord: true,
        batchContext,
      } as Fetched)
    }
  }
  return messages
}
