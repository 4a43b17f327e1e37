/**
 * The rows of checkouts, orders and payment events in memory, with the verbs of src/db/checkouts.ts, payments.ts, payment-events.ts and
 * rescue.ts as far as stock is concerned: ledger.test.ts holds them to those.
 */
import type { Attempt, Ended, ShipmentCall } from '../../../src/db/checkout-statements.ts'
import type { Checkouts } from '../../../src/db/checkouts.ts'
import type { ProductAtIntent } from '../../../src/db/intents.ts'
import type { PaymentAttempt } from '../../../src/db/payment-events.ts'
import type { Payable, Payments } from '../../../src/db/payments.ts'
import type { StrandedCheckout } from '../../../src/db/rescue.ts'
import type { DoubtfulCall } from '../../../src/db/stock-ledger.ts'
import type { Outcome, PaymentResult, ProductQty, RecoveryPoint, Rejection } from '../../../src/model.ts'
import { type AtOnce, callsOf, type PlayedLedger, playLedger } from './ledger.ts'

export interface CheckoutRow {
  state: Outcome['state'] | 'OPEN'
  recoveryPoint: RecoveryPoint
  lines: readonly ProductQty[]
  deadlineAt: number
  attempt: number
  reserveCall: 'settled' | 'unknown'
  shipmentCall: ShipmentCall
  rejection: Rejection | undefined
  updatedAt: number
}

export interface EventRow {
  orderId: number
  state: 'WAITING' | 'APPLIED' | 'DEAD'
  result: PaymentResult | null
  attempt: number
  commitCall: 'settled' | 'unknown'
  touchedAt: number
}

/** Every order costs as much. */
export const TOTAL_CENTS = 100
const money = { totalCents: TOTAL_CENTS, currency: 'USD' }

type CheckoutVerbs = AtOnce<
  Pick<Checkouts, 'readOutcome' | 'isOpen' | 'resume' | 'recordReserved' | 'complete' | 'end' | 'cancel' | 'leave'>
>

export interface Rows extends CheckoutVerbs, AtOnce<Payments> {
  ledger: PlayedLedger
  checkouts: Map<number, CheckoutRow>
  orders: Map<number, { status: 'CREATED' | 'PAID'; items: readonly ProductQty[] }>
  events: Map<number, EventRow>
  heldOf(productId: number): number
  /** Checkouts and payments of which an end, or what became of a call, is not on record yet. */
  unfinished(): number
  /** @param lines one a product, in the order of product ids */
  intend(lines: readonly ProductQty[], budgetMs: number): { orderId: number; deadline: number; products: ProductAtIntent[] }
  keepAlive(attempts: readonly Attempt[]): void
  strandedCheckouts(untouchedMs: number): StrandedCheckout[]
  overdueCheckouts(lateMs: number): number[]
  doubtAbandoned(untouchedMs: number): number[]
  mayHaveCalls(withinMs: number): boolean
  receive(orderId: number): PaymentAttempt
  resumePayment(eventId: number): number | undefined
  leavePayment(attempt: PaymentAttempt, commitCall: 'settled' | 'unknown'): void
  applied(attempt: PaymentAttempt, result: PaymentResult): void
  bury(attempt: PaymentAttempt): boolean
  strandedPayments(untouchedMs: number): { eventId: number; orderId: number }[]
}

/**
 * @param now epoch ms
 * @param epochs switched off: a record counts under any epoch
 */
