/** What a row of the model sets: how often which command comes, what Catalog can do, and which protections are off. */
import { CALL_TIMEOUT_MS } from './catalog.ts'
import type { Protections } from './tables.ts'

/** Commands in a minute of simulated time, on average: a history has from none to twice as many. */
export interface PerMinute {
  /** Single customers. */
  buy: number
  /** Up to 80 customers of one product in one moment. */
  crowd: number
  /** A process is killed or stopped, one time in ten with FLUSHALL; half of them wait for a question that is not asked. */
  strike: number
  /** Somebody keeps a row locked. */
  lock: number
  /** Another statement has the row that a statement asks for. */
  busyRow: number
  /** Somebody else brings units that nobody has, or takes some of them away. */
  others: number
  /** A call to Catalog meets a fault. */
  callFault: number
  /** PostgreSQL does not answer a statement, done or not. */
  unanswered: number
}

export interface Knobs extends Protections {
  /** For so long there are commands. */
  minutes: number
  perMinute: PerMinute
  /** The share of customers who want product 1. */
  hot: number
  /** A late call acts so long after it was sent at the latest, in ms. */
  actLateMs: number
  /** Whether Catalog has a release. */
  release: boolean
  /** Whether a reserve takes quantities below 0. */
  negative: boolean
  /** Whether a process may be stopped just before it sends a call, so that the call acts late. */
  sendsLate: boolean
  /** Calls of a process that are under way at a time. */
  places: number
  /** Units of each product at the beginning. */
  stock: number
  // More protections, to be switched off one by one.
  /** Off: what Catalog says is not read. */
  reconciliation: boolean
  reconciler: boolean
  /** Off: a call is sent without checking how long its lease lasts. */
  leaseCheck: boolean
}

/** What a row changes. */
export type Row = Partial<Omit<Knobs, 'perMinute'>> & { perMinute?: Partial<PerMinute> }

const usual: Knobs = {
  minutes: 1,
  perMinute: { buy: 240, crowd: 0, strike: 30, lock: 10, busyRow: 12, others: 12, callFault: 0, unanswered: 0 },
  hot: 0.4,
  actLateMs: CALL_TIMEOUT_MS,
  release: false,
  negative: true,
  places: 16,
  sendsLate: false,
  stock: 60,
  lease: true,
  memory: true,
  fencing: true,
  reconciliation: true,
  reconciler: true,
  leaseCheck: true,
}

export const knobsOf = (row: Row): Knobs => ({ ...usual, ...row, perMinute: { ...usual.perMinute, ...row.perMinute } })

export const PRODUCTS = [1, 2, 3, 4, 5, 6]
/** Nobody has bought them before. */
export const NEW_PRODUCTS = Array.from({ length: 12 }, (_, i) => 101 + i)
