/**
 * The bridge from the payment topic: messages become rows of the inbox, then jobs, and then their offset is committed. If it is stopped in
 * between, it repeats all three, and each of them is idempotent.
 */
import { Drained } from '../db/drain.ts'
import { type Message, type ReadMessage, type Receipt, receive, recordLoss } from '../db/inbox.ts'
import type { WaitingEvent } from '../db/payment-events.ts'
import { alone, isRefusal, type Pool, sqlState } from '../db/pool.ts'
import type { PaymentQueue } from '../queues/payment.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Kafka } from './client.ts'
import type { Consumer } from './consumer.ts'
import type { Batch, LostOffsets } from './membership.ts'
import { readPaymentMessage, unreadable } from './payment-message.ts'

export interface PaymentBridgeOptions {
  pool: Pool
  queue: Pick<PaymentQueue, 'addTogether' | 'addAgain'>
  kafka: Pick<Kafka, 'consumer'>
  topic: string
  /** The consumer group. */
  group: string
  logger: Logger
  metrics: Pick<Metrics, 'paymentEvents'>
  /** Creates the topic where it is missing at the start. */
  createTopic?: boolean
  /** Limits of one transaction, in messages and bytes. */
  chunkRows?: number
  chunkBytes?: number
}

/** An event that was received before most likely has its job, and is done by then. */
const KNOWN_EVENT_DELAY_MS = 2000

export function createPaymentBridge(options: PaymentBridgeOptions): Consumer {
  const { pool, queue, kafka, topic, group, logger, metrics, createTopic, chunkRows = 500, chunkBytes = 1024 * 1024 } = options

  async function processBatch(batch: Batch): Promise<void> {
    for (const chunk of toChunks(batch.messages, { chunkRows, chunkBytes })) {
      if (!batch.isOurs()) return
      await processChunk(batch, chunk).catch(async (error) => {
        if (!(error instanceof Drained)) throw error
        // Commit the messages before the first new one, which were received before: the next reader of the topic must not get them again.
        for (const message of chunk) await processChunk(batch, [message])
      })
    }
  }

  async function processChunk(batch: Batch, chunk: readonly Message[]): Promise<void> {
    const waiting = await receiveChunk(batch, chunk.map(readPaymentMessage))
    await queue.addTogether(waiting.filter(({ attempt }) => attempt !== null))
    const known = waiting.filter(({ attempt }) => attempt === null)
    await queue.addAgain(
      known.map((event) => ({ ...event, mayBeDriven: true })),
      KNOWN_EVENT_DELAY_MS,
    )
    await batch.done(chunk.at(-1)!.offset)
  }

  /** A message that PostgreSQL refuses becomes a dead letter: of its content, only the bytes are written there. */
  async function receiveChunk(source: { topic: string; partition: number }, chunk: readonly ReadMessage[]): Promise<WaitingEvent[]> {
    const waiting: WaitingEvent[] = []
    const write = async (some: ReadMessage[]): Promise<Receipt[]> => {
      const received = await receive(pool, source, some)
      waiting.push(...received.waiting)
      count(some, received.receipts)
      return received.receipts
    }
    const results = await alone([...chunk], write).catch((error: Error) => {
      if (chunk.length > 1) throw error
      return [error]
    })
    for (const [i, result] of results.entries()) {
      if (!(result instanceof Error)) continue
      if (!isRefusal(result)) throw result
      const message = chunk[i]!
      logger.error(
        { ...source, offset: String(message.offset), sqlState: sqlState(result) },
        'payment message refused by PostgreSQL; it is now a dead letter',
      )
      await write([unreadable(message, `PostgreSQL refuses it: ${sqlState(result)}`)])
    }
    return waiting
  }

  function count(messages: readonly ReadMessage[], receipts: readonly Receipt[]): void {
    for (const [i, result] of receipts.entries()) {
      const message = messages[i]!
      metrics.paymentEvents.inc({ type: message.read === 'event' ? message.event.type : 'other', result })
    }
  }

  async function recordLost({ partition, from, upTo }: LostOffsets): Promise<void> {
    await recordLoss(pool, { topic, partition }, { from, upTo })
    logger.error(
      { topic, partition, from: String(from), upTo: String(upTo), lost: String(upTo - from) },
      'payment messages were removed from the topic before they were read; check these payments at the payment provider',
    )
  }

  return kafka.consumer({ topic, group, createTopic, onBatch: processBatch, onLost: recordLost })
}

function* toChunks(
  messages: readonly Message[],
  { chunkRows, chunkBytes }: { chunkRows: number; chunkBytes: number },
): Generator<Message[]> {
  let chunk: Message[] = []
  let bytes = 0
  for (const message of messages) {
    const own = (message.key?.length ?? 0) + (message.value?.length ?? 0)
    if (chunk.length > 0 && (chunk.length === chunkRows || bytes + own > chunkBytes)) {
      yield chunk
      chunk = []
      bytes = 0
    }
    chunk.push(message)
    bytes += own
  }
  if (chunk.length > 0) yield chunk
}
