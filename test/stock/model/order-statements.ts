/**
 * The statements of src/db on checkouts, intents.ts, payments.ts, payment-events.ts and rescue.ts on tables in memory, as far
 * as stock is concerned. parity.test.ts holds them to the originals.
 */
import type { Failure, Resumed } from '../../../src/db/checkout-attempts.ts'
import type { Attempt, Created } from '../../../src/db/checkout-rows.ts'
import type { Completion } from '../../../src/db/complete-checkouts.ts'
import type { Ended, EndRequest } from '../../../src/db/end-checkouts.ts'
import type { Reserved, ReserveRecorded } from '../../../src/db/record-holds.ts'
import type { Lease } from '../../../src/db/intents.ts'
import { LOCKED } from '../../../src/db/locked.ts'
import type { PaymentAttempt, WaitingEvent } from '../../../src/db/payment-events.ts'
import type { Committed, CommitRecorded, Payable } from '../../../src/db/payments.ts'
import type { StrandedCheckout } from '../../../src/db/rescue.ts'
import type { Outcome, PaymentResult, ProductQty } from '../../../src/model.ts'
import { type Part, recordCalls } from './stock-statements.ts'
import type { CheckoutRow, EventRow, Tables } from './tables.ts'

/** Every order costs as much. */
export const TOTAL_CENTS = 100
const money = { totalCents: TOTAL_CENTS, currency: 'USD' }

export type OrderStatements = ReturnType<typeof orderStatements>

