/** Apache Kafka itself: one node in KRaft mode. */
import { existsSync } from 'node:fs'
import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Kafka as Client, logLevel } from 'kafkajs'
import { quietIdleConnections } from '../../../src/patches/kafkajs.ts'
import type { Certificates } from './certificates.ts'
import { dockerJob } from './docker.ts'
import { type Distribution, findKafka, NODE_ID, SASL_LOGIN } from './kafka-distribution.ts'
import { freePort } from './ports.ts'
import { during, type Say } from './report.ts'
import { type Server, startOnData, startServer } from './server.ts'

/** `secured`: the addresses of its other listeners, for the login {@link SASL_LOGIN}; SSL wants a certificate of the client. */
export type Kafka = Server & { bootstrap: string; port: number; secured: Record<SecuredProtocol, string> }

type SecuredProtocol = 'SSL' | 'SASL_PLAINTEXT' | 'SASL_SSL'

type Options = { directory: string; port?: number; fresh?: boolean; sessionTimeoutMs?: number; certificates?: Certificates; say: Say }

/** Starts a Kafka broker with its log in the directory. */
export async function runKafka(options: Options): Promise<Kafka> {
  const { directory, port: wanted, fresh = false, sessionTimeoutMs = 9000, certificates, say } = options
  const port = wanted ?? (await freePort())
  const bootstrap = `127.0.0.1:${port}`
  const home = join(directory, 'kafka')
  const ports = { SSL: await freePort(), SASL_PLAINTEXT: await freePort(), SASL_SSL: await freePort() }
  const secured = {
    SSL: `localhost:${ports.SSL}`,
    SASL_PLAINTEXT: `localhost:${ports.SASL_PLAINTEXT}`,
    SASL_SSL: `localhost:${ports.SASL_SSL}`,
  }
  const files = { log: `${home}.log`, pidFile: `${home}.pid` }
  const probe = () => answers(bootstrap)
  const distribution = await findKafka(say)
  if (!distribution) {
    const job = dockerJob('kafka', directory, { KAFKA_PORT: port })
    const server = await during(say, `Kafka: starting in Docker on port ${port}`, () =>
      startServer({ title: 'Kafka', job: { ...job, ...files }, probe }),
    )
    return Object.assign(server, { bootstrap, port, secured })
  }

  const data = join(home, 'data')
  if (fresh) await rm(data, { recursive: true, force: true })
  await mkdir(home, { recursive: true })
  const properties = join(home, 'server.properties')
  const listeners = certificates ? securedListeners(ports, certificates) : {}
  await writeFile(properties, settings(data, port, await freePort(), sessionTimeoutMs, listeners))
  const job = {
    command: [...distribution.java, 'kafka.Kafka', properties],
    directory: home,
    stopSignal: 'SIGTERM' as const,
    graceMs: 10_000,
    ...files,
  }
  const server = await during(say, `Kafka: starting on port ${port} (data in ${data})`, () =>
    startOnData('Kafka', data, say, async () => {
      await format(distribution, data)
      return startServer({ title: 'Kafka', job, probe })
    }),
  )
  return Object.assign(server, { bootstrap, port, secured })
}

function settings(data: string, port: number, controllerPort: number, sessionTimeoutMs: number, secured: Record<string, string>): string {
  const { listeners, 'advertised.listeners': advertised, 'listener.security.protocol.map': protocols, ...more } = secured
  const also = (list: string | undefined) => (list ? `,${list}` : '')
  return Object.entries({
    'process.roles': 'broker,controller',
    'node.id': NODE_ID,
    'controller.quorum.voters': `${NODE_ID}@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}${also(listeners)}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}${also(advertised)}`,
    'listener.security.protocol.map': `PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT${also(protocols)}`,
    'controller.listener.names': 'CONTROLLER',
    'log.dirs': data,
    'group.initial.rebalance.delay.ms': 0,
    // A topic that nobody made is a fault that production would show too; whoever needs one makes it.
    'auto.create.topics.enable': false,
    'num.partitions': 3,
    'default.replication.factor': 1,
    'min.insync.replicas': 1,
    // How long compaction rests where it found nothing to do: 15 s by itself.
    'log.cleaner.backoff.ms': 500,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 1,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    // How long a broker that was killed keeps its successor waiting.
    'broker.session.timeout.ms': sessionTimeoutMs,
    'broker.heartbeat.interval.ms': 500,
    ...more,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')
}

/** One listener for each protocol, for all mechanisms that there are. */
function securedListeners(ports: Record<SecuredProtocol, number>, { ca, serverStore }: Certificates): Record<string, string> {
  const { username, password } = SASL_LOGIN
  const security = 'org.apache.kafka.common.security'
  const all = Object.entries(ports)
  const mechanisms = {
    plain: `${security}.plain.PlainLoginModule required user_${username}="${password}";`,
    'scram-sha-256': `${security}.scram.ScramLoginModule required;`,
    'scram-sha-512': `${security}.scram.ScramLoginModule required;`,
  }
  const logins = ['sasl_plaintext', 'sasl_ssl'].flatMap((listener) => [
    [`listener.name.${listener}.sasl.enabled.mechanisms`, 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512'],
    ...Object.entries(mechanisms).map(([mechanism, jaas]) => [`listener.name.${listener}.${mechanism}.sasl.jaas.config`, jaas]),
  ])
  return {
    listeners: all.map(([protocol, port]) => `${protocol}://127.0.0.1:${port}`).join(','),
    'advertised.listeners': all.map(([protocol, port]) => `${protocol}://localhost:${port}`).join(','),
    'listener.security.protocol.map': all.map(([protocol]) => `${protocol}:${protocol}`).join(','),
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.location': serverStore,
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': ca,
    'listener.name.ssl.ssl.client.auth': 'required',
    ...Object.fromEntries(logins),
  }
}

/** A directory without meta.properties holds no log of a broker. */
async function format({ formatted }: Distribution, data: string) {
  if (existsSync(join(data, 'meta.properties'))) return
  const unfinished = `${data}.unfinished`
  for (const directory of [data, unfinished]) await rm(directory, { recursive: true, force: true })
  await cp(formatted, unfinished, { recursive: true })
  await rename(unfinished, data)
}

async function answers(bootstrap: string) {
  quietIdleConnections()
  const client = new Client({ brokers: [bootstrap], logLevel: logLevel.NOTHING, connectionTimeout: 2000, retry: { retries: 0 } })
  const admin = client.admin()
  try {
    await admin.connect()
    const { brokers } = await admin.describeCluster()
    if (brokers.length === 0) throw new Error('the broker has not joined its cluster yet')
  } finally {
    await admin.disconnect()
  }
}
