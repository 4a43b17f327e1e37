/** Topics of Kafka: made, and read to their end. */
import { randomUUID } from 'node:crypto'
import { type EachMessagePayload, Kafka, logLevel } from 'kafkajs'
import { until } from './until.ts'

export interface Landed {
  key: string
  event: Record<string, unknown> & { event_id: string; sequence: number }
}

/** Where it stands. */
export interface Position {
  partition: number
  offset: number
}

/** A client of kafkajs. On a busy machine, a connection may take longer than the second that it would have by itself. */
export const kafkaAt = (bootstrap: string) =>
  new Kafka({ brokers: bootstrap.split(','), connectionTimeout: 5000, logLevel: logLevel.NOTHING })

/** Topic names are never used twice. */
export const newTopic = () => `order.events.${randomUUID()}`

/**
 * Resolves when it can be written to and read. A topic that is there stays as it is.
 * @param config of the topic, where the broker's own is not meant
 */
export async function makeTopic(
  bootstrap: string,
  topic: string,
  { partitions = 1, config = {} }: { partitions?: number; config?: Record<string, string> } = {},
): Promise<void> {
  const admin = kafkaAt(bootstrap).admin()
  await admin.connect()
  try {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    await admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }], waitForLeaders: false })
    // kafkajs' own wait for the leaders gives up at once where the broker has not heard of the topic yet.
    await until(
      () => admin.fetchTopicOffsets(topic).catch((error: Error) => error.message),
      (offsets) => typeof offsets !== 'string',
    )
  } finally {
    await admin.disconnect()
  }
}

/** What retention does: the messages of partition 0 before this offset are gone. */
export async function removeBefore(bootstrap: string, topic: string, offset: number): Promise<void> {
  const admin = kafkaAt(bootstrap).admin()
  await admin.connect()
  try {
    await admin.fetchTopicOffsets(topic) // kafkajs has to have heard of the topic
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(offset) }] })
  } finally {
    await admin.disconnect()
  }
}

/** Everything that is on the topic now, each key's messages in their order. */
export async function readTopic(bootstrap: string, topic: string): Promise<(Landed & Position)[]> {
  const kafka = kafkaAt(bootstrap)
  const admin = kafka.admin()
  await admin.connect()
  const ends = await admin.fetchTopicOffsets(topic).finally(() => admin.disconnect())
  let missing = ends.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0)
  const landed: (Landed & Position)[] = []
  if (missing === 0) return landed

  const consumer = kafka.consumer({ groupId: randomUUID(), maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise<void>((resolve, reject) => {
    consumer.on('consumer.crash', ({ payload }) => payload.restart || reject(payload.error))
    const eachMessage = async ({ partition, message }: EachMessagePayload) => {
      landed.push({ key: String(message.key), event: JSON.parse(String(message.value)), partition, offset: Number(message.offset) })
      missing -= 1
      if (missing === 0) resolve()
    }
    consumer.run({ autoCommit: false, eachMessage }).catch(reject)
  })
  await consumer.disconnect()
  return landed
}
