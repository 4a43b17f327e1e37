/** What happened to an order, and what is planned, in the order of time. Pure rules, no calls. */
import { type Verb, verbs } from '../causes.ts'
import type { Failure, OrderRecords } from '../db/order-records.ts'
import { causeOf, type NextTry, type OrderFacts } from './order-summary.ts'
import type { TimelineEntry } from './orders.ts'

/** The oldest first; what is planned comes last. */
export function timelineOf(facts: OrderFacts): TimelineEntry[] {
  const { records } = facts
  const entries = [
    ...checkoutEntries(facts),
    ...orderEntries(records),
    ...eventEntries(facts),
    ...paymentEntries(facts),
    ...letterEntries(records),
    ...operatorEntries(records),
  ]
  return entries.sort((a, b) => Number(a.isPlanned ?? false) - Number(b.isPlanned ?? false) || a.at.getTime() - b.at.getTime())
}

/** `12.99 USD` */
export const money = (cents: number, currency: string): string => `${(cents / 100).toFixed(2)} ${currency}`

function checkoutEntries({ orderId, records, planned }: OrderFacts): TimelineEntry[] {
  const { checkout, order } = records
  if (!checkout) return []
  const { state, lines, outcome } = checkout
  const isOpen = state === 'OPEN'
  const units = lines.reduce((sum, line) => sum + line.qty, 0)
  const what = checkout.pruned_at
    ? ''
    : `, ${units} ${units === 1 ? 'unit' : 'units'} in ${lines.length} ${lines.length === 1 ? 'line' : 'lines'}`
  return [
    { at: checkout.created_at, title: 'Checkout requested', detail: `${money(checkout.total_cents, checkout.currency)}${what}` },
    ...checkout.history.map((one) => failed(one, `Attempt ${one.attempt ?? ''} failed at ${one.step ?? 'an unknown step'}`)),
    ...(checkout.recovery_point === 'reserve-stock'
      ? [{ at: order?.created_at ?? checkout.updated_at, title: 'Stock reserved at Catalog', detail: 'at this time or earlier' }]
      : []),
    ...(outcome
      ? [
          {
            at: checkout.updated_at,
            title: `${state === 'REJECTED' ? 'Rejected' : 'Cancelled'} with ${outcome.status}`,
            detail: outcome.detail,
            cause: checkout.cause,
            service: checkout.service,
          },
        ]
      : []),
    ...(checkout.pruned_at ? [{ at: checkout.pruned_at, title: 'Details removed', detail: 'after the retention period' }] : []),
    ...(isOpen ? plannedTry(planned.checkout, 'Next attempt', `/queues/queue/checkout/checkout-${orderId}`) : []),
    ...(isOpen
      ? [{ at: checkout.deadline_at, isPlanned: true, title: 'Deadline', detail: 'it is cancelled then, unless it has succeeded' }]
      : []),
  ]
}

const failed = ({ at, ms, error, cause, service, stack }: Failure, title: string): TimelineEntry => ({
  at,
  title,
  detail: error,
  ms: ms ?? null,
  cause,
  service,
  stack: stack ?? null,
})

const plannedTry = (next: NextTry, title: string, link: string): TimelineEntry[] =>
  next instanceof Date ? [{ at: next, isPlanned: true, title, link }] : []

function orderEntries({ order, checkout, payments }: OrderRecords): TimelineEntry[] {
  if (!order) return []
  const created: TimelineEntry = {
    at: order.created_at,
    title: 'Order created',
    detail: checkout ? null : `by the predecessor, ${money(order.total_cents, order.currency)}`,
  }
  if (order.status === 'CREATED') return [created]
  const isOurs = order.status === 'PAID' && payments.some(({ result }) => result === 'paid')
  return [created, { at: order.updated_at, title: `Order ${order.status}`, detail: isOurs ? null : 'not changed by this service' }]
}

function eventEntries({ records, eventTopic }: OrderFacts): TimelineEntry[] {
  return records.events.flatMap((event): TimelineEntry[] => {
    const { type, partition, kafka_offset: offset } = event
    const place = partition === null ? '' : `, partition ${partition}, offset ${offset}`
    return [
      {
        at: event.created_at,
        title: `Event ${type} written to the outbox`,
        detail: event.sent_at || event.undeliverable_at ? null : 'not sent yet',
      },
      ...(event.sent_at ? [{ at: event.sent_at, title: `Event ${type} sent to Kafka`, detail: `topic ${eventTopic}${place}` }] : []),
      ...(event.undeliverable_at
        ? [
            {
              at: event.undeliverable_at,
              title: `Event ${type} refused by Kafka`,
              detail: event.undeliverable_reason,
              cause: 'event-undeliverable' as const,
            },
          ]
        : []),
    ]
  })
}

const results = {
  paid: 'the order is PAID',
  'already-paid': 'it repeats a payment that was already applied',
  recorded: 'recorded only: the order is unchanged',
}

function paymentEntries({ records, planned }: OrderFacts): TimelineEntry[] {
  return records.payments.flatMap((payment): TimelineEntry[] => {
    const { id, type, amount_cents: cents, currency } = payment
    const amount = cents === null ? 'no amount' : money(cents, currency ?? '')
    const origin = `${amount}, ${payment.provider ?? 'no provider'} ${payment.payment_id ?? 'without a payment id'}`
    const place = `topic ${payment.topic}, partition ${payment.partition}, offset ${payment.kafka_offset}`
    return [
      { at: payment.sent_at, title: `Message ${type} sent by Payment`, detail: origin },
      { at: payment.received_at, title: `Message ${type} received`, detail: place },
      ...payment.history.map((one) => failed(one, `Try ${one.attempt ?? ''} of the payment failed`)),
      ...(payment.result ? [{ at: payment.touched_at, title: 'Payment applied', detail: results[payment.result] }] : []),
      ...(payment.state === 'WAITING'
        ? plannedTry(planned.payments.get(id), 'Next try of the payment', `/queues/queue/payment/payment-${id}`)
        : []),
    ]
  })
}

function letterEntries({ letters }: OrderRecords): TimelineEntry[] {
  return letters.flatMap((letter): TimelineEntry[] => {
    const link = `/dead-letters/${letter.id}`
    const became = { title: `Payment became dead letter ${letter.id}`, detail: letter.reason, cause: causeOf(letter.fault), link }
    const times = letter.times > 1 ? [{ ...became, at: letter.first_at, detail: 'for the first time' }] : []
    if (letter.state === 'WAITING') return [...times, { ...became, at: letter.last_at }]
    const ended = letter.state === 'REPLAYED' ? 'replayed' : 'discarded'
    return [
      { ...became, at: letter.first_at },
      { at: letter.last_at, title: `Dead letter ${letter.id} ${ended}`, detail: letter.note, link },
    ]
  })
}

function operatorEntries({ operatorActions }: OrderRecords): TimelineEntry[] {
  return operatorActions.map((act) => ({
    at: act.at,
    title: `${titleOf(act.verb)}: ${act.result ?? 'not done yet'}`,
    detail: [act.reason, act.detail].filter(Boolean).join(' - '),
    operator: act.operator,
    link: `/actions/${act.action_id}`,
  }))
}

const titleOf = (verb: string): string => (Object.hasOwn(verbs, verb) ? verbs[verb as Verb].title : verb)
