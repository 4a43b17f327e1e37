/** What stands on a topic, read to its end. */
import { randomUUID } from 'node:crypto'
import { Kafka, logLevel } from 'kafkajs'

export interface Landed {
  key: string
  event: Record<string, unknown> & { event_id: string; sequence: number }
}

const client = (bootstrap: string) => new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING })

/** Topic names are never used twice. */
export const newTopic = () => `order.events.${randomUUID()}`

/** @param maxMessageBytes the topic's own bound, where the broker's 1 MiB is not meant */
export async function makeTopic(bootstrap: string, topic: string, maxMessageBytes: number, numPartitions = 1): Promise<void> {
  const admin = client(bootstrap).admin()
  await admin.connect()
  try {
    const configEntries = [{ name: 'max.message.bytes', value: String(maxMessageBytes) }]
    await admin.createTopics({ topics: [{ topic, numPartitions, configEntries }] })
  } finally {
    await admin.disconnect()
  }
}

/** Everything that is on the topic now, each key's messages in their order. */
export async function readTopic(bootstrap: string, topic: string): Promise<Landed[]> {
  const kafka = client(bootstrap)
  const admin = kafka.admin()
  await admin.connect()
  const ends = await admin.fetchTopicOffsets(topic).finally(() => admin.disconnect())
  let missing = ends.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0)
  const landed: Landed[] = []
  if (missing === 0) return landed

  const consumer = kafka.consumer({ groupId: randomUUID(), maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise<void>((resolve, reject) => {
    consumer.on('consumer.crash', ({ payload }) => payload.restart || reject(payload.error))
    const eachMessage = async ({ message }: { message: { key: Buffer | null; value: Buffer | null } }) => {
      landed.push({ key: String(message.key), event: JSON.parse(String(message.value)) })
      missing -= 1
      if (missing === 0) resolve()
    }
    consumer.run({ autoCommit: false, eachMessage }).catch(reject)
  })
  await consumer.disconnect()
  return landed
}
