/**
 * Where a search for the few rows that wait begins. While an old snapshot is open (a backup, a forgotten transaction), PostgreSQL keeps
 * the index entries of all rows that have ended since, and a search from the first id steps over each of them: 16 ms for 100,000.
 */

/** Longer than a statement of ours takes: an id that was drawn before the last read is on record by now, or never will be. */
const SETTLED_MS = 15_000

/**
 * @param readLowest the lowest id that waits, read from the first one; where none waits, the newest id
 * @param now a monotonic clock, in ms
 * @returns a function for the id at which to begin, read anew every 15 s. A row that comes back below it is found by then.
 * @throws what `readLowest` throws
 */
export function createLowerBound(readLowest: () => Promise<number>, now: () => number): () => Promise<number> {
  let bound = 0
  let lowest = 0
  let readAt = Number.NEGATIVE_INFINITY
  return async () => {
    if (now() - readAt < SETTLED_MS) return bound
    readAt = now()
    const before = lowest
    lowest = await readLowest()
    bound = Math.min(before, lowest)
    return bound
  }
}
