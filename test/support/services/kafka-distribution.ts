/** What a broker is made of, in `.dev/kafka-<hash of its pom.xml>`, one copy for all: made once, and used by every start. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { find, install, versionsIn } from './install.ts'
import { run } from './processes.ts'
import { during, type Say } from './report.ts'
import { claimInTurn } from './state.ts'

export type Distribution = {
  /** The Java command with everything before the name of the class. */
  java: readonly string[]
  /** A directory for the log of a broker that never ran: to be copied. */
  formatted: string
}

export const SASL_LOGIN = { username: 'shop', password: 'hunter2-of-kafka' }
export const NODE_ID = 1

const pom = join(import.meta.dirname, 'kafka', 'pom.xml')
const oldestJava = 17
// Quick to start and small, for a broker that has little to do.
const jvm = ['-Xmx384m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', '-Dlog4j2.level=WARN']
const clusterId = 'b3JkZXItc2VydmljZS0xMQ' // 16 bytes in base64; any will do

/** @returns undefined where there is no Java, or no Maven to fetch the jars */
export async function findKafka(say: Say): Promise<Distribution | undefined> {
  const java = await findJava(say)
  if (!java) return undefined
  const project = readFileSync(pom, 'utf8')
  const version = /kafka_2\.13<\/artifactId><version>([^<]+)/.exec(project)?.[1]
  const turn = await claimInTurn(`kafka-${createHash('sha256').update(project).digest('hex').slice(0, 8)}`)
  try {
    const home = turn.directory
    const libs = join(home, 'libs')
    if (!existsSync(libs) && !(await fetchJars(say, `${version}`, home, libs))) return undefined
    const command = [java, ...jvm, '-cp', join(libs, '*')]
    const formatted = join(home, 'formatted')
    // The classes as Java has them in memory: with them a broker starts in 1.9 instead of 2.5 s.
    const classes = join(home, 'classes.jsa')
    if (!existsSync(formatted)) await format([...command, `-XX:ArchiveClassesAtExit=${classes}`], home, formatted)
    return { java: [...command, `-XX:SharedArchiveFile=${classes}`], formatted }
  } finally {
    await turn.release()
  }
}

async function findJava(say: Say): Promise<string | undefined> {
  const locate = () =>
    [
      ...(process.env.JAVA_HOME ? [join(process.env.JAVA_HOME, 'bin', 'java')] : []),
      ...(find('java') ? [find('java')!] : []),
      ...versionsIn('/usr/lib/jvm').map((version) => join(version, 'bin', 'java')),
    ].find((java) => versionOf(java) >= oldestJava)
  return locate() ?? ((await install(say, 'Kafka', ['default-jre-headless'])) ? locate() : undefined)
}

function versionOf(java: string): number {
  const { stderr } = spawnSync(java, ['-version'], { encoding: 'utf8' })
  return Number(/version "(\d+)/.exec(stderr ?? '')?.[1] ?? 0)
}

async function fetchJars(say: Say, version: string, home: string, libs: string): Promise<boolean> {
  if (!find('mvn') && !(await install(say, 'Kafka', ['maven']))) return false
  const unfinished = `${libs}.unfinished`
  await rm(unfinished, { recursive: true, force: true })
  const command = ['mvn', '-B', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${unfinished}`]
  await during(say, `Kafka: fetching version ${version} with Maven (47 jars, 44 MB, once)`, () =>
    run({ command, log: join(home, 'maven.log') }),
  )
  await rename(unfinished, libs)
  return true
}

async function format(java: readonly string[], home: string, formatted: string) {
  const unfinished = `${formatted}.unfinished`
  await rm(unfinished, { recursive: true, force: true })
  const properties = join(home, 'format.properties')
  const settings = {
    'process.roles': 'broker,controller',
    'node.id': NODE_ID,
    'controller.quorum.voters': `${NODE_ID}@127.0.0.1:9093`,
    'controller.listener.names': 'CONTROLLER',
    listeners: 'PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093', // asked for, and not kept
    'log.dirs': unfinished,
  }
  await writeFile(
    properties,
    Object.entries(settings)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  )
  const { username, password } = SASL_LOGIN
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((name) => ['--add-scram', `${name}=[name=${username},password=${password}]`])
  await run({
    command: [...java, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties, ...scram],
    log: join(home, 'format.log'),
  })
  await rename(unfinished, formatted)
}
