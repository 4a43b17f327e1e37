/** Writes records that arrive together in one statement. A record whose members' rows are locked does not delay the others. */
import { batcher } from '../batcher.ts'
import type { Clock } from '../clock.ts'
import { LOCKED } from './locked.ts'

/** Most locks belong to this service's own statements, and last for a millisecond. */
const PAUSES_MS = [2, 5, 10, 20, 40]

/**
 * @param record writes a batch. If `isPatient` and a row is locked, it writes nothing and returns LOCKED
 * @param options how records are batched. Other waiters wait for the products in the meantime
 * @returns a function that writes one record. It retries for 77 ms while a row is locked. Then it writes the record without the members
 * whose rows are locked; their units are given back
 */
export function batchAroundLocks<Call, Recorded>(
  clock: Pick<Clock, 'sleep'>,
  record: (batch: readonly Call[], isPatient: boolean) => Promise<Recorded | typeof LOCKED>,
  options: Parameters<typeof batcher>[1] = { paceMs: 0 },
): (call: Call) => Promise<Recorded> {
  const together = batcher(async (batch: Call[]): Promise<(Recorded | typeof LOCKED)[]> => {
    const recorded = await record(batch, true)
    if (recorded !== LOCKED || batch.length === 1) return batch.map(() => recorded)
    return Promise.all(batch.map((call) => record([call], true)))
  }, options)
  return async (call) => {
    for (const pauseMs of [0, ...PAUSES_MS]) {
      if (pauseMs > 0) await clock.sleep(pauseMs)
      const recorded = await together(call)
      if (recorded !== LOCKED) return recorded
    }
    return (await record([call], false)) as Recorded
  }
}
