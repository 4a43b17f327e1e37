/**
 * Why an order, a payment or a component does not go on: a closed list. The pages, the command line, the metric's label, the alerts and
 * the runbook use these codes. Every layer may import this file.
 */
import type { DeadLetterFault } from './model.ts'
import { withoutEmails } from './telemetry/error-fields.ts'

/** What operators can do. `src/operators/verbs.ts` says how; each is recorded in `order_service.operator_actions`. */
export const verbs = {
  'retry-payments': { item: 'payment', title: 'Retry now', does: 'tries each payment now instead of at its next retry' },
  'retry-checkouts': { item: 'checkout', title: 'Retry now', does: 'tries each open checkout now instead of at its next retry' },
  'cancel-checkouts': {
    item: 'checkout',
    title: 'Cancel',
    does: 'cancels each open checkout; its hold is given back, and no order is made',
  },
  'reconcile-products': { item: 'product', title: 'Reconcile now', does: 'compares each product with Catalog now, and corrects Catalog' },
  'accept-inventory': {
    item: 'product',
    title: 'Accept Catalog’s inventory',
    does: 'takes what Catalog has as right, and stops listing the ambiguous units of each product',
  },
  'republish-events': { item: 'event', title: 'Republish', does: 'has the relay send each event to Kafka again' },
  'replay-letters': {
    item: 'letter',
    title: 'Replay',
    does: 'processes each message again: as it was sent or, if it was edited, as it was applied last',
  },
  'edit-letter': { item: 'letter', title: 'Edit and replay', does: 'processes the edited message; the original stays on record' },
  'discard-letters': { item: 'letter', title: 'Discard', does: 'marks each message as not to be applied; its bytes stay on record' },
  'resume-queue': { item: 'queue', title: 'Resume the queue', does: 'lets workers take jobs of the queue again' },
  'accept-work': { item: 'service', title: 'Accept new orders', does: 'ends the drain: new orders and payments are accepted again' },
  // These belong to no cause: they are recorded as well.
  'pause-queue': { item: 'queue', title: 'Pause the queue', does: 'keeps workers from taking jobs of the queue until it is resumed' },
  'retry-jobs': { item: 'queue', title: 'Retry jobs', does: 'puts failed jobs back into the queue' },
  'promote-jobs': { item: 'queue', title: 'Promote jobs', does: 'runs delayed jobs of the queue now' },
  drain: { item: 'service', title: 'Drain', does: 'refuses new orders, and leaves new payments on their topic' },
  'repair-counters': { item: 'service', title: 'Repair counters', does: 'sets the counter of each product to what its orders hold' },
  'pause-action': { item: 'action', title: 'Pause', does: 'keeps the action from its remaining items until it is resumed' },
  'resume-action': { item: 'action', title: 'Resume', does: 'continues with the remaining items of the action' },
  'abort-action': { item: 'action', title: 'Abort', does: 'ends the action; its remaining items stay as they are' },
} as const satisfies Record<string, { item: string; title: string; does: string }>
export type Verb = keyof typeof verbs
/** What a verb acts on. A payment is a row of the inbox, an event one of the outbox, a letter a dead letter. */
export type ItemKind = (typeof verbs)[Verb]['item']

/** How bad a problem is; the worst first: customers are refused, a person must decide, or work is late and catches up by itself. */
export const severities = ['refused', 'person', 'late'] as const
export type Severity = (typeof severities)[number]

/**
 * `sentence` names what is wrong; `{service}` stands for the downstream service. `next` says what happens without an operator. Each cause
 * has a section of its code in docs/runbook.md.
 */
interface CauseEntry {
  severity: Severity
  sentence: string
  next: string
  actions: readonly Verb[]
}

