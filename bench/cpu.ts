/**
 * CPU time by process, which is far steadier than elapsed time on a shared machine. It is read from `/proc`, so it needs Linux and local
 * servers.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { Client } from 'pg'

/** In us since each process started. */
export interface Cpu {
  node: number
  postgres: number
  redis: number
}

/** The unit of `/proc/PID/stat`, a hundredth of a second. */
const TICK_US = 10_000

/** @returns times in us; undefined if the process does not exist */
function read(pid: number | string): { parent: number; own: number; ofEndedChildren: number } | undefined {
  try {
    // The program's name in parentheses may contain anything; only numbers follow it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ').map(Number)
    return { parent: fields[1]!, own: (fields[11]! + fields[12]!) * TICK_US, ofEndedChildren: (fields[13]! + fields[14]!) * TICK_US }
  } catch {
    return undefined
  }
}

const own = (pid: number): number => read(pid)?.own ?? Number.NaN

/** A server with its children, such as PostgreSQL's backends, writers and vacuums. */
function withChildren(server: number): number {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const children = pids.map(read).filter((stat) => stat?.parent === server)
  return children.reduce((sum, child) => sum + child!.own, own(server) + (read(server)?.ofEndedChildren ?? 0))
}

/** @returns a function that reads the CPU times of process `node`, PostgreSQL and Redis, with `NaN` if one cannot be read */
export async function openCpu({ dsn, redisUrl }: { dsn: string; redisUrl: string }): Promise<(node: number) => Cpu> {
  const client = new Client({ connectionString: dsn })
  await client.connect()
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  const postmaster = read(rows[0]!.pid)?.parent ?? Number.NaN
  await client.end()
  const connection = new Redis(redisUrl)
  const redis = Number(/process_id:(\d+)/.exec(await connection.info('server'))?.[1])
  connection.disconnect()
  return (node) => ({ node: own(node), postgres: withChildren(postmaster), redis: own(redis) })
}
