/** What strikes when, drawn from a seed before anything begins: the same seed, the same schedule. */
import { Chance } from '../support/downstreams/chance.ts'

export const processNames = ['web-1', 'web-2', 'worker-1', 'worker-2', 'bridge-1', 'bridge-2', 'relay-1', 'relay-2'] as const
export type ProcessName = (typeof processNames)[number]

export const kinds = [
  'kill',
  'stop',
  'deploy',
  'postgres-restart',
  'postgres-cut',
  'redis-restart',
  'flush',
  'kafka-restart',
  'refuse',
  'hang',
  'error',
  'slow',
  'drop',
  'late',
  'lock-row',
  'wrong-clock',
  'others',
] as const
export type Kind = (typeof kinds)[number]

const catalogCalls = [undefined, 'reserve', 'reserve', 'commit', 'commit', 'restock', 'read'] as const
/** Rows that a person may have in a transaction. */
export const lockable = ['products', 'checkouts', 'orders', 'payment_events'] as const

const shippingCalls = [undefined, 'create', 'create', 'list'] as const

type DownstreamFault = {
  kind: 'hang' | 'error' | 'slow' | 'drop' | 'late'
  /** Strikes every nth call of this kind, so many times at most, for so long. */
  everyNth: number
  times: number
  lastsMs: number
  /** How late it answers (`slow`) or acts (`late`). */
  ms: number
  /** Of `error` and `slow`: it acts before that. */
  actFirst: boolean
} & (
  | { downstream: 'catalog'; call: (typeof catalogCalls)[number] }
  | {
      downstream: 'shipping'
      call: (typeof shippingCalls)[number]
    }
)

/**
 * - `kill`, `stop`, `deploy`: SIGKILL; SIGSTOP, and SIGCONT after `lastsMs`; SIGTERM
 * - `postgres-restart`, `redis-restart`, `kafka-restart`: in good order, or by SIGKILL first (`crash`); Redis comes back empty
 * - `postgres-cut`: every session of the service is ended by the server
 * - `flush`: FLUSHALL
 * - `refuse`: the downstream listens no more for `lastsMs`
 * - `lock-row`: a session of its own has a row of this table, one that is in use, for `lastsMs`
 * - `wrong-clock`: the process is killed, and runs from then on with a clock that is off by `ms`
 * - `others`: others bring units of products to Catalog, or (below 0) take them, `times` times
 * - the rest: see `test/support/downstreams/faults.ts`
 */
export type Strike = { atMs: number } & (
  | { kind: 'kill' | 'deploy'; process: ProcessName }
  | { kind: 'stop'; process: ProcessName; lastsMs: number }
  | { kind: 'postgres-restart' | 'redis-restart' | 'kafka-restart'; crash: boolean }
  | { kind: 'postgres-cut' | 'flush' }
  | { kind: 'lock-row'; table: (typeof lockable)[number]; lastsMs: number }
  | { kind: 'wrong-clock'; process: ProcessName; ms: number }
  | { kind: 'others'; units: number; times: number; lastsMs: number }
  | { kind: 'refuse'; downstream: 'catalog' | 'shipping'; lastsMs: number }
  | DownstreamFault
)

/** How many of each kind there are in one seed. */
export type Counts = Record<Kind, number>

/** Twenty seeds have 360 kills and at least 60 of everything else. */
export const fullCounts: Counts = {
  kill: 18,
  stop: 6,
  deploy: 4,
  'postgres-restart': 3,
  'postgres-cut': 4,
  'redis-restart': 3,
  flush: 3,
  'kafka-restart': 3,
  refuse: 4,
  hang: 4,
  error: 4,
  slow: 4,
  drop: 5,
  late: 5,
  'lock-row': 4,
  'wrong-clock': 3,
  others: 3,
}

/** As long as somebody who was called away. */
const ROW_LOCK_MS = 10_000
const WRONG_CLOCK_MS = 20_000

/** A call may act so late at the most. */
export const MOST_LATE_MS = 6000

/** @param lastsMs the time over which the strikes are spread */
export function planOf(seed: number, { lastsMs, counts }: { lastsMs: number; counts: Counts }): Strike[] {
  const chance = new Chance(seed * 7919 + 1)
  return kinds
    .flatMap((kind) => Array.from({ length: counts[kind] }, () => strikeOf(kind, chance.between(300, lastsMs), chance)))
    .sort((a, b) => a.atMs - b.atMs)
}

function strikeOf(kind: Kind, atMs: number, chance: Chance): Strike {
  switch (kind) {
    case 'kill':
    case 'deploy':
      return { atMs, kind, process: chance.oneOf(processNames) }
    case 'stop':
      // Two in five last beyond a job's lock (3 s), a relay's session (2 s) and a lease (3.5 s, as the campaign is configured).
      return {
        atMs,
        kind,
        process: chance.oneOf(processNames),
        lastsMs: chance.next() < 0.4 ? chance.between(4000, 8000) : chance.between(200, 3000),
      }
    case 'postgres-restart':
    case 'redis-restart':
    case 'kafka-restart':
      return { atMs, kind, crash: chance.next() < 0.5 }
    case 'postgres-cut':
    case 'flush':
      return { atMs, kind }
    case 'lock-row':
      return { atMs, kind, table: chance.oneOf(lockable), lastsMs: ROW_LOCK_MS }
    case 'wrong-clock':
      return { atMs, kind, process: chance.oneOf(processNames), ms: chance.oneOf([-WRONG_CLOCK_MS, WRONG_CLOCK_MS]) }
    case 'others':
      return { atMs, kind, units: chance.oneOf([-3, -2, -1, -1, 2]), times: chance.between(2, 6), lastsMs: chance.between(1000, 4000) }
    case 'refuse':
      return { atMs, kind, downstream: chance.oneOf(['catalog', 'shipping']), lastsMs: chance.between(200, 1500) }
    default: {
      const options = {
        // Whoever waits for a product travels in one call: there are fewer calls than checkouts.
        everyNth: chance.between(1, 2),
        times: chance.between(3, 8),
        lastsMs: chance.between(3000, 8000),
        ms: kind === 'late' ? chance.between(500, MOST_LATE_MS) : chance.between(200, 2500),
        actFirst: chance.next() < 0.5,
      }
      // Catalog is the one that overwrites and forgets.
      return chance.next() < 0.65
        ? { atMs, kind, downstream: 'catalog', call: chance.oneOf(catalogCalls), ...options }
        : { atMs, kind, downstream: 'shipping', call: chance.oneOf(shippingCalls), ...options }
    }
  }
}

/** A line for people. */
export function tell({ atMs, kind, ...how }: Strike): string {
  const details = Object.entries(how).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]))
  return `${(atMs / 1000).toFixed(2).padStart(6)} s  ${[kind.padEnd(16), ...details].join(' ').trimEnd()}`
}
