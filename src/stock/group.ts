/** What those in a call are told, and what the parts of a call share. */
import type { Catalog, StockRefusal } from '../clients/catalog.ts'
import { NoAnswer } from '../clients/http.ts'
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { Reserved, ReserveRecorded } from '../db/record-reserved.ts'
import type { Committed, CommitRecorded } from '../db/payments.ts'
import type { Products } from '../db/products.ts'
import type { ProductLease } from '../db/reconciliation.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Group, StockLine } from './line.ts'
import type { OpenHold, OpenHolds } from './open-hold.ts'
import type { Reconciler } from './reconcile.ts'
import type { Waiter } from './waiting.ts'

export interface StockDeps {
  products: Products
  catalog: Catalog
  clock: Clock
  callIds: CallIds
  callTimeoutMs: number
  metrics: Metrics
  recordReserved(call: Reserved): Promise<ReserveRecorded>
  recordPaid(call: Committed): Promise<CommitRecorded>
  /** Tells the reconciler of products that somebody has to come to. */
  wakeReconciler(productIds: readonly number[]): void
}

/** `done` without a hold: it is on record. `ended`: there was nothing left to call for. */
export type StockResult = { result: 'done'; hold?: OpenHold } | ({ result: 'refused' } & StockRefusal) | { result: 'ended' }

/** A lease on one product, to check it and to put it right; `done` lets those go on that wait for it. */
export interface CheckLease extends ProductLease {
  done(): void
}

/** The call did not come to an outcome, and may be made again. `sent` is false where it never reached Catalog. */
export class StockFault extends Error {
  override name = 'StockFault'
  readonly sent: boolean
  /** @see NoAnswer.retryAfterMs */
  readonly retryAfterMs: number | undefined

  constructor(message: string, { sent, retryAfterMs, cause }: { sent: boolean; retryAfterMs?: number | undefined; cause?: unknown }) {
    super(message, { cause })
    this.sent = sent
    this.retryAfterMs = cause instanceof NoAnswer ? cause.retryAfterMs : retryAfterMs
  }
}

export type Settled = StockResult | { result: 'leased'; lease: CheckLease }
export type StockGroup = Group<Settled>
export type StockWaiter = Waiter<Settled>

export interface GroupDeps extends StockDeps {
  line: StockLine<Settled>
  openHolds: OpenHolds
  reconciler: Reconciler
}
