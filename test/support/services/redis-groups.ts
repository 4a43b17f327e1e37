/** Redis in groups: a master and its replica under a Sentinel, and a cluster. Each for one test alone. */
import { Redis as Client } from 'ioredis'
import { until } from '../until.ts'
import { freePort } from './ports.ts'
import { runMember, runSentinel, type Redis } from './redis.ts'
import { quiet } from './report.ts'
import { claim } from './state.ts'

/** What they all ask for. */
const PASSWORD = 'hunter2:@'
const login = `:${encodeURIComponent(PASSWORD)}@`
const secured = { requirepass: PASSWORD, masterauth: PASSWORD }

interface Group {
  /** For REDIS_URL. */
  url: string
  /** Of all of them: what must be in no log. */
  password: string
  /** Asks that server itself. */
  ask(server: Redis, command: string, ...args: string[]): Promise<unknown>
  stop(): Promise<void>
}

export interface SentinelGroup extends Group {
  master: Redis
  replica: Redis
  /** Tells the Sentinel to make the replica the master; it refuses while it is at it. */
  failOver(): Promise<void>
}

export interface ClusterGroup extends Group {
  /** Three masters, and the replica of the one that has the keys with `prefix`. */
  masters: Redis[]
  replica: Redis
  /** The master of the keys with `prefix`. */
  ours: Redis
  /** Which of the masters a key was given to, from 0 on. */
  nodeOf(key: string): Promise<number>
}

export async function startSentinel(name: string): Promise<SentinelGroup> {
  const { directory, release } = await claim(name)
  const servers: Redis[] = []
  const stop = () => end(servers, release)
  try {
    const master = await runMember(directory, 'master', secured, quiet)
    servers.push(master)
    const replica = await runMember(directory, 'replica', { ...secured, replicaof: `127.0.0.1 ${master.port}` }, quiet)
    servers.push(replica)
    const sentinel = await runSentinel(directory, 'sentinel', { name: 'shop', port: master.port, password: PASSWORD }, quiet)
    servers.push(sentinel)
    // It checks every 10 s otherwise; those before 7 do so.
    await toSentinel(sentinel, 'DEBUG', 'info-period', '500', 'publish-period', '500').catch(() => {})
    // It learns of replicas by asking their master.
    await until(() => sentinelKnows(sentinel), Boolean)
    const failOver = async () => void (await toSentinel(sentinel, 'FAILOVER', 'shop').catch(() => {}))
    return { url: `redis+sentinel://${login}127.0.0.1:${sentinel.port}/shop/0`, password: PASSWORD, master, replica, failOver, ask, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function sentinelKnows(sentinel: Redis): Promise<boolean> {
  const [replica] = (await toSentinel(sentinel, 'REPLICAS', 'shop')) as string[][]
  return replica?.[replica.indexOf('master-link-status') + 1] === 'ok'
}

async function toSentinel({ port }: Redis, ...command: string[]): Promise<unknown> {
  const client = new Client({ host: '127.0.0.1', port })
  client.on('error', () => {})
  try {
    return await client.call('SENTINEL', command)
  } finally {
    client.disconnect()
  }
}

const SLOTS = 16_384

/** @param prefix of the keys whose master gets a replica */
export async function startCluster(name: string, prefix: string): Promise<ClusterGroup> {
  const { directory, release } = await claim(name)
  const servers: Redis[] = []
  const stop = () => end(servers, release)
  try {
    const settings = { ...secured, 'cluster-enabled': 'yes', 'cluster-node-timeout': 2000, 'cluster-replica-validity-factor': 0 }
    const busPorts: number[] = []
    for (const member of ['one', 'two', 'three', 'four']) {
      // Without it the bus takes the port 10,000 above, where the kernel may have put a connection.
      const busPort = await freePort()
      busPorts.push(busPort)
      servers.push(await runMember(directory, member, { ...settings, 'cluster-port': busPort }, quiet))
    }
    const masters = servers.slice(0, 3)
    const replica = servers[3]!
    for (const [i, master] of masters.entries()) {
      const first = Math.floor((i * SLOTS) / 3)
      const last = Math.floor(((i + 1) * SLOTS) / 3) - 1
      await ask(master, 'CLUSTER', 'ADDSLOTS', ...Array.from({ length: last - first + 1 }, (_, n) => String(first + n)))
      await ask(master, 'CLUSTER', 'SET-CONFIG-EPOCH', String(i + 1))
    }
    for (const [i, { port }] of servers.entries()) {
      if (i > 0) await ask(servers[0]!, 'CLUSTER', 'MEET', '127.0.0.1', String(port), String(busPorts[i]))
    }
    const nodeOf = async (key: string) => Math.floor((Number(await ask(masters[0]!, 'CLUSTER', 'KEYSLOT', key)) * 3) / SLOTS)
    const ours = masters[await nodeOf(prefix)]!
    const id = String(await ask(ours, 'CLUSTER', 'MYID'))
    await until(
      () => ask(replica, 'CLUSTER', 'REPLICATE', id).catch(String),
      (answer) => answer === 'OK',
    )
    for (const server of servers) {
      await until(
        async () => String(await ask(server, 'CLUSTER', 'INFO')),
        (info) => info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:4'),
      )
    }
    await until(
      async () => String(await ask(replica, 'INFO', 'replication')),
      (info) => info.includes('master_link_status:up'),
    )
    const hosts = masters.map(({ port }) => `127.0.0.1:${port}`).join(',')
    return { url: `redis+cluster://${login}${hosts}`, password: PASSWORD, masters, replica, ours, nodeOf, ask, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Asks that server itself. */
async function ask({ port }: Redis, command: string, ...args: string[]): Promise<unknown> {
  const client = new Client({ host: '127.0.0.1', port, password: PASSWORD, retryStrategy: () => null })
  client.on('error', () => {}) // the command says it
  try {
    return await client.call(command, args)
  } finally {
    client.disconnect()
  }
}

async function end(servers: readonly Redis[], release: () => Promise<void>): Promise<void> {
  await Promise.all(servers.map((server) => server.stop()))
  await release()
}
