/** How long a lease lasts, and whether it lasts long enough. */
import type { Clock } from '../clock.ts'
import type { Products } from '../db/products.ts'

/** What a lease has to last before a call is sent under it: the call's time-out, and 1.5 s to put its outcome on record. In ms. */
export const enoughFor = (callTimeoutMs: number) => callTimeoutMs + 1500
/** A call may wait for a second for its place at Catalog before its lease has to be renewed. In ms. */
export const leaseFor = (callTimeoutMs: number) => enoughFor(callTimeoutMs) + 1000

/** A call of ours: who has its number in the products' rows has the lease. `expiresAt` in epoch ms, by PostgreSQL's clock. */
export interface LeasedCall {
  callId: number
  productIds: readonly number[]
  expiresAt: number
}

export interface LeaseDeps {
  products: Pick<Products, 'continueCall'>
  clock: Pick<Clock, 'wallTime'>
  callTimeoutMs: number
}

/**
 * Makes sure that the lease lasts for a call; it is renewed where it has to be.
 * @returns false where it is lost, or too short already, or somebody has a product's row: nothing may be sent under it
 */
export async function renewLease({ products, clock, callTimeoutMs }: LeaseDeps, call: LeasedCall): Promise<boolean> {
  const isEnough = () => call.expiresAt - clock.wallTime() >= enoughFor(callTimeoutMs)
  if (isEnough()) return true
  const expiresAt = await products.continueCall(call)
  if (expiresAt === undefined) return false
  call.expiresAt = expiresAt
  return isEnough() // the process may have been stopped between the renewal and its answer
}
