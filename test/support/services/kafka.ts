/** Apache Kafka itself: one node in KRaft mode, from the jars that Maven fetches once. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Kafka as Client, logLevel } from 'kafkajs'
import { quietIdleConnections } from '../../../src/kafka/idle-timers.ts'
import type { Certificates } from './certificates.ts'
import { dockerJob } from './docker.ts'
import { find, install, versionsIn } from './install.ts'
import { freePort } from './ports.ts'
import { run } from './processes.ts'
import { during, type Say } from './report.ts'
import { type Server, startOnData, startServer } from './server.ts'
import { claimInTurn } from './state.ts'

/** `secured`: the addresses of its other listeners, for the login {@link SASL_LOGIN}; SSL wants a certificate of the client. */
export type Kafka = Server & { bootstrap: string; port: number; secured: Record<SecuredProtocol, string> }

type SecuredProtocol = 'SSL' | 'SASL_PLAINTEXT' | 'SASL_SSL'

export const SASL_LOGIN = { username: 'shop', password: 'hunter2-of-kafka' }

type Options = { directory: string; port?: number; fresh?: boolean; sessionTimeoutMs?: number; certificates?: Certificates; say: Say }

const pom = join(import.meta.dirname, 'kafka', 'pom.xml')
const oldestJava = 17
// Quick to start and small, for a broker that has little to do.
const jvm = ['-Xmx384m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', '-Dlog4j2.level=WARN']

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
  const java = await findJava(say)
  const libs = java && (await fetchJars(say))
  if (!java || !libs) {
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
  const classPath = join(libs, '*')
  const job = {
    command: [java, ...jvm, '-cp', classPath, 'kafka.Kafka', properties],
    directory: home,
    stopSignal: 'SIGTERM' as const,
    graceMs: 10_000,
    ...files,
  }
  const server = await during(say, `Kafka: starting on port ${port} (data in ${data})`, () =>
    startOnData('Kafka', data, say, async () => {
      await format(java, classPath, home, properties)
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
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
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

// meta.properties is the last file the format writes; without it the directory is half done.
async function format(java: string, classPath: string, home: string, properties: string) {
  const data = join(home, 'data')
  if (existsSync(join(data, 'meta.properties'))) return
  await rm(data, { recursive: true, force: true })
  const { username, password } = SASL_LOGIN
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((name) => ['--add-scram', `${name}=[name=${username},password=${password}]`])
  await run({
    command: [java, ...jvm, '-cp', classPath, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties, ...scram],
    log: join(home, 'format.log'),
  })
}

const clusterId = 'b3JkZXItc2VydmljZS0xMQ' // 16 bytes in base64; any will do

async function findJava(say: Say): Promise<string | undefined> {
  const look = () =>
    [
      ...(process.env.JAVA_HOME ? [join(process.env.JAVA_HOME, 'bin', 'java')] : []),
      ...(find('java') ? [find('java')!] : []),
      ...versionsIn('/usr/lib/jvm').map((version) => join(version, 'bin', 'java')),
    ].find((java) => versionOf(java) >= oldestJava)
  return look() ?? ((await install(say, 'Kafka', ['default-jre-headless'])) ? look() : undefined)
}

function versionOf(java: string): number {
  const { stderr } = spawnSync(java, ['-version'], { encoding: 'utf8' })
  return Number(/version "(\d+)/.exec(stderr ?? '')?.[1] ?? 0)
}

/** The broker's jars in `.dev/kafka-<version>/libs`, one copy for all; `undefined` where there is no Maven to fetch them. */
async function fetchJars(say: Say): Promise<string | undefined> {
  const version = /kafka_2\.13<\/artifactId><version>([^<]+)/.exec(readFileSync(pom, 'utf8'))?.[1]
  const turn = await claimInTurn(`kafka-${version}`)
  try {
    const libs = join(turn.directory, 'libs')
    if (existsSync(libs)) return libs
    if (!find('mvn') && !(await install(say, 'Kafka', ['maven']))) return undefined
    const unfinished = `${libs}.unfinished`
    await rm(unfinished, { recursive: true, force: true })
    const command = ['mvn', '-B', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${unfinished}`]
    await during(say, `Kafka: fetching version ${version} with Maven (45 jars, 43 MB, once)`, () =>
      run({ command, log: join(turn.directory, 'maven.log') }),
    )
    await rename(unfinished, libs)
    return libs
  } finally {
    await turn.release()
  }
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
