/**
 * Transactions, as our consumer shows them and as Kafka's own does. The histories are random, 8 of them, or as many as are asked for:
 *
 *     HISTORIES=200 SEED=7 bin/test test/kafka/read-committed.test.ts
 */
import { randomUUID } from 'node:crypto'
import { createRequire } from 'node:module'
import test from 'ava'
import { type Message, Partitioners, type Producer, type Transaction } from 'kafkajs'
import { createKafka } from '../../src/kafka/client.ts'
import type { ConsumeOptions } from '../../src/kafka/membership.ts'
import { readCommitted } from '../../src/patches/kafkajs.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { readByJava } from '../support/java-consumer.ts'
import { Chance } from '../support/downstreams/chance.ts'
import { kafkaAt, makeTopic, newTopic } from '../support/topic.ts'
import { until } from '../support/until.ts'

const bootstrap = process.env.KAFKA_BOOTSTRAP!
const histories = Number(process.env.HISTORIES ?? 8)
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
/** The key of the record with which Kafka itself marks an abort, and one that anybody may use. */
const ABORT_KEY = Buffer.alloc(4)

type OffsetsByPartition = Map<number, bigint[]>

/** What our consumer hands over of a topic, until nothing is left of it. */
async function readByUs(topic: string, group = randomUUID()): Promise<OffsetsByPartition> {
  const offsets: OffsetsByPartition = new Map()
  const onLost: ConsumeOptions['onLost'] = async () => {}
  const onBatch: ConsumeOptions['onBatch'] = async ({ partition, messages, done }) => {
    offsets.set(partition, [...(offsets.get(partition) ?? []), ...messages.map(({ offset }) => offset)])
    await done(messages.at(-1)!.offset)
  }
  const consumer = createKafka({ brokers: [bootstrap], clientId: 'test', logger: createLogger('silent') }).consumer({
    topic,
    group,
    onBatch,
    onLost,
  })
  consumer.start()
  try {
    await until(() => consumer.joined())
    await until(
      () => consumer.behind(AbortSignal.timeout(5000)).catch(() => [{ partition: -1, mark: 'cannot be asked' }]),
      (behind) => behind.length === 0,
      60_000,
    )
    return offsets
  } finally {
    await consumer.stop()
  }
}

async function transactional(): Promise<Producer> {
  const producer = kafkaAt(bootstrap).producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    transactionalId: randomUUID(),
    idempotent: true,
    maxInFlightRequests: 1,
  })
  await producer.connect()
  return producer
}

async function withProducers<T>(count: number, work: (producers: Producer[]) => Promise<T>): Promise<T> {
  const producers = await Promise.all(Array.from({ length: count }, transactional))
  try {
    return await work(producers)
  } finally {
    await Promise.all(producers.map((producer) => producer.disconnect()))
  }
}

test('transactions that are aborted in another order than they began are shown to nobody', async (t) => {
  const topic = newTopic()
  await makeTopic(bootstrap, topic)
  await withProducers(2, async ([one, other]) => {
    const first = await one!.transaction()
    const second = await other!.transaction()
    await first.send({ topic, messages: [{ value: 'taken back' }] })
    await second.send({ topic, messages: [{ value: 'taken back, too' }] })
    await second.abort()
    await first.abort()
    const third = await one!.transaction()
    await third.send({ topic, messages: [{ value: 'this one counts' }] })
    await third.commit()
  })
  t.deepEqual(await readByUs(topic), new Map([[0, [4n]]]))
})

test('a message whose key resembles an abort marker is aborted with its transaction', async (t) => {
  const topic = newTopic()
  await makeTopic(bootstrap, topic)
  await withProducers(1, async ([producer]) => {
    for (const end of ['abort', 'commit'] as const) {
      const transaction = await producer!.transaction()
      await transaction.send({ topic, messages: [{ key: ABORT_KEY, value: '0' }, { value: '1' }] })
      await transaction.send({ topic, messages: [{ value: '2' }] })
      await transaction[end]()
    }
  })
  t.deepEqual(await readByUs(topic), new Map([[0, [4n, 5n, 6n]]]))
})

