/** Records of calls that come together are written by one statement; one whose members' rows are locked is not waited for by the others. */
import { batcher } from '../batcher.ts'
import type { Clock } from '../clock.ts'
import { LOCKED } from './locked.ts'

/** Most locks are those of our own statements, and last for a millisecond. */
const PAUSES_MS = [2, 5, 10, 20, 40]

/**
 * @param record writes a batch, or nothing where it is patient and a row is locked
 * @param options how records gather; others wait for their products meanwhile
 * @returns a function for one record. It is patient for 77 ms; after that it is written without those whose rows are locked, whose units
 * go back
 */
export function patiently<Call, Recorded>(
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
