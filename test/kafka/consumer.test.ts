/** A consumer where Kafka answers and has not what it wants: no place in the group, no topic, no messages any more. */
import { randomUUID } from 'node:crypto'
import test from 'ava'
import { type Admin, AssignerProtocol, Kafka, logLevel, type PartitionAssigner, Partitioners } from 'kafkajs'
import { pino } from 'pino'
import { createKafka } from '../../src/kafka/client.ts'
import type { ConsumeOptions, LostOffsets } from '../../src/kafka/membership.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { until } from '../support/until.ts'
import { kafkaAt, makeTopic, newTopic, removeBefore } from '../support/topic.ts'

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

test('a consumer that its group refuses reports each failed try, and does not count as stalled', async (t) => {
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
    onLost: async () => {},
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
  t.is(consumer.committed(), 0)
})

const bootstrap = process.env.KAFKA_BOOTSTRAP!

/** A consumer that is started, with what it took, lost and logged. */
function reading(topic: string, { onLost, ...options }: Partial<ConsumeOptions> = {}) {
  const offsets: string[] = []
  const losses: LostOffsets[] = []
  const lines: { level: number; msg: string }[] = []
  const logger = pino({ level: 'warn' }, { write: (line) => void lines.push(JSON.parse(line)) })
  const consumer = createKafka({ brokers: [bootstrap], clientId: 'test', logger }).consumer({
    topic,
    group: randomUUID(),
    async onBatch({ partition, messages, done }) {
      offsets.push(...messages.map(({ offset }) => `${partition}:${offset}`))
      await done(messages.at(-1)!.offset)
    },
    async onLost(lost) {
      await onLost?.(lost)
      losses.push(lost)
    },
    ...options,
  })
  consumer.start()
  const isDone = () =>
    consumer.behind(AbortSignal.timeout(5000)).then(
      (behind) => consumer.joined() && behind.length === 0,
      () => false,
    )
  return { consumer, offsets, losses, lines, isDone, stop: () => consumer.stop() }
}

async function asAdmin<T>(ask: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafkaAt(bootstrap).admin()
  await admin.connect()
  return ask(admin).finally(() => admin.disconnect())
}

/** By a producer of its own. */
async function send(topic: string, ...messages: { key: string; value: string | null }[]): Promise<void> {
  const producer = kafkaAt(bootstrap).producer({
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  await producer.send({ topic, messages: messages.map((message) => ({ ...message, partition: 0 })) }).finally(() => producer.disconnect())
}
const numbered = (count: number) => Array.from({ length: count }, (_, i) => ({ key: String(i), value: String(i) }))

test('a batch that compaction has emptied is skipped', async (t) => {
  const topic = newTopic()
  await makeTopic(bootstrap, topic, { config: { 'cleanup.policy': 'compact', 'segment.ms': '1', 'min.cleanable.dirty.ratio': '0' } })
  await send(topic, { key: 'k', value: 'payment' }) // stays as a batch without records, since it is the last one of its producer
  await send(topic, { key: 'k', value: 'x'.repeat(1_048_490) }) // too large for a fetch that the empty batch is in
  let rolls = 0
  await until(
    async () => {
      await send(topic, { key: `roll ${rolls++}`, value: 'what came before can be cleaned' })
      const { offsets, isDone, stop } = reading(topic)
      await until(isDone).finally(stop)
      return offsets
    },
    (offsets) => !offsets.includes('0:0'),
    60_000,
  )
  t.pass()
})

test('messages that were removed before they were consumed are reported as lost, once, and the others are consumed', async (t) => {
  const topic = newTopic()
  const group = randomUUID()
  await makeTopic(bootstrap, topic)
  await send(topic, ...numbered(4))
  const before = reading(topic, { group })
  await until(() => before.offsets.length === 4)
  await until(before.isDone)
  await before.stop()
  await send(topic, ...numbered(6))
  await removeBefore(bootstrap, topic, 7)

  let refusals = 0
  const onLost = async () => {
    if (refusals++ < 2) throw new Error('PostgreSQL is away')
  }
  const after = reading(topic, { group, onLost })
  t.teardown(after.stop)
  await until(() => after.offsets.length === 3)
  await until(after.isDone)
  t.deepEqual(after.offsets, ['0:7', '0:8', '0:9'])
  t.deepEqual(after.losses, [{ partition: 0, from: 4n, upTo: 7n }])

  await send(topic, ...numbered(2))
  await until(() => after.offsets.length === 5)
  t.is(after.losses.length, 1)
})

test('messages that are removed while the consumer waits for PostgreSQL are reported as lost', async (t) => {
  const topic = newTopic()
  await makeTopic(bootstrap, topic)
  await send(topic, ...numbered(5))
  let tries = 0
  let isAway = true
  const taken: bigint[] = []
  const { losses, stop } = reading(topic, {
    async onBatch({ messages, done }) {
      tries += 1
      if (isAway) throw new Error('PostgreSQL is away')
      taken.push(...messages.map(({ offset }) => offset))
      await done(messages.at(-1)!.offset)
    },
  })
  t.teardown(stop)
  await until(() => tries > 0)
  await removeBefore(bootstrap, topic, 3)
  isAway = false
  await until(() => taken.includes(4n))
  t.deepEqual(losses, taken.length === 5 ? [] : [{ partition: 0, from: 0n, upTo: 3n }])
})

test('a partition that ends before the group’s offset is read from its start, with a log line', async (t) => {
  const topic = newTopic()
  const group = randomUUID()
  await makeTopic(bootstrap, topic)
  await send(topic, ...numbered(2))
  await asAdmin((admin) => admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: '10' }] }))
  const { offsets, losses, lines, stop } = reading(topic, { group })
  t.teardown(stop)
  await until(() => offsets.length === 2)
  t.deepEqual(losses, [])
  t.true(lines.some(({ level, msg }) => level === 50 && /partition ends before the committed offset/.test(msg)))
})

test('a topic is created at the start where configured; one that is deleted later is left to its owner', async (t) => {
  const topic = newTopic()
  const topics = () => asAdmin((admin) => admin.listTopics())
  const { consumer, offsets, lines, stop } = reading(topic, { createTopic: true })
  t.teardown(stop)
  await until(() => consumer.joined())
  t.true((await topics()).includes(topic))

  await asAdmin((admin) => admin.deleteTopics({ topics: [topic] }))
  await until(() => lines.some(({ msg }) => /topic is missing/.test(msg)))
  await until(async () => !(await topics()).includes(topic))
  const failures = lines.length
  await until(() => lines.length > failures, Boolean, 60_000) // one line in 10 s: it has tried many times
  t.false((await topics()).includes(topic))

  await makeTopic(bootstrap, topic, { partitions: 6 })
  await send(topic, ...numbered(2))
  await until(() => offsets.length === 2, Boolean, 60_000)
  t.deepEqual(offsets, ['0:0', '0:1'])
})

test('a topic that is not to be created is waited for', async (t) => {
  const topic = newTopic()
  const { consumer, lines, stop } = reading(topic)
  t.teardown(stop)
  await until(() => lines.some(({ msg }) => /topic is missing/.test(msg)))
  t.false((await asAdmin((admin) => admin.listTopics())).includes(topic))
  await makeTopic(bootstrap, topic)
  await until(() => consumer.joined())
  t.pass()
})
