/** Orders as operators see them: search, lists, and the life of one order. */
import type { Cause, ItemKind, ServiceName, Verb } from '../causes.ts'
import { isCause, services } from '../causes.ts'
import { findOrders, type FoundOrder, type OrderConditions } from '../db/order-search.ts'
import type { Pool } from '../db/pool.ts'
import type { Line } from '../model.ts'

/** OPEN and REJECTED are states of checkouts, CREATED and PAID of orders, CANCELLED of both. */
export const orderStates = ['OPEN', 'CREATED', 'PAID', 'REJECTED', 'CANCELLED'] as const
export type OrderState = (typeof orderStates)[number]

export interface OrderRow {
  orderId: number
  /** One of {@link orderStates}, unless others wrote another status to `public.orders`. */
  state: string
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
export interface OrderQuery extends OrderConditions {
  state?: OrderState | undefined
  /** The `next` of the page before. */
  after?: string | undefined
  limit: number
}

export interface OrderPage {
  /** The highest ids first. */
  rows: OrderRow[]
  /** For the next page; null on the last. A search that reached its bound has fewer rows than `limit`, and a `next`. */
  next: string | null
}

/** Reads a bounded number of candidates, however many orders there are. */
export async function searchOrders(pool: Pool, { after, limit, ...conditions }: OrderQuery): Promise<OrderPage> {
  const { rows, next } = await findOrders(pool, conditions, { before: after === undefined ? undefined : Number(after), limit })
  return { rows: rows.map(rowOf), next: next === null ? null : String(next) }
}

const rowOf = (row: FoundOrder): OrderRow => ({
  orderId: row.id,
  state: row.state,
  email: row.email,
  totalCents: row.total_cents,
  currency: row.currency,
  createdAt: row.created_at,
  cause: row.cause !== null && isCause(row.cause) ? row.cause : null,
  service: services.find((name) => name === row.service) ?? null,
})

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
  /** Who did it. */
  operator?: string
  /** Only of an internal error, and only for admins. */
  stack?: string | null
  /** A path below /order/admin that shows more. */
  link?: string | null
}

export interface OrderLife extends OrderRow {
  idempotencyKey: string | null
  /** One sentence: where it stands and what comes next. */
  summary: string
  lines: readonly Line[]
  /** null: pruned, or an order of the predecessor */
  address: Record<string, string> | null
  deadlineAt: Date | null
  prunedAt: Date | null
  timeline: TimelineEntry[]
  /** What could help now. `item`: what the verb acts on. */
  actions: { verb: Verb; item: number }[]
}

/** An item of a cause, for its page. */
export interface Item {
  kind: ItemKind
  id: number
  orderId: number | null
  since: Date
  attempts: number | null
  evidence: string
  /** null: unknown, or none */
  nextTryAt: Date | null
}
