/** What a fetch brings, read as Kafka's own consumer reads it. Three things that kafkajs 2.2.4 gets wrong are put right here. */
import { createRequire } from 'node:module'

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
  /** kafkajs hands such records to nobody, and goes on after them. */
  isControlRecord?: boolean
  /** Missing on records of Kafka before 0.11, which knew no transactions. */
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
/** From here on a batch is either whole or cut off: kafkajs' own bound. */
const LEAST_BATCH_BYTES = 49
const MAGIC_AT = 16
const ABORT = 0

const require = createRequire(import.meta.url)
const endOf = ({ firstOffset, lastOffsetDelta }: RecordBatch) => BigInt(firstOffset) + BigInt(lastOffsetDelta)

/**
 * For all consumers of this process, to be called before one is built. May be called again.
 *
 * 1. Aborted transactions are hidden, and nothing else: kafkajs takes them in the order of their aborts, one a message at most, and
 *    takes a message with the key `00 00 00 00` for the end of one. Payments that were taken back made orders PAID.
 * 2. A batch that compaction has emptied, or whose last records it removed, is passed over: kafkajs asks for it for ever.
 * 3. A batch may have any number of records: kafkajs ends for good at one of 130,000.
 */
export function readCommitted(): void {
  const { prototype } = require('kafkajs/src/broker/index.js') as {
    prototype: { fetch(...request: unknown[]): Promise<{ responses: { partitions: FetchedPartition[] }[] }> }
  }
  const path = require.resolve(DECODE_MESSAGES)
  const { exports: decode } = require.cache[path] ?? { exports: require(path) }
  if (decode === decodeMessages) return
  require.cache[path]!.exports = decodeMessages
  // Responses are loaded with the first fetch of their version; those of a fetch before us would keep the old decoder.
  for (const loaded of Object.keys(require.cache)) if (/requests.fetch.v\d+.response\.js$/.test(loaded)) delete require.cache[loaded]

  const { fetch } = prototype
  prototype.fetch = async function (...request) {
    const fetched = await fetch.apply(this, request)
    for (const { partitions } of fetched.responses) for (const partition of partitions) hideAborted(partition)
    return fetched
  }
}

/** Step by step what `CompletedFetch.nextFetchedRecord` of Kafka's Java client does. */
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
  partition.abortedTransactions = [] // there is nothing left for kafkajs' own filter
}

/** kafkajs' own, but for what stands in the loop. */
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
    if (!batch) break // the broker cuts the last one off where the fetch is full
    const { records, ...batchContext } = batch
    for (const record of records) messages.push(record)
    // What compaction removes leaves the batch's end where it was: there the next fetch has to begin.
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
