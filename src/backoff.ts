/** Pauses between repeated attempts. */

/** @returns the pause after so many failures (1 or more), in ms: `firstMs`, then twice as long each time, up to `mostMs` */
export function exponentialBackoffMs(failures: number, firstMs: number, mostMs = Number.POSITIVE_INFINITY): number {
  return Math.min(mostMs, firstMs * 2 ** (failures - 1))
}
