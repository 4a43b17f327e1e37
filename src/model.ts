/** What an order, a checkout and their events are: pure types and rules, known to every layer and knowing none. */

/** Money is in cents of this currency: carts carry no other (wire contract, "Cart"). */
export const CURRENCY = 'USD'

/** PostgreSQL's `integer`: the type of order ids, product ids and quantities in the adopted tables. */
export const MAX_INTEGER = 2_147_483_647

/** What PostgreSQL can keep as text: neither NUL nor half of a surrogate pair. One value with either would spoil the batch that it travels in. */
export const storable = (text: string): boolean => text.isWellFormed() && !text.includes('\0')

/** One line of a cart and of the order it becomes; two lines of one product stay two lines. Titles are cut to 255 characters. */
export interface Line {
  product_id: number
  qty: number
  unit_price_cents: number
  title_snapshot: string
}

/** A product and how many of it: what Catalog is asked for, lines of one product added up. */
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

/** A customer's wish, as it is written before anything is done about it. */
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

/** What became of a checkout that did not become an order: the HTTP status and `detail` that the customer gets. */
export interface Rejection {
  status: number
  detail: string
}

/** The key of a checkout that came without one. The space keeps it apart from every key that a customer can send. */
export const keyOfCart = (fingerprint: string): string => `cart ${fingerprint}`

export const isKeyOfCart = (idempotencyKey: string): boolean => idempotencyKey.startsWith('cart ')

/** How a checkout ended: as an order, or not. */
export type Outcome =
  | { state: 'CREATED'; orderId: number; totalCents: number; currency: string }
  | ({ state: 'REJECTED' | 'CANCELLED'; orderId: number } & Rejection)

/**
 * The states of a checkout: what each means to an operator, and what may follow it. The checks in `sql/` and the diagram in
 * docs/states.md say the same.
 */
export const checkoutStates = {
  OPEN: { means: 'under way: stock or shipment are being asked for', next: ['CREATED', 'REJECTED', 'CANCELLED'] },
  CREATED: { means: 'an order stands, with its hold, its shipment and its event', next: [] },
  REJECTED: { means: 'refused by Catalog before anything was done', next: [] },
  CANCELLED: { means: 'given up; the reconciler gives back a hold that it had', next: [] },
} as const satisfies Record<string, { means: string; next: readonly string[] }>

/** The last step that is on record. The shipment is not among them: the completing transaction follows it at once, and a repeat looks at Shipping anyway. */
export type RecoveryPoint = 'intent' | 'reserve-stock'

export type StepName = 'reserve-stock' | 'create-shipment' | 'complete'

/** What changes a product's inventory at Catalog. */
export type StockVerb = 'reserve' | 'commit' | 'restock' | 'release'

/** Payment events that mean something to an order; others on the topic are passed by. */
export type PaymentType = 'payment.succeeded' | 'payment.failed'

/** What Payment says of an order, whichever form it came in. `null`: it did not say. */
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

/** The states of a payment event in the inbox, as {@link checkoutStates}. The checks in `sql/` and docs/payments.md say the same. */
export const paymentStates = {
  WAITING: { means: 'received, or replayed: a job drives it until it comes to an end', next: ['APPLIED', 'DEAD'] },
  APPLIED: { means: 'it paid its order, told of a payment that had done so, or is a failed one and only kept', next: [] },
  DEAD: { means: 'it lies among the dead letters, for a person', next: ['WAITING'] },
} as const satisfies Record<string, { means: string; next: readonly string[] }>
export type PaymentState = keyof typeof paymentStates

/** How a payment event was applied: it paid the order, told of a payment that had done so, or (a failed one) is only kept. */
export type PaymentResult = 'paid' | 'already-paid' | 'recorded'

/** Why a message is a dead letter; what each means to an operator, and what usually helps. */
export const deadLetterFaults = {
  unreadable: 'it is no payment event that this service can read: replay after a repair of the reader, or discard',
  ambiguous: 'it has two order ids, or says its type twice: ask Payment which one is meant',
  'other-content': 'an event with the same identity and another order, amount or currency was received before: ask Payment',
  'unknown-order': 'no such order appeared within the grace: refund, or replay once the order stands',
  cancelled: 'its checkout became no order: refund',
  'wrong-amount': 'amount or currency are not those of the order: refund the difference, or all of it',
  'second-payment': 'the order was paid by another payment before: refund this one',
  'catalog-refused': 'Catalog refuses to commit the stock: put it right there, then replay',
} as const satisfies Record<string, string>
export type DeadLetterFault = keyof typeof deadLetterFaults

/** What a cart asks of Catalog: lines of one product added up, in the order of product ids (the order in which rows and leases are taken). */
export function productsOf(lines: readonly Line[]): ProductQty[] {
  const sums = new Map<number, number>()
  for (const line of lines) sums.set(line.product_id, (sums.get(line.product_id) ?? 0) + line.qty)
  return [...sums].map(([productId, qty]) => ({ productId, qty })).sort((a, b) => a.productId - b.productId)
}

/** @returns the total in cents, or undefined where it would leave the integers that JavaScript counts exactly (2^53 - 1) */
export function totalOf(lines: readonly Line[]): number | undefined {
  const total = lines.reduce((sum, line) => sum + line.qty * line.unit_price_cents, 0)
  return Number.isSafeInteger(total) && lines.every((line) => Number.isSafeInteger(line.qty * line.unit_price_cents)) ? total : undefined
}
