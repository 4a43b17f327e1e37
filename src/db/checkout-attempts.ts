/** How an attempt at a checkout begins after the first, and what a failed attempt records. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Fault } from '../causes.ts'
import type { ProductQty, RecoveryPoint, StepName } from '../model.ts'
import { productsOf } from '../model.ts'
import type { Attempt } from './checkout-rows.ts'
import { LOCKED } from './locked.ts'
import { nothing, type Pool } from './pool.ts'

/**
 * What is known of the shipment calls of the attempts so far: `unsent` (none reached Shipping), `answered` (each got a 5xx) or `unknown`.
 */
export type ShipmentCall = 'unsent' | 'answered' | 'unknown'

/** An attempt after the first: where it continues, and what the earlier attempts recorded. */
export interface Resumed extends Attempt {
  recoveryPoint: RecoveryPoint
  shipmentCall: ShipmentCall
  products: ProductQty[]
}

/** How an attempt failed: for operators, in the checkout's `history`. */
export interface FailedAttempt {
  step: StepName
  error: string
  ms: number
  /** undefined: another attempt took over, or the checkout ended meanwhile. */
  fault: Fault | undefined
}

/** A failed attempt of a checkout that goes on. */
export interface Failure extends FailedAttempt {
  shipmentCall: ShipmentCall
}

/** @returns an entry of `history` */
export const historyEntry = (attempt: number, { step, error, ms, fault }: FailedAttempt) => ({
  attempt,
  step,
  ms: Math.round(ms),
  error,
  at: new Date().toISOString(),
  ...fault,
})

const resumedRow = z.object({
  attempt: z.int(),
  recovery_point: z.enum(['intent', 'reserve-stock']),
  shipment_call: z.enum(['unsent', 'answered', 'unknown']),
  lines: z.array(z.object({ product_id: z.int(), qty: z.int(), unit_price_cents: z.int(), title_snapshot: z.string() })),
})

/** @returns LOCKED where another session has locked the row; undefined where it is no longer OPEN */
export async function resume(pool: Pool, id: number): Promise<Resumed | typeof LOCKED | undefined> {
  const row = await pool.maybeOne(sql.prepared('resume', resumedRow)`
    with was as materialized (
      select order_id, shipment_call from order_service.checkouts where order_id = ${id} and state = 'OPEN' for update skip locked
    )
    update order_service.checkouts c set attempt = c.attempt + 1, shipment_call = 'unknown', updated_at = now()
    from was where c.order_id = was.order_id
    returning c.attempt, c.recovery_point, was.shipment_call, c.lines`)
  if (!row) {
    const isOpenStill = await pool.exists(sql.prepared('is-still-open', nothing)`
      select from order_service.checkouts where order_id = ${id} and state = 'OPEN'`)
    return isOpenStill ? LOCKED : undefined
  }
  return {
    orderId: id,
    attempt: row.attempt,
    recoveryPoint: row.recovery_point,
    shipmentCall: row.shipment_call,
    products: productsOf(row.lines),
  }
}

/** Records how an attempt failed, for operators and for the next attempt. */
export async function recordFailure(pool: Pool, { orderId: id, attempt }: Attempt, failed: Failure): Promise<void> {
  const entry = JSON.stringify(historyEntry(attempt, failed))
  const { cause = null, service = null } = failed.fault ?? {}
  await pool.query(sql.prepared('record-failure', nothing)`
    update order_service.checkouts
    set shipment_call = ${failed.shipmentCall}::text, last_error = ${failed.error}::text, cause = coalesce(${cause}::text, cause),
      service = case when ${cause}::text is null then service else ${service}::text end, history = history || ${entry}::jsonb, updated_at = now()
    where order_id = any(array(
      select order_id from order_service.checkouts
      where order_id = ${id} and attempt = ${attempt} and state in ('OPEN', 'CANCELLED') for update skip locked))`)
}
