/** The kinds of histories that the service has to stand. */
import type { Knobs } from './history.ts'

const crowded: Partial<Knobs> = { crowds: true, stock: 150 }
const refusesBoth: Partial<Knobs> = { release: false, negative: false }
const acts: Partial<Knobs> = { actLateMs: 20_000, sendsLate: true }

/** Nothing acts after its time-out, and what is held too much can be given back by one call: stock is exact. */
export const exact: Record<string, Partial<Knobs>> = {
  'kills, stops and flushes': { faultRate: 0 },
  'PostgreSQL leaves one in a hundred without an answer': { faultRate: 0, unheard: 0.01 },
  'a fault in every hundredth call': { faultRate: 0.01 },
  'a fault in every twentieth call': { faultRate: 0.05 },
  crowds: { ...crowded, faultRate: 0 },
  'crowds, a fault in every twentieth call, PostgreSQL leaves one in a hundred': { ...crowded, faultRate: 0.05, unheard: 0.01 },
  'a hot product, a fault in every hundredth call': { faultRate: 0.01, hot: 1, betweenOrdersMs: 40, stock: 400 },
  'a release, a fault in every twentieth call': { faultRate: 0.05, release: true },
  'scarce stock, a fault in every hundredth call': { faultRate: 0.01, stock: 8 },
}

/** At most 1 in 10,000 units is off, and each is listed. */
export const late: Record<string, Partial<Knobs>> = {
  'late: stops before a call is sent': { faultRate: 0, sendsLate: true },
  'late: a fault in every hundredth call, up to 20 s late': { faultRate: 0.01, ...acts },
  'late: a fault in every twentieth call, up to 20 s late': { faultRate: 0.05, ...acts },
  'late: a release, a fault in every twentieth call, up to 20 s late': { faultRate: 0.05, ...acts, release: true },
}

/** At most 1 in 1,000 units is off, and each is listed. */
export const refused: Record<string, Partial<Knobs>> = {
  'refuses both ways: kills, stops and flushes': { ...refusesBoth, faultRate: 0 },
  'refuses both ways: a fault in every hundredth call': { ...refusesBoth, faultRate: 0.01 },
  'refuses both ways: a fault in every twentieth call': { ...refusesBoth, faultRate: 0.05 },
}

/** Without one of the protections the inventory is wrong. */
export const unprotected: Record<string, Partial<Knobs>> = {
  'without the lease': { faultRate: 0.01, lease: false },
  'without checking how long a lease lasts': { faultRate: 0.4, places: 1, betweenOrdersMs: 100, leaseCheck: false },
  'without a memory of unanswered calls': { faultRate: 0.01, memory: false },
  'without fencing': { faultRate: 0.01, fencing: false },
  'without reconciliation': { faultRate: 0.01, reconciliation: false },
  'without the reconciler': { faultRate: 0.01, reconciler: false },
}

export const histories: Record<string, Partial<Knobs>> = { ...exact, ...late, ...refused, ...unprotected }
