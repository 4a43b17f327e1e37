/** What each process reports of itself every two seconds, for the operators' pages. */
import { sql } from 'slonik'
import { z } from 'zod'
import { type Cause, causes, type ServiceName, services } from '../causes.ts'
import { nothing, type Pool } from './pool.ts'

/** Times in epoch ms, by PostgreSQL's clock. */
const epochMs = z.number()
const cause = z.enum(Object.keys(causes) as [Cause, ...Cause[]])
const service = z.enum(services as unknown as [ServiceName, ...ServiceName[]])

const status = z.object({
  /** Of a worker: the downstream services as its calls and probes saw them. Calls and failures are of the last minute. */
  services: z.array(
    z.object({
      service: z.enum([...services, 'kafka']),
      lastAnswerAt: epochMs.nullable(),
      failingSince: epochMs.nullable(),
      cause: cause.nullable(),
      error: z.string().nullable(),
      calls: z.int(),
      failures: z.int(),
    }),
  ),
  /** Failed attempts of the last eight seconds: the latest of each cause and service. `since`: of the first of them without such a pause. */
  failures: z.array(z.object({ cause, service: service.nullable(), at: epochMs, since: epochMs })),
  /** Products for which customers have waited for long. */
  contended: z.array(z.object({ productId: z.int(), waiting: z.int(), since: epochMs, isLocked: z.boolean() })),
  /** Of a bridge: messages that it has not consumed (null: unknown), and since when it does not keep up. */
  bridge: z.object({ lag: z.int().nullable(), since: epochMs.nullable() }).nullable(),
  stalled: z.array(z.object({ component: z.string(), reason: z.string() })),
})
export type ProcessStatus = z.infer<typeof status>

export interface Process {
  process: string
  roles: string[]
  startedAt: Date
  status: ProcessStatus
}

/** A process that has not reported for so long has ended, or cannot reach PostgreSQL. */
const SEEN_MS = 6000

export async function reportProcess(pool: Pool, { process, roles, startedAt, status: current }: Process): Promise<void> {
  await pool.query(sql.prepared('report-process', nothing)`
    insert into order_service.processes (process, roles, started_at, seen_at, status)
    values (${process}, ${sql.array(roles, 'text')}, ${sql.timestamp(startedAt)}, clock_timestamp(), ${JSON.stringify(current)}::jsonb)
    on conflict (process) do update set seen_at = excluded.seen_at, status = excluded.status`)
}

/** So that a process that ends in order counts as gone at once. */
export async function endProcess(pool: Pool, process: string): Promise<void> {
  await pool.query(sql.prepared('end-process', nothing)`
    update order_service.processes set ended_at = clock_timestamp() where process = ${process}`)
}

const processRow = z.object({ process: z.string(), roles: z.array(z.string()), started_at: z.date(), status })

const unreadable: ProcessStatus = { services: [], failures: [], contended: [], bridge: null, stalled: [] }

/** Those that have reported lately. Of one of another version, whose status cannot be read, only the roles are known: it runs. */
export async function readProcesses(pool: Pool): Promise<Process[]> {
  const rows = await pool.any(sql.prepared('read-processes', processRow.extend({ status: z.unknown() }))`
    select process, roles, started_at, status from order_service.processes
    where ended_at is null and seen_at > clock_timestamp() - ${SEEN_MS}::float8 * interval '1 ms' order by process`)
  return rows.map((row) => ({
    process: row.process,
    roles: row.roles,
    startedAt: row.started_at,
    status: status.safeParse(row.status).data ?? unreadable,
  }))
}

const roleRow = z.object({ role: z.string(), seen_at: z.date() })

/** When a process of each role last reported itself, also of those that have ended since. */
export async function readLastSeen(pool: Pool): Promise<Map<string, Date>> {
  const rows = await pool.any(sql.prepared('roles-last-seen', roleRow)`
    select role, max(coalesce(ended_at, seen_at)) as seen_at from order_service.processes, unnest(roles) as role group by role`)
  return new Map(rows.map(({ role, seen_at: seenAt }) => [role, seenAt]))
}
