/** Batches that Kafka itself compressed, read by us, and ours read by it: a topic may have the broker put every batch into another form. */
import { randomUUID } from 'node:crypto'
import test from 'ava'
import { CompressionTypes, Partitioners } from 'kafkajs'
import { createKafka } from '../../src/kafka/client.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { kafkaAt, makeTopic } from '../support/topic.ts'
import { until } from '../support/until.ts'

const bootstrap = process.env.KAFKA_BOOTSTRAP!
const kafka = createKafka({ brokers: [bootstrap], clientId: 'codecs-test', logger: createLogger('silent') })
const client = kafkaAt(bootstrap)
const lines = Array.from({ length: 200 }, (_, i) => `${i} ${'order '.repeat(i)}`)

/** @param form what the broker makes of each batch */
async function topicOf(form: string): Promise<string> {
  const topic = `codecs.${form}.${randomUUID()}`
  await makeTopic(bootstrap, topic, { config: { 'compression.type': form } })
  return topic
}

async function write(topic: string, compression: CompressionTypes): Promise<void> {
  const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  await producer.send({ topic, compression, messages: lines.map((value) => ({ key: '1', value })) }).finally(() => producer.disconnect())
}

async function readAll(topic: string, count: number): Promise<string[]> {
  const read: string[] = []
  const consumer = kafka.consumer({
    topic,
    group: topic,
    onLost: async () => {},
    async onBatch(batch) {
      read.push(...batch.messages.map(({ value }) => String(value)))
      await batch.done(batch.messages.at(-1)!.offset)
    },
  })
  consumer.start()
  await until(
    () => read.length,
    (length) => length >= count,
  ).finally(consumer.stop)
  return read
}

for (const form of ['gzip', 'snappy', 'lz4', 'zstd']) {
  test(`a batch that Kafka compressed with ${form} is read`, async (t) => {
    const topic = await topicOf(form)
    await write(topic, CompressionTypes.None)
    t.deepEqual(await readAll(topic, lines.length), lines)
  })
}

for (const [name, compression] of Object.entries(CompressionTypes).filter(([, type]) => Number(type) > 0)) {
  test(`a batch compressed here with ${name} is read by Kafka`, async (t) => {
    const topic = await topicOf('uncompressed')
    await write(topic, Number(compression))
    t.deepEqual(await readAll(topic, lines.length), lines)
  })
}
