/** The kinds of histories that the service has to stand. */
import type { Row } from './knobs.ts'

const crowded: Row = { stock: 150 }
const refusesBoth: Row = { release: false, negative: false }
const acts: Row = { actLateMs: 20_000, sendsLate: true }
/** So many faults a minute meet every hundredth call to Catalog, and every twentieth. A crowd makes twice as many calls. */
const hundredth = { callFault: 5 }
const twentieth = { callFault: 25 }
/** A statement in a hundred. */
const unanswered = 40

/** Nothing acts after its time-out, and what is held too much can be given back by one call: stock is exact. */
export const exact: Record<string, Row> = {
  'kills, stops and flushes': {},
  'PostgreSQL leaves one in a hundred without an answer': { perMinute: { unanswered } },
  'a fault in every hundredth call': { perMinute: hundredth },
  'a fault in every twentieth call': { perMinute: twentieth },
  crowds: { ...crowded, perMinute: { crowd: 11 } },
  'crowds, a fault in every twentieth call, PostgreSQL leaves one in a hundred': {
    ...crowded,
    perMinute: { crowd: 11, callFault: 20, unanswered: 2 * unanswered },
  },
  'a hot product, a fault in every hundredth call': { hot: 1, stock: 400, perMinute: { buy: 1500, callFault: 10 } },
  'a release, a fault in every twentieth call': { release: true, perMinute: twentieth },
  'scarce stock, a fault in every hundredth call': { stock: 8, perMinute: hundredth },
}

/** At most 1 in 10,000 units is off, and each is listed. */
export const late: Record<string, Row> = {
  'late: stops before a call is sent': { sendsLate: true },
  'late: a fault in every hundredth call, up to 20 s late': { ...acts, perMinute: hundredth },
  'late: a fault in every twentieth call, up to 20 s late': { ...acts, perMinute: twentieth },
  'late: a release, a fault in every twentieth call, up to 20 s late': { ...acts, release: true, perMinute: twentieth },
}

/** At most 1 in 1,000 units is off, and each is listed. */
export const refused: Record<string, Row> = {
  'refuses both ways: kills, stops and flushes': refusesBoth,
  'refuses both ways: a fault in every hundredth call': { ...refusesBoth, perMinute: hundredth },
  'refuses both ways: a fault in every twentieth call': { ...refusesBoth, perMinute: twentieth },
}

/** Without one of the protections the inventory is wrong. */
export const unprotected: Record<string, Row> = {
  'without the lease': { lease: false, perMinute: hundredth },
  'without checking how long a lease lasts': { places: 1, leaseCheck: false, perMinute: { buy: 600, callFault: 100 } },
  'without a memory of unanswered calls': { memory: false, perMinute: hundredth },
  'without fencing': { fencing: false, perMinute: hundredth },
  'without reconciliation': { reconciliation: false, perMinute: hundredth },
  'without the reconciler': { reconciler: false, perMinute: hundredth },
}

export const histories: Record<string, Row> = { ...exact, ...late, ...refused, ...unprotected }
