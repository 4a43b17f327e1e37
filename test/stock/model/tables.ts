/** PostgreSQL's tables in memory, as far as stock is concerned. What their statements do: stock-statements.ts and order-statements.ts. */
import type { ShipmentCall } from '../../../src/db/checkout-attempts.ts'
import type { Outcome, PaymentResult, ProductQty, RecoveryPoint, Rejection, StockVerb } from '../../../src/model.ts'

export interface CallRow {
  id: number
  verb: StockVerb | 'check'
  qty: number
  expiresAt: number
  by: string | null
}

export interface ProductRow {
  expectedStock: number | null
  held: number
  foreignHolds: number
  holdCorrection: number
  stockCorrection: number
  call: CallRow | null
  wantedBy: string | null
  wantedUntil: number
  isReconciling: boolean
}

export interface ChangeRow {
  productId: number
  callId: number | null
  held: number
  expectedStock: number
}

export interface UnansweredRow {
  callId: number
  productId: number
  verb: StockVerb
  qty: number
  since: number
  found: 'happened' | 'not-happened' | null
}

export interface ReconciliationRow {
  productId: number
  verb: StockVerb | 'follow' | 'unexplained'
  qty: number
  result: string
  reason: string | null
  callId: number | null
}

export interface AmbiguityRow {
  productId: number
  tooMany: number
  tooFew: number
  explanation: string
}

export interface CheckoutRow {
  state: Outcome['state'] | 'OPEN'
  recoveryPoint: RecoveryPoint
  lines: readonly ProductQty[]
  deadlineAt: number
  attempt: number
  callId: number
  shipmentCall: ShipmentCall
  rejection: Rejection | undefined
  updatedAt: number
}

export interface OrderRow {
  status: 'CREATED' | 'PAID'
  items: readonly ProductQty[]
}

export interface EventRow {
  orderId: number
  state: 'WAITING' | 'APPLIED' | 'DEAD'
  result: PaymentResult | null
  attempt: number
  callId: number | null
  touchedAt: number
}

export const TABLES = ['products', 'checkouts', 'orders', 'events'] as const
export type Table = (typeof TABLES)[number]
export type Locked = (table: Table, id: number) => boolean

/** What can be switched off, to see that it is needed. */
export interface Protections {
  /** Off: a product is taken whoever has it. */
  lease: boolean
  /** Off: a call whose lease expired, or whose answer was lost, is forgotten. */
  memory: boolean
  /** Off: a record counts whoever has the product by now. */
  fencing: boolean
}

export interface Tables {
  /** Epoch ms. */
  now(): number
  /** Whether another session has the row: asked once a row and statement. */
  isLocked: Locked
  on: Protections
  products: Map<number, ProductRow>
  changes: ChangeRow[]
  /** The oldest first. */
  unanswered: UnansweredRow[]
  reconciliations: ReconciliationRow[]
  ambiguities: AmbiguityRow[]
  checkouts: Map<number, CheckoutRow>
  orders: Map<number, OrderRow>
  events: Map<number, EventRow>
}

export const ALL_ON: Protections = { lease: true, memory: true, fencing: true }

export function createTables(
  now: () => number,
  { isLocked = () => false, on = ALL_ON }: { isLocked?: Locked; on?: Protections } = {},
): Tables {
  return {
    now,
    isLocked,
    on,
    products: new Map(),
    changes: [],
    unanswered: [],
    reconciliations: [],
    ambiguities: [],
    checkouts: new Map(),
    orders: new Map(),
    events: new Map(),
  }
}

export const qtyIn = (items: readonly ProductQty[], productId: number): number =>
  items.reduce((sum, item) => sum + (item.productId === productId ? item.qty : 0), 0)

/** Units of a product that orders and open checkouts hold, counted row by row. */
export function heldOf({ orders, checkouts }: Tables, productId: number): number {
  let held = 0
  for (const { status, items } of orders.values()) if (status === 'CREATED') held += qtyIn(items, productId)
  for (const { state, recoveryPoint, lines } of checkouts.values())
    if (state === 'OPEN' && recoveryPoint === 'reserve-stock') held += qtyIn(lines, productId)
  return held
}

/** Checkouts and payments without an end. */
export function unended({ checkouts, events }: Tables): number {
  let open = 0
  for (const { state } of checkouts.values()) if (state === 'OPEN') open += 1
  for (const { state } of events.values()) if (state === 'WAITING') open += 1
  return open
}
