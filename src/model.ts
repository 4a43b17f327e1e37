/** Orders, checkouts and their events: pure types and rules. Every layer may import this file; it imports none. */

/** Money is in cents of this currency: carts carry no other (wire contract, "Cart"). */
export const CURRENCY = 'USD'

/** PostgreSQL's `integer`: the type of order ids, product ids and quantities in the adopted tables. */
export const MAX_INTEGER = 2_147_483_647

/** Whether PostgreSQL can store a text: no NUL, no half of a surrogate pair. One bad value would fail its whole batch. */
export const storable = (text: string): boolean => text.isWellFormed() && !text.includes('\0')

/** One line of a cart and of the order it becomes; two lines of one product stay two lines. Titles are cut to 255 characters. */
export interface Line {
  product_id: number
  qty: number
  unit_price_cents: number
  title_snapshot: string
}

/** A product and its quantity, with the lines of one product added up: what Catalog is called for. */
export interface ProductQty {
  productId: number
  qty: number
}

/** Where a shipment goes. `country` is two capital letters, `address_line2` may be empty. */
export interface Address {
  address_line1: string
  address_line2: string
  city: string
  country: string
  postcode: string
}

/** What a customer wants, as it is recorded before any call is made. */
export interface Intent {
  userEmail: string
  /** The customer's `Idempotency-Key`, or, where none was sent, {@link keyOfCart}: a double click finds the open checkout by it. */
  idempotencyKey: string
  /** Hash of the body alone: the same key with another one is refused. */
  requestHash: string
  lines: Line[]
  address: Address
  totalCents: number
  /** How long this may take, in ms from the moment that PostgreSQL writes it down. */
  budgetMs: number
}

/** Why a checkout did not become an order: the HTTP status and `detail` that the customer gets. */
export interface Rejection {
  status: number
  detail: string
}

/** The key of a checkout without an `Idempotency-Key`. No customer can send a key with a space. */
export const keyOfCart = (fingerprint: string): string => `cart ${fingerprint}`

export const isKeyOfCart = (idempotencyKey: string): boolean => idempotencyKey.startsWith('cart ')

/** How a checkout ended: as an order, or not. */
export type Outcome =
  | { state: 'CREATED'; orderId: number; totalCents: number; currency: string }
  | ({ state: 'REJECTED' | 'CANCELLED'; orderId: number } & Rejection)

/**
 * The states of a checkout: what each means to an operator, and which may follow it. The checks in `sql/` and docs/states.md must agree.
 */
export const checkoutStates = {
  OPEN: { means: 'in progress: its stock is being reserved, or its shipment created', next: ['CREATED', 'REJECTED', 'CANCELLED'] },
  CREATED: { means: 'the order exists, with its hold, its shipment and its event', next: [] },
  REJECTED: { means: 'refused by Catalog before anything was reserved', next: [] },
  CANCELLED: { means: 'failed or cancelled; the reconciler gives back its hold, if it had one', next: [] },
} as const satisfies Record<string, { means: string; next: readonly string[] }>

/** The last recorded step. The shipment is not recorded: the completing transaction follows at once, and a repeat reads Shipping anyway. */
export type RecoveryPoint = 'intent' | 'reserve-stock'

export type StepName = 'reserve-stock' | 'create-shipment' | 'complete'

/** What changes a product's inventory at Catalog. */
export type StockVerb = 'reserve' | 'commit' | 'restock' | 'release'

/** Payment events that concern an order. Others on the topic are ignored. */
export type PaymentType = 'payment.succeeded' | 'payment.failed'

/** A payment event of an order, in whichever form it came. `null`: not in the message. */
export interface PaymentEvent {
  type: PaymentType
  orderId: number
  amountCents: number | null
  currency: string | null
  provider: string | null
  paymentId: string | null
  /** Of a failed payment. */
  details: { reason?: string; code?: string }
}

/** The states of a payment event in the inbox, as {@link checkoutStates}. The checks in `sql/` and docs/payments.md must agree. */
export const paymentStates = {
  WAITING: { means: 'received or replayed: a job retries it until it is APPLIED or DEAD', next: ['APPLIED', 'DEAD'] },
  APPLIED: { means: 'it paid its order, repeats a payment that did, or is a failed payment that is only recorded', next: [] },
  DEAD: { means: 'it is a dead letter, for a person to resolve', next: ['WAITING'] },
} as const satisfies Record<string, { means: string; next: readonly string[] }>
export type PaymentState = keyof typeof paymentStates

/** How a payment event was applied: it paid the order, repeats a payment that did, or (a failed payment) is only recorded. */
export type PaymentResult = 'paid' | 'already-paid' | 'recorded'

/** Why a message is a dead letter: what each fault means to an operator, and what usually helps. */
export const deadLetterFaults = {
  unreadable: 'this service cannot read it as a payment event: replay it once the reader is fixed, or discard it',
  ambiguous: 'it has two order ids or two types: ask Payment which one is right',
  'other-content': 'an event with the same identity but another order, amount or currency was already received: ask Payment',
  'unknown-order': 'no such order appeared within the grace period: refund it, or replay it once the order exists',
  cancelled: 'its checkout did not become an order: refund it',
  'wrong-amount': 'its amount or currency differs from the order: refund the difference, or all of it',
  'second-payment': 'another payment already paid the order: refund this one',
  'catalog-refused': 'Catalog refuses to commit the stock: correct it there, then replay the event',
} as const satisfies Record<string, string>
export type DeadLetterFault = keyof typeof deadLetterFaults

/** The products of a cart: lines of one product added up, in the order of product ids, in which rows and leases are locked. */
export function productsOf(lines: readonly Line[]): ProductQty[] {
  const sums = new Map<number, number>()
  for (const line of lines) sums.set(line.product_id, (sums.get(line.product_id) ?? 0) + line.qty)
  return [...sums].map(([productId, qty]) => ({ productId, qty })).sort((a, b) => a.productId - b.productId)
}

/** @returns the total in cents, or undefined where it exceeds the integers that JavaScript represents exactly (2^53 - 1) */
export function totalOf(lines: readonly Line[]): number | undefined {
  const total = lines.reduce((sum, line) => sum + line.qty * line.unit_price_cents, 0)
  return Number.isSafeInteger(total) && lines.every((line) => Number.isSafeInteger(line.qty * line.unit_price_cents)) ? total : undefined
}
