/** Orders as operators see them: search, lists, and the life of one order. */
import type { Cause, ServiceName, Verb } from '../causes.ts'
import type { Line } from '../model.ts'

/** OPEN, REJECTED and CANCELLED are states of checkouts; the others of orders. */
export const orderStates = ['OPEN', 'CREATED', 'PAID', 'REJECTED', 'CANCELLED'] as const
export type OrderState = (typeof orderStates)[number]

export interface OrderRow {
  orderId: number
  state: OrderState
  /** null: pruned */
  email: string | null
  totalCents: number
  currency: string
  createdAt: Date
  /** Of the last failure of its checkout or, where one waits, of its payment. */
  cause: Cause | null
  service: ServiceName | null
}

/** All conditions hold together. `q`: an order id, an email, an idempotency key, or the id of a payment. */
export interface OrderQuery {
  q?: string | undefined
  state?: OrderState | undefined
  /** Orders whose open checkout or waiting payment, or whose failed checkout, has this cause. */
  cause?: Cause | undefined
  service?: ServiceName | undefined
  productId?: number | undefined
  /** Created at least so long ago, in ms. */
  olderThanMs?: number | undefined
  /** The `next` of the page before. */
  after?: string | undefined
  limit: number
}

export interface OrderPage {
  rows: OrderRow[]
  /** For the next page; null on the last. */
  next: string | null
}

export interface TimelineEntry {
  at: Date
  /** When it is only planned: the next retry, or a deadline. */
  isPlanned?: boolean
  title: string
  detail?: string | null
  /** How long it took, in ms. */
  ms?: number | null
  cause?: Cause | null
  service?: ServiceName | null
  /** Only of an internal error, and only for admins. */
  stack?: string | null
  /** A path below /order/admin that shows more. */
  link?: string | null
}

export interface OrderLife extends OrderRow {
  idempotencyKey: string | null
  /** One sentence: where it stands and what comes next. */
  standing: string
  lines: readonly Line[]
  address: Record<string, string> | null
  timeline: TimelineEntry[]
  /** What could help now. `item`: what the verb acts on. */
  actions: { verb: Verb; item: number }[]
}

/** An item of a cause, for its page. */
export interface Item {
  id: number
  orderId: number | null
  since: Date
  attempts: number | null
  evidence: string
  /** null: unknown, or none */
  nextTryAt: Date | null
}
