/**
 * CPU time by process: on a machine that others use too, a far steadier figure than how long something took. From `/proc`, so Linux
 * alone, with the servers on this machine.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { Client } from 'pg'

/** In us since each began. */
export interface Cpu {
  node: number
  postgres: number
  redis: number
}

/** `/proc/PID/stat` counts in hundredths of a second. */
const TICK_US = 10_000

/** @returns times in us; undefined where there is no such process (any more) */
function read(pid: number | string): { parent: number; own: number; ofEndedChildren: number } | undefined {
  try {
    // What stands in parentheses is the program's name and may hold anything; after it come numbers.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ').map(Number)
    return { parent: fields[1]!, own: (fields[11]! + fields[12]!) * TICK_US, ofEndedChildren: (fields[13]! + fields[14]!) * TICK_US }
  } catch {
    return undefined
  }
}

const own = (pid: number): number => read(pid)?.own ?? Number.NaN

/** A server with all that it forked: PostgreSQL's backends, writers and vacuums. */
function withChildren(server: number): number {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const children = pids.map(read).filter((stat) => stat?.parent === server)
  return children.reduce((sum, child) => sum + child!.own, own(server) + (read(server)?.ofEndedChildren ?? 0))
}

/** @returns a reader of the clocks of `node`, PostgreSQL and Redis; `NaN` where they cannot be read */
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