test('a batch of 150,000 messages is read like any other', async (t) => {
  readCommitted()
  const require = createRequire(import.meta.url)
  const encode = require('kafkajs/src/protocol/recordBatch/record/v0/index.js')
  const { RecordBatch: encodeBatch } = require('kafkajs/src/protocol/recordBatch/v0/index.js')
  const Decoder = require('kafkajs/src/protocol/decoder.js')
  const decode = require('kafkajs/src/protocol/requests/fetch/v4/decodeMessages.js')
  const { buffer } = await encodeBatch({ records: Array(150_000).fill(encode({ value: 'x' })) }) // kafkajs takes minutes to send as many
  const size = Buffer.alloc(4)
  size.writeInt32BE(buffer.length)
  t.is((await decode(new Decoder(Buffer.concat([size, buffer])))).length, 150_000)
})

/** One producer's transaction that is under way, and how many messages it has. */
interface Open {
  transaction: Transaction
  messages: number
}

/** Several producers write to one partition as chance has it. @returns how many messages count */
async function writeHistory(topic: string, partition: number, producers: Producer[], chance: Chance): Promise<number> {
  const open = new Map<Producer, Open>()
  let committed = 0

  function someMessages(): Message[] {
    const isLarge = chance.next() < 0.1
    return Array.from({ length: isLarge ? 1 : chance.between(1, 4) }, () => ({
      key: chance.oneOf([null, ABORT_KEY, Buffer.from([0, 0, 0, 1]), Buffer.from('7')]),
      value: isLarge ? Buffer.alloc(400_000) : 'x'.repeat(chance.between(0, 200)),
      partition,
    }))
  }
  async function close(producer: Producer): Promise<void> {
    const { transaction, messages } = open.get(producer)!
    open.delete(producer)
    const isKept = chance.next() < 0.4
    await (isKept ? transaction.commit() : transaction.abort())
    if (isKept) committed += messages
  }

  for (let steps = chance.between(5, 25); steps > 0; steps--) {
    const producer = producers[chance.between(0, producers.length - 1)]!
    if (open.has(producer) && chance.next() < 0.3) {
      await close(producer)
      continue
    }
    if (!open.has(producer)) open.set(producer, { transaction: await producer.transaction(), messages: 0 })
    const now = open.get(producer)!
    const messages = someMessages()
    await now.transaction.send({ topic, messages })
    now.messages += messages.length
  }
  while (open.size > 0) await close([...open.keys()][chance.between(0, open.size - 1)]!)
  return committed
}

test(`${histories} random histories of transactions are read as Kafka's own consumer reads them (seed ${seed})`, async (t) => {
  t.timeout(600_000)
  const topic = newTopic()
  await makeTopic(bootstrap, topic, { partitions: histories })
  const committed = new Map<number, number>()
  const waiting = Array.from({ length: histories }, (_, partition) => partition)
  const lane = async (producers: Producer[]) => {
    for (let partition = waiting.shift(); partition !== undefined; partition = waiting.shift())
      committed.set(partition, await writeHistory(topic, partition, producers, new Chance(seed + partition)))
  }
  await Promise.all(Array.from({ length: 4 }, () => withProducers(3, lane)))

  // Every third one is read from somewhere within it.
  const chance = new Chance(seed)
  const admin = kafkaAt(bootstrap).admin()
  await admin.connect()
  const partitions = (await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => ({
    partition,
    offset: String(partition % 3 === 0 ? chance.between(0, Number(high)) : 0),
  }))
  const groups = { ours: randomUUID(), java: randomUUID() }
  for (const groupId of Object.values(groups)) await admin.setOffsets({ groupId, topic, partitions })
  await admin.disconnect()

  const byUs = await readByUs(topic, groups.ours)
  const byJava = (await readByJava(bootstrap, { topic, group: groups.java })) ?? byUs
  for (const { partition, offset } of partitions) {
    const offsets = byJava.get(partition) ?? []
    t.deepEqual(byUs.get(partition) ?? [], offsets, `partition ${partition}`)
    if (offset === '0') t.is(offsets.length, committed.get(partition)!, `what was committed on partition ${partition}`)
  }
})