export const causes = {
  'downstream-unreachable': {
    severity: 'refused',
    sentence: '{service} refuses connections',
    next: 'Checkouts are refused with a 503. Payments are retried within 10 s after {service} works again.',
    actions: ['retry-payments', 'retry-checkouts', 'cancel-checkouts'],
  },
  'downstream-timeout': {
    severity: 'refused',
    sentence: '{service} does not answer in time',
    next: 'Checkouts are refused with a 503. Payments are retried within 10 s after {service} works again.',
    actions: ['retry-payments', 'retry-checkouts', 'cancel-checkouts'],
  },
  'downstream-error': {
    severity: 'refused',
    sentence: '{service} answers with errors',
    next: 'Checkouts are retried until their deadline, payments every 10 s until {service} works again.',
    actions: ['retry-payments', 'retry-checkouts', 'cancel-checkouts'],
  },
  'downstream-refuses-us': {
    severity: 'refused',
    sentence: '{service} refuses this service: its key or its call rate',
    next: 'Checkouts are refused with a 503. Payments are retried at least every 10 s; correct the key or the rate limit.',
    actions: ['retry-payments', 'retry-checkouts', 'cancel-checkouts'],
  },
  'product-contended': {
    severity: 'late',
    sentence: 'Many customers wait for the same product',
    next: 'They go on, 64 in each call, when the product is free. Those who wait past their deadline get a 503.',
    actions: [],
  },
  'row-locked': {
    severity: 'late',
    sentence: 'Another session keeps a row locked in PostgreSQL',
    next: 'The work goes on when that session ends its transaction.',
    actions: [],
  },
  'product-unreconciled': {
    severity: 'late',
    sentence: 'Catalog’s inventory of a product differs from ours',
    next: 'The reconciler compares again every 30 s, and corrects Catalog.',
    actions: ['reconcile-products'],
  },
  'product-oversold': {
    severity: 'person',
    sentence: 'Orders hold more units of a product than Catalog has',
    next: 'Units that arrive at Catalog are reserved for these orders. Raise the stock at Catalog, or let the shop decide about the orders.',
    actions: ['reconcile-products'],
  },
  'product-ambiguous': {
    severity: 'person',
    sentence: 'An unanswered call to Catalog has two explanations',
    next: 'Nothing: count the product’s stock, correct Catalog, then accept its inventory.',
    actions: ['reconcile-products', 'accept-inventory'],
  },
  'no-worker': {
    severity: 'refused',
    sentence: 'No worker runs',
    next: 'Checkouts time out with a 503, and payments wait, until a worker runs.',
    actions: [],
  },
  'no-bridge': {
    severity: 'late',
    sentence: 'No bridge runs',
    next: 'Payments wait on their topic until a bridge runs.',
    actions: [],
  },
  'no-relay': {
    severity: 'late',
    sentence: 'No relay runs',
    next: 'Events wait in the outbox until a relay runs.',
    actions: [],
  },
  'workers-behind': {
    severity: 'late',
    sentence: 'Workers do not keep up',
    next: 'They catch up when fewer jobs come. Start more workers if they do not.',
    actions: [],
  },
  'component-stalled': {
    severity: 'late',
    sentence: 'A component makes no progress',
    next: 'It was restarted. If it stalls again, its process ends, and its supervisor starts it again.',
    actions: [],
  },
  'queue-paused': {
    severity: 'refused',
    sentence: 'An operator has paused a queue',
    next: 'Its jobs wait until the queue is resumed.',
    actions: ['resume-queue'],
  },
  drained: {
    severity: 'refused',
    sentence: 'The service is drained: it accepts no new orders',
    next: 'New orders get a 503, and payments wait on their topic, until the drain is ended.',
    actions: ['accept-work'],
  },
  'redis-unavailable': {
    severity: 'refused',
    sentence: 'Redis does not answer',
    next: 'Checkouts are refused with a 503 until Redis works again. Nothing is lost: PostgreSQL remembers the work.',
    actions: [],
  },
  'database-unavailable': {
    severity: 'refused',
    sentence: 'PostgreSQL does not answer in time',
    next: 'The work is retried until PostgreSQL answers.',
    actions: [],
  },
  'kafka-unavailable': {
    severity: 'late',
    sentence: 'Kafka does not accept events',
    next: 'Events wait in the outbox, and are sent within 5 s after Kafka works again.',
    actions: [],
  },
  'event-undeliverable': {
    severity: 'person',
    sentence: 'Kafka will never accept an event',
    next: 'Nothing: raise the topic’s max.message.bytes, then republish the event.',
    actions: ['republish-events'],
  },
  'bridge-behind': {
    severity: 'late',
    sentence: 'Payment messages wait on their topic',
    next: 'The bridge catches up by itself.',
    actions: [],
  },
  'payment-early': {
    severity: 'late',
    sentence: 'A payment came before its order',
    next: 'It waits for its order, and becomes a dead letter after the grace period.',
    actions: ['retry-payments'],
  },
  'payment-mismatch': {
    severity: 'person',
    sentence: 'A payment does not fit its order',
    next: 'Nothing: a person decides whether to edit, replay or discard it.',
    actions: ['replay-letters', 'edit-letter', 'discard-letters'],
  },
  'stock-refused': {
    severity: 'person',
    sentence: 'Catalog refuses to commit the stock of a paid order',
    next: 'Nothing: correct the stock at Catalog, then replay the payment.',
    actions: ['replay-letters', 'discard-letters'],
  },
  'message-unreadable': {
    severity: 'person',
    sentence: 'A message cannot be read as a payment event',
    next: 'Nothing: a person decides whether to edit, replay or discard it.',
    actions: ['replay-letters', 'edit-letter', 'discard-letters'],
  },
  'internal-error': {
    severity: 'person',
    sentence: 'This service has an internal error',
    next: 'The work is retried; report the error with its stack trace.',
    actions: ['retry-payments', 'retry-checkouts', 'cancel-checkouts'],
  },
} as const satisfies Record<string, CauseEntry>
export type Cause = keyof typeof causes

