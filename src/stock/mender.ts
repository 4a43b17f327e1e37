/**
 * The mender: works on every product with extras or doubts, at once and again until its doubts are ten minutes old, since a call may
 * act late. It has no end but success.
 */
import { mend } from './mending.ts'
import { type StockParts, writeDownExpired } from './stock-call.ts'

/** A neighbour that acts so late has not been seen; a doubt of this age did not happen. */
const DOUBT_LASTS_MS = 10 * 60_000
/** How long to wait after so many looks, in ms: 1 s, 2 s, 4 s, at most a minute. */
export const pauseAfter = (looks: number) => Math.min(60_000, 1000 * 2 ** Math.min(looks, 10))
const LEASE_PATIENCE_MS = 10_000
/** Customers wait for the lease meanwhile. What is left after that is for the next look. */
const MENDING_LASTS_MS = 15_000

/** @returns undefined where nothing is left to do, or the pause until the next look, in ms; throws where it could not look */
export type Mender = (productId: number, looks: number) => Promise<number | undefined>

/** @returns a function whose `looks` is how often this product has been looked at since it was last at peace */
export function createMender(parts: StockParts): Mender {
  const { leases, ledger, clock } = parts
  return async (productId, looks) => {
    const lease = await leases.take({ productIds: [productId], calls: [], deadline: clock.wallTime() + LEASE_PATIENCE_MS })
    try {
      await writeDownExpired(parts, lease)
      const mended = await mend(parts, productId, lease, { notBefore: clock.now(), deadline: clock.wallTime() + MENDING_LASTS_MS })
      if (mended.agreed) await ledger.forgetOld(productId, DOUBT_LASTS_MS)
    } finally {
      lease.letGo()
    }
    if (await ledger.isAtPeace(productId)) return undefined
    return pauseAfter(looks)
  }
}
