/** Payment, as the order service knows it: somebody who writes to a topic, whatever it likes. */
import { Partitioners, type Producer } from 'kafkajs'
import { registerCodecs } from '../../src/kafka/codecs.ts'
import { quietIdleConnections } from '../../src/patches/kafkajs.ts'
import { kafkaAt, makeTopic } from './topic.ts'

/** As kafkajs takes it; without a partition it goes where its key belongs. */
export interface PaymentMessage {
  key?: string | Buffer | null
  value: string | Buffer | null
  headers?: Record<string, string | Buffer | (string | Buffer)[]>
  partition?: number
  timestamp?: string
}

export interface PaymentOptions {
  type?: string
  amount_cents?: unknown
  currency?: unknown
  provider?: unknown
  payment_id?: unknown
  reason?: unknown
  code?: unknown
  /** In the form with `data`. */
  envelope?: boolean
}

export interface Payments {
  publish(messages: readonly PaymentMessage[]): Promise<void>
  /** In a transaction that is taken back. */
  publishInVain(messages: readonly PaymentMessage[]): Promise<void>
  close(): Promise<void>
}

/** Connects with the first message, and makes the topic then, where it is missing. */
export function openPayments(bootstrap: string, topic: string): Payments {
  registerCodecs()
  quietIdleConnections()
  const kafka = kafkaAt(bootstrap)
  let opening: Promise<Producer> | undefined

  async function open(): Promise<Producer> {
    await makeTopic(bootstrap, topic, { partitions: 3 })
    const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    await producer.connect()
    return producer
  }

  return {
    async publish(messages) {
      opening ??= open()
      await (await opening).send({ topic, messages: messages.map((message) => ({ key: null, ...message })) })
    },
    async publishInVain(messages) {
      opening ??= open()
      await opening // and the topic is there
      const producer = kafka.producer({
        createPartitioner: Partitioners.DefaultPartitioner,
        transactionalId: topic,
        idempotent: true,
        maxInFlightRequests: 1,
      })
      await producer.connect()
      const transaction = await producer.transaction()
      await transaction.send({ topic, messages: messages.map((message) => ({ key: null, ...message })) })
      await transaction.abort()
      await producer.disconnect()
    },
    async close() {
      await (await opening)?.disconnect()
    },
  }
}

/** The message that tells of a payment of this order. */
export function paymentOf(orderId: number, { type = 'payment.succeeded', envelope = false, ...fields }: PaymentOptions): PaymentMessage {
  const value = envelope
    ? { type, order_id: orderId, user_email: 'ada@example.com', timestamp: new Date().toISOString(), version: 1, data: fields }
    : { type, order_id: orderId, ...fields }
  return { key: String(orderId), value: JSON.stringify(value) }
}
