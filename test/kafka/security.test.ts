/** Kafka by TLS and with a login, on a broker of this file's own with a listener for each protocol. */
import { randomUUID } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { readConfig } from '../../src/config.ts'
import { createKafka } from '../../src/kafka/client.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { startProcess } from '../support/service-process.ts'
import { type Certificates, makeCertificates } from '../support/services/certificates.ts'
import { type Kafka, startKafka } from '../support/services/index.ts'
import { SASL_LOGIN } from '../support/services/kafka-distribution.ts'
import { until } from '../support/until.ts'

const directory = mkdtempSync(join(tmpdir(), 'order-service-kafka-'))
let certificates: Certificates
let broker: Kafka
test.before(async () => {
  certificates = makeCertificates(directory)
  broker = await startKafka({ name: 'test-kafka-security', certificates })
})
test.after.always(async () => {
  await broker?.stop()
  await rm(directory, { recursive: true, force: true })
})

type Protocol = keyof Kafka['secured']

function kafkaBy(protocol: Protocol, env: Record<string, string>) {
  const { KAFKA_BOOTSTRAP, kafkaSecurity } = readConfig({
    KAFKA_BOOTSTRAP: broker.secured[protocol],
    KAFKA_SECURITY_PROTOCOL: protocol,
    ...env,
  })
  return createKafka({ brokers: KAFKA_BOOTSTRAP, clientId: 'security-test', security: kafkaSecurity, logger: createLogger('silent') })
}

const login = (mechanism: string, password = SASL_LOGIN.password) => ({
  KAFKA_SASL_MECHANISM: mechanism,
  KAFKA_SASL_USERNAME: SASL_LOGIN.username,
  KAFKA_SASL_PASSWORD: password,
})

/** Makes a topic, sends a message and gets it back. */
async function roundTrip(kafka: ReturnType<typeof kafkaBy>): Promise<string[]> {
  const topic = `security.${randomUUID()}`
  const received: string[] = []
  await kafka.ensureTopic(topic)
  const producer = await kafka.connectProducer()
  await producer.send(topic, [{ key: '1', value: 'a message' }])
  await producer.close()
  const consumer = kafka.consumer({
    topic,
    group: topic,
    onLost: async () => {},
    async onBatch(batch) {
      for (const { value, offset } of batch.messages) {
        received.push(String(value))
        await batch.done(offset)
      }
    },
  })
  consumer.start()
  try {
    return await until(
      () => received,
      (all) => all.length > 0,
    )
  } finally {
    await consumer.stop()
  }
}

const ways: [string, Protocol, () => Record<string, string>][] = [
  ['SASL_SSL with PLAIN', 'SASL_SSL', () => ({ ...login('PLAIN'), KAFKA_SSL_CA: certificates.ca })],
  ['SASL_SSL with SCRAM-SHA-256', 'SASL_SSL', () => ({ ...login('SCRAM-SHA-256'), KAFKA_SSL_CA: certificates.ca })],
  ['SASL_PLAINTEXT with SCRAM-SHA-512', 'SASL_PLAINTEXT', () => login('SCRAM-SHA-512')],
  [
    'SSL with a certificate of ours',
    'SSL',
    () => ({ KAFKA_SSL_CA: certificates.ca, KAFKA_SSL_CERT: certificates.clientCertificate, KAFKA_SSL_KEY: certificates.clientKey }),
  ],
]
for (const [name, protocol, env] of ways) {
  test.serial(`messages are sent and received over ${name}`, async (t) => {
    t.deepEqual(await roundTrip(kafkaBy(protocol, env())), ['a message'])
  })
}

test.serial('a wrong password, an unknown CA and a missing certificate are refused', async (t) => {
  const { ca, otherCa } = certificates
  const wrong = await t.throwsAsync(kafkaBy('SASL_SSL', { ...login('PLAIN', 'hunter3'), KAFKA_SSL_CA: ca }).reach())
  t.regex(wrong!.message, /authentication/i)
  t.false(wrong!.message.includes('hunter3'))
  await t.throwsAsync(kafkaBy('SASL_SSL', { ...login('PLAIN'), KAFKA_SSL_CA: otherCa }).reach(), { message: /certificate/ })
  await t.throwsAsync(kafkaBy('SASL_SSL', login('PLAIN')).reach(), { message: /certificate/ })
  await t.throwsAsync(kafkaBy('SSL', { KAFKA_SSL_CA: ca }).reach())
})

test.serial('a relay that Kafka does not let in goes on trying, says why, and has no password in its log', async (t) => {
  const service = await startProcess(t, ['relay'], {
    POSTGRES_DSN: process.env.POSTGRES_DSN!,
    REDIS_PREFIX: `{security-${process.pid}}`,
    KAFKA_BOOTSTRAP: broker.secured.SASL_SSL,
    KAFKA_SECURITY_PROTOCOL: 'SASL_SSL',
    KAFKA_SSL_CA: certificates.ca,
    ...login('SCRAM-SHA-512', 'hunter4'),
  })
  await service.logged('started')
  const ready = (await (await fetch(`${service.url}/order/ready`)).json()) as { components: { kafka: { state: string } } }
  t.regex(ready.components.kafka.state, /authentication/i)
  t.is(await service.stop(), 0)
  t.false(JSON.stringify([ready, service.log]).includes('hunter4'))
})
