/** Dead letters on their topic: as they came, with what is known of the fault. */
import test from 'ava'
import { Kafka, type KafkaMessage, logLevel } from 'kafkajs'
import { bridgeTotals, letters, placeOrders } from '../support/payment-totals.ts'
import { paymentOf } from '../support/payments.ts'
import { everything, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

/** The broker's bound is 1 MiB and 12 bytes for a batch, framing and all. */
const LARGEST = 1_048_576 - 100

let shop: Shop
test.before(async () => {
  shop = await openShop({ roles: everything })
})
test.after.always(() => shop?.close())

async function landed(count: number): Promise<KafkaMessage[]> {
  const consumer = new Kafka({ brokers: [process.env.KAFKA_BOOTSTRAP!], logLevel: logLevel.NOTHING }).consumer({
    groupId: shop.deadLetterTopic,
    maxWaitTimeInMs: 100,
  })
  const messages: KafkaMessage[] = []
  await consumer.connect()
  await consumer.subscribe({ topic: shop.deadLetterTopic, fromBeginning: true })
  await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => void messages.push(message) })
  await until(
    () => messages.length,
    (length) => length >= count,
  ).finally(() => consumer.disconnect())
  return messages
}

test('dead letters are published with their bytes, keys and headers unchanged, and one that is too large stays in the table', async (t) => {
  const [order] = await placeOrders(shop, 1, shop.catalog.product({ stock: 10 }))
  const sentAt = Date.now() - 5000
  // The last one is called like what every object inherits.
  const told = { trace: ['a', 'b'], kind: Buffer.from([7]), constructor: 'c' }
  await shop.publish([
    { key: 'k', value: Buffer.from([0xff, 0, 1]), headers: told, partition: 2, timestamp: String(sentAt) },
    { key: null, value: null, partition: 2 },
    { key: '', value: '', partition: 2 },
  ])
  // As large as the topic takes it, and with the headers of a dead letter larger.
  await shop.publish([{ key: null, value: 'x'.repeat(LARGEST), partition: 2 }])
  await shop.publish([{ ...paymentOf(order!, { amount_cents: 1, currency: 'USD' }), partition: 2 }])
  await bridgeTotals(shop, { consumed: 5 })
  await until(
    () => shop.query('select from order_service.dead_letters where published_at is null and undeliverable_reason is null'),
    (rows) => rows.length === 0,
  )

  const messages = await landed(4)
  t.is(messages.length, 4)
  const header = (message: KafkaMessage, name: string) => message.headers![name] as Buffer
  const byOffset = new Map(messages.map((message) => [header(message, 'kafka_dlt-original-offset').readBigInt64BE(), message]))
  const [bytes, nothing, empty, wrong] = [0n, 1n, 2n, 4n].map((offset) => byOffset.get(offset)!)
  t.deepEqual([bytes!.key, bytes!.value], [Buffer.from('k'), Buffer.from([0xff, 0, 1])])
  t.deepEqual([nothing!.key, nothing!.value], [null, null])
  t.deepEqual([empty!.key, empty!.value], [Buffer.alloc(0), Buffer.alloc(0)])
  t.deepEqual(bytes!.headers!.trace, [Buffer.from('a'), Buffer.from('b')])
  t.deepEqual([bytes!.headers!.constructor].flat().at(-1), Buffer.from('c'))
  t.deepEqual(bytes!.headers!.kind, Buffer.from([7]))
  t.is(String(header(bytes!, 'kafka_dlt-exception-fqcn')), 'unreadable')
  t.is(String(header(bytes!, 'kafka_dlt-exception-message')), 'the value is not UTF-8')
  t.is(String(header(bytes!, 'kafka_dlt-original-topic')), shop.paymentTopic)
  t.is(header(bytes!, 'kafka_dlt-original-partition').readInt32BE(), 2)
  t.is(header(bytes!, 'kafka_dlt-original-timestamp').readBigInt64BE(), BigInt(sentAt))
  t.is(String(header(wrong!, 'kafka_dlt-exception-fqcn')), 'wrong-amount')
  t.is(JSON.parse(String(wrong!.value)).order_id, order)

  t.is((await letters(shop)).length, 5)
  const refused = await shop.query(
    'select kafka_offset, undeliverable_reason, length(value) as bytes, published_at from order_service.dead_letters where undeliverable_reason is not null',
  )
  t.is(refused.length, 1)
  t.like(refused[0], { kafka_offset: '3', bytes: LARGEST, published_at: null })
  t.regex(String(refused[0]!.undeliverable_reason), /^MESSAGE_TOO_LARGE/)
  const { body } = await shop.get('/order/metrics')
  t.regex(body, /order_dead_letters_waiting\{cause="message-unreadable"\} 4/)
  t.regex(body, /order_dead_letters_waiting\{cause="payment-mismatch"\} 1/)
  t.regex(body, /order_dead_letters_waiting\{cause="stock-refused"\} 0/)
  t.regex(body, /order_dead_letters_unpublished 0/)
})