export function orderStatements(tables: Tables) {
  const { checkouts, orders, events, products, now } = tables
  let lastOrder = 0
  let lastEvent = 0

  function own({ orderId, attempt }: Attempt): CheckoutRow | undefined {
    const row = checkouts.get(orderId)
    return row?.state === 'OPEN' && row.attempt === attempt ? row : undefined
  }

  function ownEvent({ eventId, attempt }: PaymentAttempt): EventRow | undefined {
    const row = events.get(eventId)
    return row?.state === 'WAITING' && row.attempt === attempt ? row : undefined
  }

  function readOutcome(orderId: number): Outcome | undefined {
    const row = checkouts.get(orderId)
    if (!row || row.state === 'OPEN') return undefined
    return row.state === 'CREATED' ? { state: 'CREATED', orderId, ...money } : { state: row.state, orderId, ...row.rejection! }
  }

  /** Each part of each call, with what of it goes to those who are in it. */
  const partsOf = (
    calls: readonly { callId: number; productIds: readonly number[]; granted: readonly (readonly ProductQty[])[] }[],
    sign: { held: number; expectedStock: number },
  ): Part[] =>
    calls.flatMap(({ callId, productIds, granted }) => {
      const wanted = granted.flat().map(({ productId }) => productId)
      return [...new Set([...productIds, ...wanted])].map((productId) => {
        const qty = granted.flat().reduce((sum, item) => sum + (item.productId === productId ? item.qty : 0), 0)
        const isPart = productIds.includes(productId)
        return { callId, productId, held: sign.held * qty, expectedStock: sign.expectedStock * qty, isPart }
      })
    })

  return {
    /** @param lines one a product, in the order of product ids */
    intend(
      lines: readonly ProductQty[],
      { budgetMs, callId, leaseMs }: { budgetMs: number; callId: number; leaseMs: number },
    ): { orderId: number; deadline: number; products: ProductQty[]; lease: Lease | undefined } {
      lastOrder += 1
      const deadlineAt = now() + budgetMs
      checkouts.set(lastOrder, {
        state: 'OPEN',
        recoveryPoint: 'intent',
        lines,
        deadlineAt,
        attempt: 1,
        callId,
        shipmentCall: 'unknown',
        rejection: undefined,
        updatedAt: now(),
      })
      const rows = lines.map(({ productId }) => products.get(productId))
      const isFree = lines.every(({ productId }, i) => {
        const row = rows[i]
        if (!row || row.expectedStock === null) return false
        if (tables.unanswered.some((call) => call.productId === productId && call.found === null)) return false
        if (tables.on.lease && (row.call !== null || (row.wantedBy !== null && row.wantedUntil >= now()))) return false
        return !tables.isLocked('products', productId)
      })
      const expiresAt = now() + leaseMs
      if (isFree) for (const [i, { qty }] of lines.entries()) rows[i]!.call = { id: callId, verb: 'reserve', qty, expiresAt, by: null }
      const lease = isFree ? { callId, expiresAt: Math.floor(expiresAt) } : undefined
      return { orderId: lastOrder, deadline: Math.floor(deadlineAt), products: lines.map((line) => ({ ...line })), lease }
    },
    readOutcome,
    isOpen: (attempt: Attempt): boolean => own(attempt) !== undefined,
    resume(orderId: number): Resumed | typeof LOCKED | undefined {
      const row = checkouts.get(orderId)
      if (row?.state !== 'OPEN') return undefined
      if (tables.isLocked('checkouts', orderId)) return LOCKED
      const { shipmentCall, recoveryPoint } = row
      Object.assign(row, { attempt: row.attempt + 1, shipmentCall: 'unknown', updatedAt: now() })
      return { orderId, attempt: row.attempt, recoveryPoint, shipmentCall, products: row.lines.map((line) => ({ ...line })) }
    },
    recordHolds(calls: readonly Reserved[], isPatient: boolean): ReserveRecorded | typeof LOCKED {
      const ids = calls.flatMap(({ members }) => members.map(({ orderId }) => orderId))
      const free = new Set([...new Set(ids)].filter((id) => checkouts.has(id) && !tables.isLocked('checkouts', id)))
      if (isPatient && free.size !== ids.length) return LOCKED
      const orderIds = new Set<number>()
      const granted = calls.map(({ callId, productIds, members }) => {
        const inside = members.filter(({ orderId }) => {
          const row = checkouts.get(orderId)
          return free.has(orderId) && row?.state === 'OPEN' && row.recoveryPoint === 'intent' && row.callId === callId
        })
        for (const { orderId } of inside) orderIds.add(orderId)
        return { callId, productIds, granted: inside.map((member) => member.products) }
      })
      for (const id of orderIds) Object.assign(checkouts.get(id)!, { recoveryPoint: 'reserve-stock', updatedAt: now() })
      const missedProducts = recordCalls(tables, partsOf(granted, { held: 1, expectedStock: 0 }))
      return { orderIds: [...orderIds], missedProducts }
    },
    complete({ orderId, attempt, hold }: Completion): Created | typeof LOCKED | undefined {
      const row = checkouts.get(orderId)
      if (!row || tables.isLocked('checkouts', orderId)) return LOCKED
      const hasCall = ({ productId }: ProductQty) =>
        (products.get(productId)?.call?.id === hold!.callId || !tables.on.fencing) && !tables.isLocked('products', productId)
      if (hold && !hold.products.every(hasCall)) return undefined
      if (!own({ orderId, attempt }) || row.deadlineAt <= now() || !(row.recoveryPoint === 'reserve-stock' || hold)) return undefined
      for (const { productId, qty } of hold?.products ?? []) {
        const product = products.get(productId)!
        product.held += qty
        product.call = null
      }
      Object.assign(row, { state: 'CREATED', recoveryPoint: 'reserve-stock', updatedAt: now() })
      orders.set(orderId, { status: 'CREATED', items: row.lines })
      return { state: 'CREATED', orderId, ...money }
    },
    end({ orderId, attempt, state, status, detail }: EndRequest): Ended | typeof LOCKED | undefined {
      const row = checkouts.get(orderId)
      if (!row || tables.isLocked('checkouts', orderId)) return LOCKED
      if (row.state !== 'OPEN' || (attempt !== undefined && row.attempt !== attempt)) return undefined
      Object.assign(row, { state, rejection: { status, detail }, updatedAt: now() })
      const hasHold = row.recoveryPoint === 'reserve-stock'
      const changed = row.lines.filter(({ productId }) => hasHold || products.get(productId)?.call?.id === row.callId)
      for (const { productId, qty } of changed) tables.changes.push({ productId, callId: null, held: hasHold ? -qty : 0, expectedStock: 0 })
      return { outcome: readOutcome(orderId)!, won: true, toReconcile: changed.map(({ productId }) => productId) }
    },
    recordFailure({ orderId, attempt }: Attempt, { shipmentCall }: Failure): void {
      const row = checkouts.get(orderId)
      if (row?.attempt !== attempt || (row.state !== 'OPEN' && row.state !== 'CANCELLED')) return
      if (!tables.isLocked('checkouts', orderId)) Object.assign(row, { shipmentCall, updatedAt: now() })
    },

    keepAlive(attempts: readonly Attempt[]): void {
      for (const attempt of attempts) {
        const row = own(attempt)
        if (row && !tables.isLocked('checkouts', attempt.orderId)) row.updatedAt = now()
      }
    },
    strandedCheckouts: (untouchedMs: number, limit: number): StrandedCheckout[] =>
      [...checkouts]
        .filter(([, row]) => row.state === 'OPEN' && row.deadlineAt > now() && row.updatedAt < now() - untouchedMs)
        .slice(0, limit)
        .map(([orderId, row]) => ({
          orderId,
          products: row.lines.map((line) => ({ ...line })),
          deadline: Math.floor(row.deadlineAt),
        })),
    overdueCheckouts: (lateMs: number, limit: number): number[] =>
      [...checkouts]
        .filter(([id, row]) => row.state === 'OPEN' && row.deadlineAt < now() - lateMs && !tables.isLocked('checkouts', id))
        .slice(0, limit)
        .map(([orderId]) => orderId),

    receive(orderId: number): PaymentAttempt {
      lastEvent += 1
      events.set(lastEvent, { orderId, state: 'WAITING', result: null, attempt: 1, callId: null, touchedAt: now() })
      return { eventId: lastEvent, attempt: 1 }
    },
    read(attempt: PaymentAttempt): Payable | undefined {
      const row = ownEvent(attempt)
      if (!row) return undefined
      const { orderId } = row
      const order = orders.get(orderId)
      return {
        orderId,
        amountCents: TOTAL_CENTS,
        currency: money.currency,
        waitedMs: 0,
        sentAt: new Date(row.touchedAt),
        order: order && { status: order.status, ...money, products: order.items.map((item) => ({ ...item })) },
        checkout: checkouts.get(orderId)?.state,
        paidByAnother: false,
      }
    },
    resumePayment(eventId: number): number | typeof LOCKED | undefined {
      const row = events.get(eventId)
      if (row?.state !== 'WAITING') return undefined
      if (tables.isLocked('events', eventId)) return LOCKED
      Object.assign(row, { attempt: row.attempt + 1, touchedAt: now() })
      return row.attempt
    },
    recordPaid(calls: readonly Committed[], isPatient: boolean): CommitRecorded | typeof LOCKED {
      const ids = calls.flatMap(({ members }) => members.map(({ eventId }) => eventId))
      const free = [...new Set(ids)].filter((id) => events.has(id) && !tables.isLocked('events', id))
      const freeOrders = new Set(
        [...new Set(free.map((id) => events.get(id)!.orderId))].filter((id) => orders.has(id) && !tables.isLocked('orders', id)),
      )
      const ready = free.filter((id) => freeOrders.has(events.get(id)!.orderId)).sort((a, b) => a - b)
      if (isPatient && ready.length !== ids.length) return LOCKED
      const counted = new Map<number, { eventId: number; callId: number }>()
      for (const eventId of ready) {
        const row = events.get(eventId)!
        const isInside = calls.some(({ callId, members }) => callId === row.callId && members.some((member) => member.eventId === eventId))
        if (!isInside || row.state !== 'WAITING' || orders.get(row.orderId)!.status !== 'CREATED' || counted.has(row.orderId)) continue
        counted.set(row.orderId, { eventId, callId: row.callId! })
      }
      const granted = calls.map(({ callId, productIds, members }) => ({
        callId,
        productIds,
        granted: members
          .filter(({ eventId }) => [...counted.values()].some((one) => one.eventId === eventId && one.callId === callId))
          .map((member) => member.products),
      }))
      for (const [orderId, { eventId }] of counted) {
        orders.get(orderId)!.status = 'PAID'
        Object.assign(events.get(eventId)!, { state: 'APPLIED', result: 'paid', touchedAt: now() })
      }
      const missedProducts = recordCalls(tables, partsOf(granted, { held: -1, expectedStock: -1 }))
      return { eventIds: [...counted.values()].map(({ eventId }) => eventId), missedProducts }
    },
    recordPaymentFailure(attempt: PaymentAttempt): void {
      const row = ownEvent(attempt)
      if (row && !tables.isLocked('events', attempt.eventId)) row.touchedAt = now()
    },
    recordApplied(attempt: PaymentAttempt, result: PaymentResult): void {
      const row = ownEvent(attempt)
      if (row) Object.assign(row, { state: 'APPLIED', result, touchedAt: now() })
    },
    deadLetter(attempt: PaymentAttempt): boolean {
      const row = ownEvent(attempt)
      if (row) Object.assign(row, { state: 'DEAD', touchedAt: now() })
      return row !== undefined
    },
    strandedPayments(untouchedMs: number, limit: number): WaitingEvent[] {
      const found = [...events].filter(
        ([id, row]) => row.state === 'WAITING' && row.touchedAt < now() - untouchedMs && !tables.isLocked('events', id),
      )
      return found.slice(0, limit).map(([eventId, row]) => {
        row.touchedAt = now() - 20_000
        return { eventId, orderId: row.orderId, attempt: null }
      })
    },
  }
}
