/** Rows that another session has locked, such as an operator's open transaction. No statement waits for them in PostgreSQL. */
import type { Clock } from '../clock.ts'

/** Another session has locked the row, and nothing was written. */
export const LOCKED = Symbol('locked')

/** The row stayed locked for longer than the caller waits. */
export class RowLocked extends Error {
  override name = 'RowLocked'
}

/** What waits in this process now, for its report; `since` by the host's monotonic clock, in ms. */
export const lockWaits = new Set<{ what: string; since: number }>()

const FIRST_PAUSE_MS = 5
const LONGEST_PAUSE_MS = 250
/** Longer than a checkout may last. */
const PATIENCE_MS = 10_000

/**
 * Retries with growing pauses while the row is locked. It waits here and not in PostgreSQL, where it would occupy a connection.
 * @throws RowLocked after 10 s; what `run` throws
 */
export async function untilUnlocked<T>(
  clock: Pick<Clock, 'now' | 'sleep'>,
  what: string,
  run: () => Promise<T | typeof LOCKED>,
): Promise<T> {
  const first = await run()
  if (first !== LOCKED) return first
  const began = clock.now()
  const wait = { what, since: performance.now() }
  lockWaits.add(wait)
  try {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      await clock.sleep(pauseMs)
      const result = await run()
      if (result !== LOCKED) return result
      if (clock.now() - began > PATIENCE_MS) throw new RowLocked(`the row of ${what} is locked by another session`)
    }
  } finally {
    lockWaits.delete(wait)
  }
}
