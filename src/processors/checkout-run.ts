/** What the steps of a checkout share while one attempt drives it, and how they fail. */
import type { ShipmentCall } from '../db/checkout-attempts.ts'
import type { Attempt, Created, Delivery } from '../db/checkout-rows.ts'
import type { Lease } from '../db/intents.ts'
import type { Fault } from '../causes.ts'
import type { ProductQty, RecoveryPoint, Rejection } from '../model.ts'

/** The record of the reserve that an attempt made. */
export interface DeferredRecord {
  /** Resolves when the hold is on record. @throws StepFault where PostgreSQL did not answer */
  written(): Promise<void>
  /** Completes the checkout. It records the hold in the same statement where that is not being written yet. @throws as `written` does */
  complete(): Promise<Created | undefined>
}

export interface CheckoutRun extends Attempt {
  products: readonly ProductQty[]
  /** The lease that its intent acquired; undefined: it waits for its products. */
  lease: Lease | undefined
  /** Epoch ms, by PostgreSQL's clock. */
  deadline: number
  /** Epoch ms: when the checkout was last known to be open, with this attempt as its latest. */
  seenOpenAt: number
  recoveryPoint: RecoveryPoint
  /** What is known of the shipment calls, including those of earlier attempts. */
  shipmentCall: ShipmentCall
  /** The record of this attempt's reserve, which is written before any decision; undefined: no reserve, or recorded earlier. */
  record: DeferredRecord | undefined
  /** Read while Catalog is called. */
  delivery: Promise<Delivery>
  /** Set by the last step. */
  outcome?: Created
}

export const CATALOG_UNREACHABLE: Rejection = { status: 503, detail: 'Catalog is unreachable' }
export const SHIPPING_UNREACHABLE: Rejection = { status: 503, detail: 'Shipping is unreachable' }

/** Why no checkout is begun while a circuit breaker is open, and what its customer gets. */
export interface Unavailable {
  rejection: Rejection
  fault: Fault
}

/** What a customer gets whose checkout reached its deadline. */
export const OUT_OF_TIME: Rejection = { status: 503, detail: 'The checkout took too long' }

interface StepFaultOptions {
  unreachable?: boolean
  retryAfterMs?: number | undefined
  cause?: unknown
  fault?: Fault | undefined
}

/** A step failed without an outcome. `rejection` is what the customer gets if the fault lasts. */
export class StepFault extends Error {
  override name = 'StepFault'
  readonly rejection: Rejection
  /** The downstream service refused the connection: the checkout fails after about a second, not after its budget. */
  readonly unreachable: boolean
  /** No retry before this; Infinity: no retry for this customer. */
  readonly retryAfterMs: number
  /** undefined: that of its `cause`. */
  readonly fault: Fault | undefined

  constructor(message: string, rejection: Rejection, { unreachable = false, retryAfterMs = 0, cause, fault }: StepFaultOptions = {}) {
    super(message, { cause })
    this.fault = fault
    this.rejection = rejection
    this.unreachable = unreachable
    this.retryAfterMs = retryAfterMs
  }
}

/** The checkout has ended, or another attempt drives it: this attempt makes no further call. */
export class Overtaken extends Error {
  override name = 'Overtaken'
}
