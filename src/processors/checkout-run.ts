/** What the steps of a checkout share while one attempt drives it, and how they fail. */
import type { ShipmentCall } from '../db/checkout-attempts.ts'
import type { Attempt, Created, Delivery } from '../db/checkout-rows.ts'
import type { Lease } from '../db/intents.ts'
import type { ProductQty, RecoveryPoint, Rejection } from '../model.ts'

/** The record of the reserve that an attempt made. */
export interface ReserveRecord {
  /** Resolves when the hold is on record. @throws StepFault where PostgreSQL did not answer */
  written(): Promise<void>
  /** Completes the checkout, and puts the hold on record along with it where that has not set out on its own. @throws as `written` does */
  complete(): Promise<Created | undefined>
}

export interface CheckoutRun extends Attempt {
  products: readonly ProductQty[]
  /** What its intent took; undefined: it waits for its products. */
  lease: Lease | undefined
  /** Epoch ms, by PostgreSQL's clock. */
  deadline: number
  /** Epoch ms: as of when the checkout is known to be open, and this attempt its latest. */
  seenOpenAt: number
  recoveryPoint: RecoveryPoint
  /** What became of the calls for a shipment, those of the attempts before included. */
  shipmentCall: ShipmentCall
  /** Of the reserve that this attempt made: to be on record before anything is decided. undefined: there is none, or it has been recorded before. */
  record: ReserveRecord | undefined
  /** Read while Catalog is asked. */
  delivery: Promise<Delivery>
  /** Set by the last step. */
  outcome?: Created
}

export const CATALOG_UNREACHABLE: Rejection = { status: 503, detail: 'Catalog is unreachable' }
export const SHIPPING_UNREACHABLE: Rejection = { status: 503, detail: 'Shipping is unreachable' }

/** What a customer gets whose checkout has lasted until its deadline. */
export const OUT_OF_TIME: Rejection = { status: 503, detail: 'The checkout took too long' }

/** A step could not come to an outcome. `rejection` is what the customer gets if it lasts. */
export class StepFault extends Error {
  override name = 'StepFault'
  readonly rejection: Rejection
  /** The downstream refused the connection: given up after about a second, not after the budget. */
  readonly unreachable: boolean
  /** Not to be repeated before that; Infinity: not for this customer. */
  readonly retryAfterMs: number

  constructor(
    message: string,
    rejection: Rejection,
    { unreachable = false, retryAfterMs = 0, cause }: { unreachable?: boolean; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, { cause })
    this.rejection = rejection
    this.unreachable = unreachable
    this.retryAfterMs = retryAfterMs
  }
}

/** The checkout has ended, or another attempt drives it: this one makes no further call. */
export class Overtaken extends Error {
  override name = 'Overtaken'
}
