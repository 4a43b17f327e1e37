/**
 * Finds the id at which a search for waiting rows can begin. While an old snapshot is open (a backup, a forgotten transaction), PostgreSQL
 * keeps the index entries of all rows that ended since. A search from the first id reads each of them: 16 ms for 100,000.
 */

/** Longer than a statement takes. A row whose id was drawn before the last read is visible by now, or never will be. */
const SETTLED_MS = 15_000

/**
 * @param readLowest reads the lowest waiting id, searching from the first id; if no row waits, the newest id
 * @param now a monotonic clock, in ms
 * @returns a function for the id at which to begin. It reads the id again every 15 s; a row that returns below it is found then
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
