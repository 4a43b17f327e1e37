/** Redis, as the queues need it: nothing evicted, nothing written to disk. */
import { mkdir, rm } from 'node:fs/promises'
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

type Options = { directory: string; port?: number; fresh?: boolean; durable?: boolean; say: Say }

/** Starts Redis with its state in the directory. With `durable`, it has its data again after a crash. */
export async function runRedis({ directory, port: wanted, fresh = false, durable = false, say }: Options): Promise<Redis> {
  const binary = await redisBinary(say)
  const port = wanted ?? (await freePort())
  const data = join(directory, 'redis')
  if (fresh) await rm(data, { recursive: true, force: true })
  await mkdir(data, { recursive: true })

  const files = { log: `${data}.log`, pidFile: `${data}.pid` }
  const options = {
    bind: '127.0.0.1',
    port,
    dir: data,
    save: '',
    appendonly: durable ? 'yes' : 'no',
    appendfsync: 'always',
    'maxmemory-policy': 'noeviction',
    'set-proc-title': 'no', // the pid file is checked against the command line
  }
  const job: Job = binary
    ? { command: [binary, ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])] }
    : dockerJob('redis', directory, { REDIS_PORT: port })
  const recipe = { title: 'Redis', job: { ...job, ...files }, probe: () => ping(port) }
  const server = await during(say, `Redis: starting on port ${port}`, () => startServer(recipe))
  return Object.assign(server, { url: `redis://127.0.0.1:${port}/0`, port })
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
    if (!String(answer).startsWith('+PONG')) throw new Error(`PING was answered with ${String(answer).trim()}`)
  } finally {
    socket.destroy()
  }
}
