/**
 * Publishes dead letters to a topic for other tools: bytes and headers as they were received, then headers about the fault. The table remains
 * the place where they are kept and resolved.
 */
import { type DeadLetter, markPublished, markLetterUndeliverable, unpublishedLetters } from '../db/dead-letters.ts'
import type { Pool } from '../db/pool.ts'
import type { Message } from './client.ts'
import { createRelay, type Relay, type RelayDeps } from './relay.ts'

/** A letter may have a megabyte. */
const BATCH_ROWS = 20

export function createDeadLetterRelay({ pool, ...deps }: RelayDeps & { pool: Pool }): Relay {
  return createRelay({
    batchRows: BATCH_ROWS,
    ...deps,
    name: 'dead-letter-relay',
    source: {
      async readUnsent(limit) {
        const letters = await unpublishedLetters(pool, limit)
        return letters.map((letter) => ({ id: letter.id, orderId: letter.orderId, message: messageOf(letter) }))
      },
      markSent: (rows) =>
        markPublished(
          pool,
          rows.map(({ id }) => id),
        ),
      markUndeliverable: (id, reason) => markLetterUndeliverable(pool, id, reason),
    },
  })
}

/**
 * Headers have the names and forms of Spring Kafka's `DeadLetterPublishingRecoverer` (numbers in big-endian binary), which most tools for
 * such topics read; Kafka Connect has no header for the time. A letter that was dead before has them twice: the last ones count.
 */
function messageOf({ key, value, headers, fault, reason, topic, partition, offset, sentAt }: DeadLetter): Message {
  const named: Record<string, Buffer[]> = Object.create(null) // a header may be called `constructor`
  const added: [string, Buffer][] = [
    ['kafka_dlt-exception-fqcn', Buffer.from(fault)],
    ['kafka_dlt-exception-message', Buffer.from(reason)],
    ['kafka_dlt-original-topic', Buffer.from(topic)],
    ['kafka_dlt-original-partition', int32(partition)],
    ['kafka_dlt-original-offset', int64(offset)],
    ['kafka_dlt-original-timestamp', int64(BigInt(sentAt.getTime()))],
  ]
  for (const [name, bytes] of [...headers, ...added]) (named[name] ??= []).push(bytes)
  return { key, value, headers: named }
}

function int32(number: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(number)
  return bytes
}

function int64(number: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(number)
  return bytes
}
