/** What a consumer tells of itself where Kafka answers and does not let it read. */
import { randomUUID } from 'node:crypto'
import test from 'ava'
import { AssignerProtocol, Kafka, logLevel, type PartitionAssigner } from 'kafkajs'
import { createKafka } from '../../src/kafka/client.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { until } from '../support/until.ts'
import { makeTopic, newTopic } from '../support/topic.ts'

/** Shares out nothing, under a name that nobody else knows. */
const otherAssigner: PartitionAssigner = () => ({
  name: 'other',
  version: 0,
  assign: async ({ members }) =>
    members.map(({ memberId }) => ({
      memberId,
      memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 0, assignment: {}, userData: Buffer.alloc(0) }),
    })),
  protocol: ({ topics }) => ({
    name: 'other',
    metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) }),
  }),
})

test('one that its group refuses is seen to try again and again: it fails, and is not dead', async (t) => {
  const topic = newTopic()
  const group = randomUUID()
  const brokers = [process.env.KAFKA_BOOTSTRAP!]
  await makeTopic(brokers[0]!, topic)
  const client = new Kafka({ brokers, logLevel: logLevel.NOTHING })
  const producer = client.producer()
  await producer.connect()
  await producer.send({ topic, messages: [{ value: 'waits' }] })
  await producer.disconnect()
  const other = client.consumer({ groupId: group, partitionAssigners: [otherAssigner] })
  const joined = new Promise((resolve) => other.on(other.events.GROUP_JOIN, resolve))
  await other.connect()
  await other.subscribe({ topic })
  await other.run({ eachMessage: async () => {} })
  await joined
  t.teardown(() => other.disconnect())

  const consumer = createKafka({ brokers, clientId: 'test', logger: createLogger('silent') }).consumer({
    topic,
    group,
    onBatch: async () => {},
  })
  consumer.start()
  t.teardown(() => consumer.stop())
  const marks = new Set<string>()
  await until(
    async () => {
      const [behind] = await consumer.behind(AbortSignal.timeout(2000))
      marks.add(behind!.mark)
      return marks.size
    },
    (count) => count >= 3,
  )
  t.false(consumer.joined())
  t.is(consumer.taken(), 0)
})