export const isCause = (text: string): text is Cause => Object.hasOwn(causes, text)

/** The downstream services that orders and payments need. */
export const services = ['catalog', 'shipping'] as const
export type ServiceName = (typeof services)[number]

/** The services' names in sentences. */
export const serviceTitles: Record<ServiceName, string> = { catalog: 'Catalog', shipping: 'Shipping' }

/** A text of {@link causes} with the service's name. null: no service is known. */
export function withService(text: string, service: ServiceName | null): string {
  const words = text.replaceAll('{service}', service === null ? 'a downstream service' : serviceTitles[service])
  return words.charAt(0).toUpperCase() + words.slice(1)
}

/** What is wrong, as a sentence without its full stop: `Catalog does not answer in time`. */
export const sentenceOf = (cause: Cause, service: ServiceName | null): string => withService(causes[cause].sentence, service)

/** The cause of a dead letter. */
export const causeOfLetter: Record<DeadLetterFault, Cause> = {
  unreadable: 'message-unreadable',
  ambiguous: 'message-unreadable',
  'other-content': 'payment-mismatch',
  'unknown-order': 'payment-mismatch',
  cancelled: 'payment-mismatch',
  'wrong-amount': 'payment-mismatch',
  'second-payment': 'payment-mismatch',
  'catalog-refused': 'stock-refused',
}

/** Why a step failed. `service`: the downstream service at fault. `stack` only of an internal error. */
export interface Fault {
  cause: Cause
  service?: ServiceName | undefined
  stack?: string | undefined
}

/** An error that knows its fault. */
interface FaultyError {
  fault?: Fault | undefined
}

/** The first ten lines of a stack trace say where; more would fill the row. */
const STACK_LINES = 10
/** Classes 08 (connection), 53 (resources), 57 (operator intervention) and 25006 (read-only) of PostgreSQL's errors. */
const UNAVAILABLE = /^(08|53|57|25006)/
const databaseErrors = /^(Connection|BackendTerminated|StatementTimeout|StatementCancelled|IdleTransaction)/
const redisErrors = /^(MaxRetriesPerRequest|Reply|ClusterAll|Abort)Error$|Stream isn't writeable|Connection is closed|Command timed out/

/** @returns the fault of any error that a step or a component throws; `internal-error` where nothing else is known to explain it */
export function faultOf(error: unknown): Fault {
  for (let one = error, depth = 0; one instanceof Error && depth < 5; one = one.cause, depth++) {
    const { fault } = one as Error & FaultyError
    if (fault) return fault
    const code = String((one as { code?: unknown }).code ?? '')
    const name = one.name === 'Error' ? one.constructor.name : one.name // slonik's errors have no name of their own
    if (one.name === 'RowLocked' || code === '55P03') return { cause: 'row-locked' }
    if (UNAVAILABLE.test(code) || databaseErrors.test(name)) return { cause: 'database-unavailable' }
    if (redisErrors.test(one.name) || redisErrors.test(one.message)) return { cause: 'redis-unavailable' }
  }
  return { cause: 'internal-error', stack: stackOf(error) }
}

/** Of the error at the root, which says more than what was made of it. */
function stackOf(error: unknown): string | undefined {
  let root = error
  while (root instanceof Error && root.cause instanceof Error) root = root.cause
  if (!(root instanceof Error) || !root.stack) return undefined
  return withoutEmails(root.stack.split('\n').slice(0, STACK_LINES).join('\n'))
}
