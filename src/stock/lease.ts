/** How long a lease lasts, and its renewal before a call. */
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { Products } from '../db/products.ts'

/** How long a lease must last before a call is sent under it: the call's time-out, and 1.5 s to record its outcome. In ms. */
export const enoughFor = (callTimeoutMs: number) => callTimeoutMs + 1500
/** A call may wait for a second at Catalog's bulkhead before its lease has to be renewed. In ms. */
export const leaseFor = (callTimeoutMs: number) => enoughFor(callTimeoutMs) + 1000

/** A call of ours: it has the lease while the products' rows carry its id. `expiresAt` in epoch ms, by PostgreSQL's clock. */
export interface LeasedCall {
  callId: number
  productIds: readonly number[]
  expiresAt: number
}

export interface LeaseDeps {
  products: Pick<Products, 'continueCall'>
  clock: Pick<Clock, 'databaseTime'>
  callTimeoutMs: number
}

/**
 * Renews the lease where it is too short for a call.
 * @returns false where the lease is lost or too short, or a product's row is locked: no call may be sent under it
 */
export async function renewLease({ products, clock, callTimeoutMs }: LeaseDeps, call: LeasedCall): Promise<boolean> {
  const isEnough = () => call.expiresAt - clock.databaseTime() >= enoughFor(callTimeoutMs)
  if (isEnough()) return true
  const expiresAt = await products.continueCall(call)
  if (expiresAt === undefined) return false
  call.expiresAt = expiresAt
  return isEnough() // the process may have been stopped between the renewal and its answer
}

/**
 * Records a call as unanswered. Its lease continues under a check, so that no other call is made before Catalog is read.
 * @returns the check; undefined if the lease is lost or a row is locked: the lease then expires
 */
export async function continueAsCheck(
  { products, callIds }: Pick<LeaseDeps, 'products'> & { callIds: CallIds },
  { callId, productIds }: Pick<LeasedCall, 'callId' | 'productIds'>,
): Promise<LeasedCall | undefined> {
  const next = { callId: await callIds(), verb: 'check' as const, qty: 0 }
  const expiresAt = await products.continueCall({ callId, productIds }, { next, isUnanswered: true })
  return expiresAt === undefined ? undefined : { callId: next.callId, productIds, expiresAt }
}