export function playRows(now: () => number, { epochs = true } = {}): Rows {
  const checkouts: Rows['checkouts'] = new Map()
  const orders: Rows['orders'] = new Map()
  const events: Rows['events'] = new Map()
  const qtyIn = (items: readonly ProductQty[], productId: number) =>
    items.reduce((sum, item) => sum + (item.productId === productId ? item.qty : 0), 0)

  function heldOf(productId: number): number {
    let held = 0
    for (const { status, items } of orders.values()) if (status === 'CREATED') held += qtyIn(items, productId)
    for (const { state, recoveryPoint, lines } of checkouts.values()) {
      if (state === 'OPEN' && recoveryPoint === 'reserve-stock') held += qtyIn(lines, productId)
    }
    return held
  }

  function unsettledCalls(productId: number): DoubtfulCall[] {
    const reserves = [...checkouts].flatMap(([orderId, { state, recoveryPoint, reserveCall, lines, attempt }]) =>
      (state === 'OPEN' || state === 'CANCELLED') && recoveryPoint === 'intent' && reserveCall === 'unknown'
        ? callsOf(lines, 'reserve', orderId, attempt)
        : [],
    )
    const commits = [...events.values()].flatMap(({ orderId, state, commitCall, attempt }) =>
      state === 'WAITING' && commitCall === 'unknown' ? callsOf(orders.get(orderId)?.items ?? [], 'commit', orderId, attempt) : [],
    )
    return [...reserves, ...commits].filter((call) => call.productId === productId)
  }

  const ledger = playLedger(now, heldOf, unsettledCalls)
  const { products } = ledger.tables
  let lastOrder = 0
  let lastEvent = 0
  let lastPaymentAttempt = 0
  const nextPaymentAttempt = () => (lastPaymentAttempt += 1)

  const isCurrent = (asked: readonly { productId: number; epoch: number }[]) =>
    asked.every(({ productId, epoch }) => products.has(productId) && (!epochs || products.get(productId)!.epoch === epoch))

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

  function end(orderId: number, row: CheckoutRow, state: 'REJECTED' | 'CANCELLED', rejection: Rejection): Ended {
    Object.assign(row, { state, rejection, updatedAt: now() })
    const freed = row.recoveryPoint === 'reserve-stock' ? row.lines : []
    for (const { productId, qty } of freed) products.get(productId)!.extraHold += qty
    return { outcome: readOutcome(orderId)!, won: true, freed: freed.map(({ productId }) => productId) }
  }

  return {
    ledger,
    checkouts,
    orders,
    events,
    heldOf,
    unfinished() {
      const isUnfinished = ({ state, reserveCall }: CheckoutRow) => state === 'OPEN' || (state === 'CANCELLED' && reserveCall === 'unknown')
      return [...checkouts.values()].filter(isUnfinished).length + [...events.values()].filter(({ state }) => state === 'WAITING').length
    },
    readOutcome,
    intend(lines, budgetMs) {
      lastOrder += 1
      const deadlineAt = now() + budgetMs
      checkouts.set(lastOrder, {
        state: 'OPEN',
        recoveryPoint: 'intent',
        lines,
        deadlineAt,
        attempt: 1,
        reserveCall: 'unknown',
        shipmentCall: 'unknown',
        rejection: undefined,
        updatedAt: now(),
      })
      const known = lines.map((line) => ({ ...line, epoch: ledger.epochOf(line.productId) }))
      return { orderId: lastOrder, deadline: deadlineAt, products: known }
    },
    isOpen: (attempt) => own(attempt) !== undefined,
    resume(orderId) {
      const row = checkouts.get(orderId)
      if (row?.state !== 'OPEN') return undefined
      if (row.recoveryPoint === 'intent' && row.reserveCall === 'unknown') ledger.doubt(callsOf(row.lines, 'reserve', orderId, row.attempt))
      const { shipmentCall } = row
      Object.assign(row, { attempt: row.attempt + 1, reserveCall: 'unknown', shipmentCall: 'unknown', updatedAt: now() })
      return { orderId, attempt: row.attempt, recoveryPoint: row.recoveryPoint, shipmentCall, products: [...row.lines] }
    },
    recordReserved(attempt, asked) {
      const row = own(attempt)
      if (!row || asked.length === 0 || !isCurrent(asked)) return false
      Object.assign(row, { recoveryPoint: 'reserve-stock', reserveCall: 'settled', updatedAt: now() })
      return true
    },
    complete(attempt, hold) {
      const row = own(attempt)
      if (!row || row.deadlineAt <= now() || !(row.recoveryPoint === 'reserve-stock' || hold) || !isCurrent(hold ?? [])) return undefined
      Object.assign(row, { state: 'CREATED', recoveryPoint: 'reserve-stock', reserveCall: 'settled', updatedAt: now() })
      orders.set(attempt.orderId, { status: 'CREATED', items: row.lines })
      return { state: 'CREATED', orderId: attempt.orderId, ...money }
    },
    end(attempt, state, rejection) {
      const row = own(attempt)
      if (!row) return undefined
      row.reserveCall = 'settled'
      return end(attempt.orderId, row, state, rejection)
    },
    cancel(orderId, rejection) {
      const row = checkouts.get(orderId)!
      if (row.state === 'OPEN') return end(orderId, row, 'CANCELLED', rejection)
      return { outcome: readOutcome(orderId)!, won: false, freed: [] }
    },
    leave({ orderId, attempt }, { reserveCall, shipmentCall }) {
      const row = checkouts.get(orderId)
      if (row?.attempt !== attempt || (row.state !== 'OPEN' && row.state !== 'CANCELLED')) return
      if (row.recoveryPoint === 'intent') row.reserveCall = reserveCall
      Object.assign(row, { shipmentCall, updatedAt: now() })
    },

    keepAlive(attempts) {
      for (const attempt of attempts) {
        const row = own(attempt)
        if (row) row.updatedAt = now()
      }
    },
    strandedCheckouts: (untouchedMs) =>
      [...checkouts]
        .filter(([, row]) => row.state === 'OPEN' && row.deadlineAt > now() && row.updatedAt < now() - untouchedMs)
        .map(([orderId, row]) => ({ orderId, products: [...row.lines], deadline: row.deadlineAt })),
    overdueCheckouts: (lateMs) =>
      [...checkouts].filter(([, row]) => row.state === 'OPEN' && row.deadlineAt < now() - lateMs).map(([orderId]) => orderId),
    doubtAbandoned(untouchedMs) {
      const concerned = new Set<number>()
      for (const [orderId, row] of checkouts) {
        if (row.state !== 'CANCELLED' || row.reserveCall !== 'unknown' || row.updatedAt >= now() - untouchedMs) continue
        Object.assign(row, { reserveCall: 'settled', updatedAt: now() })
        if (row.recoveryPoint !== 'intent') continue
        const before = ledger.tables.doubts.length
        ledger.doubt(callsOf(row.lines, 'reserve', orderId, row.attempt))
        for (const { productId } of ledger.tables.doubts.slice(before)) concerned.add(productId)
      }
      return [...concerned]
    },
    mayHaveCalls: (withinMs) =>
      [...checkouts.values()].some((row) => row.state === 'OPEN' || (row.state === 'CANCELLED' && row.reserveCall === 'unknown')) ||
      [...events.values()].some((row) => row.state === 'WAITING') ||
      ledger.tables.doubts.some(({ since }) => since.getTime() > now() - withinMs),

    receive(orderId) {
      lastEvent += 1
      const attempt = nextPaymentAttempt()
      events.set(lastEvent, { orderId, state: 'WAITING', result: null, attempt, commitCall: 'unknown', touchedAt: now() })
      return { eventId: lastEvent, attempt }
    },
    read(attempt): Payable | undefined {
      const row = ownEvent(attempt)
      if (!row) return undefined
      const { orderId } = row
      const order = orders.get(orderId)
      const epochsOf = (items: readonly ProductQty[]) => items.map((item) => ({ ...item, epoch: ledger.epochOf(item.productId) }))
      return {
        orderId,
        amountCents: TOTAL_CENTS,
        currency: money.currency,
        waitedMs: 0,
        sentAt: new Date(row.touchedAt),
        order: order && { status: order.status, ...money, products: epochsOf(order.items) },
        checkout: checkouts.get(orderId)?.state,
        paidByAnother: false,
      }
    },
    isPayable(attempt) {
      const row = ownEvent(attempt)
      return row !== undefined && orders.get(row.orderId)?.status === 'CREATED'
    },
    markPaid(attempt, asked) {
      const row = ownEvent(attempt)
      const order = row && orders.get(row.orderId)
      if (order?.status !== 'CREATED' || asked.length === 0 || !isCurrent(asked)) return false
      order.status = 'PAID'
      for (const { productId, qty } of asked) products.get(productId)!.predictedStock -= qty
      Object.assign(row!, { state: 'APPLIED', result: 'paid', commitCall: 'settled', touchedAt: now() })
      return true
    },
    resumePayment(eventId) {
      const row = events.get(eventId)
      if (row?.state !== 'WAITING') return undefined
      const items = orders.get(row.orderId)?.items ?? []
      if (row.commitCall === 'unknown') ledger.doubt(callsOf(items, 'commit', row.orderId, row.attempt))
      Object.assign(row, { attempt: nextPaymentAttempt(), commitCall: 'unknown', touchedAt: now() })
      return row.attempt
    },
    leavePayment(attempt, commitCall) {
      const row = ownEvent(attempt)
      if (row) Object.assign(row, { commitCall, touchedAt: now() })
    },
    applied(attempt, result) {
      const row = ownEvent(attempt)
      if (row) Object.assign(row, { state: 'APPLIED', result, commitCall: 'settled', touchedAt: now() })
    },
    bury(attempt) {
      const row = ownEvent(attempt)
      if (row) Object.assign(row, { state: 'DEAD', commitCall: 'settled', touchedAt: now() })
      return row !== undefined
    },
    strandedPayments: (untouchedMs) =>
      [...events]
        .filter(([, row]) => row.state === 'WAITING' && row.touchedAt < now() - untouchedMs)
        .map(([eventId, { orderId }]) => ({ eventId, orderId })),
  }
}
