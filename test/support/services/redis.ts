/** Redis, as the queues need it: nothing evicted, nothing written to disk. */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { dockerJob } from './docker.ts'
import { find, install } from './install.ts'
import { freePort } from './ports.ts'
import type { Job } from './processes.ts'
import { during, type Say } from './report.ts'
import { type Server, startServer } from './server.ts'

export type Redis = Server & { url: string; port: number }

/** As `redis.conf` has them. */
type Settings = Record<string, string | number>
type Options = { directory: string; port?: number; fresh?: boolean; durable?: boolean; say: Say }

/** Starts Redis with its state in the directory. With `durable`, it has its data again after a crash. */
export async function runRedis({ directory, port: wanted, fresh = false, durable = false, say }: Options): Promise<Redis> {
  const binary = await redisBinary(say)
  const port = wanted ?? (await freePort())
  if (binary) {
    const data = join(directory, 'redis')
    return runBinary(binary, { port, data, fresh, settings: { appendonly: durable ? 'yes' : 'no', appendfsync: 'always' }, say })
  }
  const files = { log: join(directory, 'redis.log'), pidFile: join(directory, 'redis.pid') }
  const job = dockerJob('redis', directory, { REDIS_PORT: port })
  const recipe = { title: 'Redis', job: { ...job, ...files }, probe: () => ping(port) }
  const server = await during(say, `Redis: starting in Docker on port ${port}`, () => startServer(recipe))
  return Object.assign(server, { url: `redis://127.0.0.1:${port}/0`, port })
}

/** Starts a further server of a group, with its state in `.../<name>`. */
export async function runMember(directory: string, name: string, settings: Settings, say: Say): Promise<Redis> {
  const port = await freePort()
  return runBinary(await redisBinary(say), { port, data: join(directory, name), fresh: true, settings, say })
}

interface Watched {
  name: string
  port: number
  password: string
}

/** Starts a Sentinel that watches this server as `master`, and gives it up after a second. It writes into its own configuration. */
export async function runSentinel(directory: string, name: string, master: Watched, say: Say): Promise<Redis> {
  const port = await freePort()
  const data = join(directory, name)
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${data}`,
    `sentinel monitor ${master.name} 127.0.0.1 ${master.port} 1`,
    `sentinel auth-pass ${master.name} ${master.password}`,
    `sentinel down-after-milliseconds ${master.name} 1000`,
    `sentinel failover-timeout ${master.name} 1000`,
  ]
  await rm(data, { recursive: true, force: true })
  await mkdir(data, { recursive: true })
  const file = join(data, 'sentinel.conf')
  await writeFile(file, `${lines.join('\n')}\n`)
  return up({ command: [required(await redisBinary(say)), file, '--sentinel'], data, port, say })
}

type BinaryOptions = { port: number; data: string; fresh: boolean; settings: Settings; say: Say }

async function runBinary(binary: string | undefined, { port, data, fresh, settings, say }: BinaryOptions): Promise<Redis> {
  if (fresh) await rm(data, { recursive: true, force: true })
  await mkdir(data, { recursive: true })
  const all: Settings = {
    bind: '127.0.0.1',
    port,
    dir: data,
    save: '',
    'maxmemory-policy': 'noeviction',
    'set-proc-title': 'no', // the pid file is checked against the command line
    ...settings,
  }
  const command = [required(binary), ...Object.entries(all).flatMap(([name, value]) => [`--${name}`, String(value)])]
  return up({ command, data, port, say })
}

async function up({ command, data, port, say }: { command: string[]; data: string; port: number; say: Say }): Promise<Redis> {
  const job: Job & { log: string; pidFile: string } = { command, log: `${data}.log`, pidFile: `${data}.pid` }
  const recipe = { title: 'Redis', job, probe: () => ping(port) }
  const server = await during(say, `Redis: starting on port ${port}`, () => startServer(recipe))
  return Object.assign(server, { url: `redis://127.0.0.1:${port}/0`, port })
}

function required(binary: string | undefined): string {
  if (!binary) throw new Error('This needs redis-server; install redis-server')
  return binary
}

async function redisBinary(say: Say): Promise<string | undefined> {
  const found = find('redis-server') ?? find('valkey-server')
  if (found) return found
  if (await install(say, 'Redis', ['redis-server'])) return find('redis-server')
  return undefined
}

async function ping(port: number) {
  const socket = connect(port, '127.0.0.1')
  try {
    socket.setTimeout(2000, () => socket.destroy(new Error('no answer to PING')))
    socket.write('PING\r\n')
    const [answer] = await once(socket, 'data')
    // One that asks for a password is up, too.
    if (!/^(\+PONG|-NOAUTH)/.test(String(answer))) throw new Error(`PING was answered with ${String(answer).trim()}`)
  } finally {
    socket.destroy()
  }
}
