/** The results that the members of a call get, and the dependencies that the parts of a call share. */
import type { Fault } from '../causes.ts'
import type { Catalog, StockRefusal } from '../clients/catalog.ts'
import { NoAnswer } from '../clients/http.ts'
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { Reserved, ReserveRecorded } from '../db/record-holds.ts'
import type { Committed, CommitRecorded } from '../db/payments.ts'
import type { Products } from '../db/products.ts'
import type { ProductLease } from '../db/reconciliation.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { CallScheduler, Group } from './call-scheduler.ts'
import type { OpenHold, OpenHolds } from './open-holds.ts'
import type { Reconciler } from './reconcile.ts'
import type { Waiter } from './wait-queues.ts'

export interface StockDeps {
  products: Products
  catalog: Catalog
  clock: Clock
  callIds: CallIds
  callTimeoutMs: number
  metrics: Metrics
  recordHolds(call: Reserved): Promise<ReserveRecorded>
  recordPaid(call: Committed): Promise<CommitRecorded>
  /** Makes the reconciler read these products. */
  wakeReconciler(productIds: readonly number[]): void
}

/** `done` without a hold: the hold is on record. `ended`: the checkout or payment no longer needs the call. */
export type StockResult = { result: 'done'; hold?: OpenHold } | ({ result: 'refused' } & StockRefusal) | { result: 'ended' }

/** A lease on one product, to check and correct it. `done` lets other waiters continue. */
export interface CheckLease extends ProductLease {
  done(): void
}

interface StockFaultOptions {
  sent: boolean
  retryAfterMs?: number | undefined
  cause?: unknown
  fault?: Fault | undefined
}

/** The call has no outcome, and may be retried. `sent` is false where it never reached Catalog. */
export class StockFault extends Error {
  override name = 'StockFault'
  readonly sent: boolean
  /** @see NoAnswer.retryAfterMs */
  readonly retryAfterMs: number | undefined
  /** undefined: that of its `cause`. */
  readonly fault: Fault | undefined

  constructor(message: string, { sent, retryAfterMs, cause, fault }: StockFaultOptions) {
    super(message, { cause })
    this.fault = fault
    this.sent = sent
    this.retryAfterMs = cause instanceof NoAnswer ? cause.retryAfterMs : retryAfterMs
  }
}

export type Settled = StockResult | { result: 'leased'; lease: CheckLease }
export type StockGroup = Group<Settled>
export type StockWaiter = Waiter<Settled>

export interface GroupDeps extends StockDeps {
  scheduler: CallScheduler<Settled>
  openHolds: OpenHolds
  reconciler: Reconciler
}
