/** The events of all shops of a test file, on one topic with one consumer: to join a group takes a second. */
import { quietIdleConnections } from '../../src/patches/kafkajs.ts'
import { kafkaAt, makeTopic, newTopic } from '../support/topic.ts'

export const topic = newTopic()

export interface Events {
  /** How many events of this kind came for a customer's order. Customers are known by their emails in no other shop. */
  count(type: string, email: string, orderId: number): number
  close(): Promise<void>
}

export async function listen(): Promise<Events> {
  quietIdleConnections()
  const bootstrap = process.env.KAFKA_BOOTSTRAP!
  await makeTopic(bootstrap, topic)
  const kafka = kafkaAt(bootstrap)
  const counts = new Map<string, number>()
  const consumer = kafka.consumer({ groupId: topic, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    async eachMessage({ message }) {
      const { type, user_email, order_id } = JSON.parse(String(message.value))
      const what = [type, user_email, order_id].join(' ')
      counts.set(what, (counts.get(what) ?? 0) + 1)
    },
  })
  return {
    count: (...what) => counts.get(what.join(' ')) ?? 0,
    close: () => consumer.disconnect(),
  }
}
