/** What readiness asks of Kafka: bounded, and nothing is left of it. */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import { Kafka } from 'kafkajs'
import { createKafka } from '../../src/kafka/client.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { freePort } from '../support/services/ports.ts'
import { openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const logger = createLogger('silent')
const kafkaAt = (...brokers: string[]) => createKafka({ brokers, clientId: 'client-test', logger })

test('readiness tells of Kafka, and makes no topic by asking', async (t) => {
  const shop = await openShop({ roles: ['web', 'relay'] })
  t.teardown(shop.close)
  t.like((await shop.get('/order/ready')).body, { status: 'ready', components: { kafka: { state: 'ok' } } })
  const admin = new Kafka({ brokers: [process.env.KAFKA_BOOTSTRAP!] }).admin()
  await admin.connect()
  t.false((await admin.listTopics().finally(() => admin.disconnect())).includes(shop.topic))
})

test('a silent first broker delays readiness by a few checks at most where another broker answers', async (t) => {
  const mute = createServer((socket) => void socket.on('error', () => {}).resume()).listen(0, '127.0.0.1')
  t.teardown(() => mute.close())
  await once(mute, 'listening')
  const kafka = kafkaAt(`127.0.0.1:${(mute.address() as AddressInfo).port}`, process.env.KAFKA_BOOTSTRAP!)
  await until(() =>
    kafka.reach().then(
      () => true,
      () => false,
    ),
  )
  t.pass()
})

test('a broker that is away or hangs is reported within about a second, over one connection that is then cut', async (t) => {
  await t.throwsAsync(kafkaAt(`127.0.0.1:${await freePort()}`).reach())

  const sockets: Socket[] = []
  const mute = createServer((socket) => void sockets.push(socket.on('error', () => {}).resume())).listen(0, '127.0.0.1')
  t.teardown(() => mute.close())
  await once(mute, 'listening')
  const kafka = kafkaAt(`127.0.0.1:${(mute.address() as AddressInfo).port}`)
  const began = performance.now()
  const all = await Promise.allSettled([kafka.reach(), kafka.reach(), kafka.reach()])
  t.true(performance.now() - began < 3000)
  t.deepEqual(
    all.map(({ status }) => status),
    ['rejected', 'rejected', 'rejected'],
  )
  t.is(sockets.length, 1)
  await until(() => sockets[0]!.closed)
  await t.throwsAsync(kafka.reach(), undefined, 'asked anew, not remembered')
  t.is(sockets.length, 2)
})
