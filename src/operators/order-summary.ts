/** Where an order stands and what comes next, in one sentence, and the actions that can help now. Pure rules, no calls. */
import { type Cause, causeOfLetter, causes, sentenceOf, type ServiceName, type Verb } from '../causes.ts'
import type { OrderRecords } from '../db/order-records.ts'
import type { DeadLetterFault } from '../model.ts'

/** `unknown`: Redis did not say in time. undefined: no job of its own exists. */
export type NextTry = Date | 'now' | 'unknown' | undefined
export interface Planned {
  checkout: NextTry
  payments: ReadonlyMap<number, NextTry>
}

/** What is known of an order. */
export interface OrderFacts {
  orderId: number
  records: OrderRecords
  planned: Planned
  eventTopic: string
  now: Date
}

const at = (time: Date) => `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`

const startsWithName = /^(Catalog|Shipping|Kafka|PostgreSQL|Redis)\b/

/** A cause within a sentence: `a payment came before its order`. */
function clause(cause: Cause, service: ServiceName | null): string {
  const sentence = sentenceOf(cause, service)
  return startsWithName.test(sentence) ? sentence : sentence.charAt(0).toLowerCase() + sentence.slice(1)
}

/** The cause of a dead letter; letters of another program may have other faults. */
export const causeOf = (fault: string): Cause => causeOfLetter[fault as DeadLetterFault] ?? 'message-unreadable'

function nextTry(next: NextTry, unit: string): string {
  if (next === 'now') return `${unit} runs now, or as soon as a worker takes it`
  if (next === 'unknown') return `${unit} comes at an unknown time, because Redis does not answer`
  return next ? `${unit} comes at ${at(next)}` : `${unit} comes within seconds`
}

/** Each sentence says where the order stands, and then what comes next. */
export function summaryOf(facts: OrderFacts): string {
  const { order, checkout } = facts.records
  if (!order) return checkout!.state === 'OPEN' ? summaryOfOpen(facts) : summaryOfEnded(facts)
  const pruned = checkout?.pruned_at
    ? `; details of its checkout were removed at ${at(checkout.pruned_at)}, after the retention period`
    : ''
  const predecessor = checkout ? '' : ', an order of the predecessor'
  if (order.status === 'PAID') return `Paid at ${at(order.updated_at)}${predecessor}: ${afterPaid(facts)}${pruned}.`
  if (order.status !== 'CREATED') return `${order.status}, not set by this service${predecessor}: nothing more happens by itself${pruned}.`
  return `Created${predecessor}, and not paid: ${unpaid(facts)}${pruned}.`
}

function summaryOfOpen({ records, planned, now }: OrderFacts): string {
  const checkout = records.checkout!
  const isOver = checkout.deadline_at <= now
  const end = isOver
    ? 'its deadline has passed, and it is cancelled within seconds'
    : `it is cancelled at ${at(checkout.deadline_at)} unless it succeeds`
  const step =
    checkout.recovery_point === 'intent' ? 'its stock is being reserved' : 'its stock is reserved, and its shipment is being created'
  if (checkout.cause) {
    const why = clause(checkout.cause, checkout.service)
    return `Open and retried, because ${why} (attempt ${checkout.attempt}): ${isOver ? '' : `${nextTry(planned.checkout, 'the next attempt')}, and `}${end}.`
  }
  const busy = records.products.find((one) => one.call_verb !== null && !one.is_ours)
  if (checkout.recovery_point === 'intent' && busy)
    return `Open, and waits for product ${busy.product_id}: another call to Catalog (${busy.call_verb} ${busy.call_qty}) is under way. It goes on when that call ends, and ${end}.`
  return `Open: ${step}; ${end}.`
}

function summaryOfEnded({ records }: OrderFacts): string {
  const { state, outcome, pruned_at: prunedAt } = records.checkout!
  const ended = state === 'REJECTED' ? 'Rejected' : 'Cancelled'
  const settling = records.products.filter((one) => one.is_settling).map((one) => one.product_id)
  const hold =
    state === 'REJECTED'
      ? 'nothing was held, and no order was made'
      : settling.length > 0
        ? `no order was made, and the reconciler is still giving back what it held of product ${settling.join(', ')}`
        : 'no order was made, and nothing is held for it'
  const pruned = prunedAt ? `; its details were removed at ${at(prunedAt)}, after the retention period` : ''
  return `${ended} (${outcome!.status}: ${outcome!.detail}): ${hold}${pruned}${moneyOf(records)}.`
}

/** A payment for a checkout without an order is what operators must see first. */
function moneyOf({ payments, letters }: OrderRecords): string {
  const waiting = letters.find(({ state }) => state === 'WAITING')
  if (waiting)
    return `, but a payment for it is dead letter ${waiting.id} (${clause(causeOf(waiting.fault), null)}), and a person must decide`
  return payments.some(({ state, type }) => state === 'WAITING' && type === 'payment.succeeded') ? ', but a payment for it waits' : ''
}

function unpaid({ records, planned }: OrderFacts): string {
  const { payments, letters, isDrained } = records
  const waiting = payments.findLast(({ state }) => state === 'WAITING')
  if (waiting?.cause)
    return `its payment waits, because ${clause(waiting.cause, waiting.service)}; ${nextTry(planned.payments.get(waiting.id), 'the next try')}`
  if (waiting) return `its payment was received, and ${nextTry(planned.payments.get(waiting.id), 'its first try')}`
  const letter = letters.find(({ state }) => state === 'WAITING')
  if (letter) return `its payment is dead letter ${letter.id} (${letter.reason}), and a person must decide`
  const discarded = letters.find(({ state }) => state === 'DISCARDED')
  if (discarded) return `its payment was discarded (${discarded.note}), and no other has been received`
  if (isDrained) return 'the service is drained, so a payment waits on its topic until the drain is ended'
  const failed = payments.some(({ type }) => type === 'payment.failed')
  return `it waits for ${failed ? 'another payment, after one that failed' : 'its payment'}`
}

function afterPaid({ records: { letters, payments } }: OrderFacts): string {
  const waiting = letters.find(({ state }) => state === 'WAITING')
  if (waiting) return `but dead letter ${waiting.id} concerns it (${waiting.reason}), and a person must decide`
  if (payments.some(({ state }) => state === 'WAITING')) return 'another payment for it is being processed'
  return 'nothing more is to be done'
}

/** What can help now. Each verb once for each of its items. */
export function actionsOf({ orderId, records }: OrderFacts): { verb: Verb; item: number }[] {
  const { checkout, payments, letters, events, products } = records
  const actions: { verb: Verb; item: number }[] = []
  if (checkout?.state === 'OPEN') {
    if (checkout.cause) actions.push({ verb: 'retry-checkouts', item: orderId })
    actions.push({ verb: 'cancel-checkouts', item: orderId })
  }
  for (const { id, state, cause } of payments) if (state === 'WAITING' && cause) actions.push({ verb: 'retry-payments', item: id })
  for (const { id, state, fault } of letters)
    if (state === 'WAITING') for (const verb of causes[causeOf(fault)].actions) actions.push({ verb, item: id })
  for (const { id, undeliverable_at: undeliverable } of events) if (undeliverable) actions.push({ verb: 'republish-events', item: id })
  if (checkout?.state === 'CANCELLED')
    for (const { product_id: id, is_settling: isSettling } of products)
      if (isSettling) actions.push({ verb: 'reconcile-products', item: id })
  return actions
}
