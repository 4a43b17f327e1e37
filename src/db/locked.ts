/** Rows that somebody else has locked, a person with an open transaction maybe: nothing waits for them in PostgreSQL. */
import type { Clock } from '../clock.ts'

/** Somebody has the row: nothing was done about it. */
export const LOCKED = Symbol('locked')

/** Thrown where the row stayed locked for so long that whoever asked has to be told. */
export class RowLocked extends Error {
  override name = 'RowLocked'
}

const FIRST_PAUSE_MS = 5
const LONGEST_PAUSE_MS = 250
/** Longer than a checkout may last. */
const PATIENCE_MS = 10_000

/**
 * Asks again, less and less often, for as long as the row is locked. It waits here and not in PostgreSQL, where it would keep a connection.
 * @throws RowLocked after 10 s; what `run` throws
 */
export async function untilUnlocked<T>(
  clock: Pick<Clock, 'now' | 'sleep'>,
  what: string,
  run: () => Promise<T | typeof LOCKED>,
): Promise<T> {
  const began = clock.now()
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const result = await run()
    if (result !== LOCKED) return result
    if (clock.now() - began > PATIENCE_MS) throw new RowLocked(`the row of ${what} is locked by another session`)
    await clock.sleep(pauseMs)
  }
}
