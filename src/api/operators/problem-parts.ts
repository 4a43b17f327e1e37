/** How the pages show a problem, its count, its items and its buttons. */
import { type Cause, type ItemKind, type ServiceName, type Severity, type Verb, verbs } from '../../causes.ts'
import type { Count, Problem } from '../../operators/problems.ts'
import { type Html, html, type Insert } from './html.ts'
import { HOME, type OperatorRole } from './layout.ts'
import { liveAge, time } from './time.ts'

export const severityTitles: Record<Severity, string> = {
  refused: 'Customers are refused',
  person: 'A person must decide',
  late: 'Late; catches up by itself',
}

const kinds: Record<ItemKind, { one: string; many: string }> = {
  payment: { one: 'payment', many: 'payments' },
  checkout: { one: 'open checkout', many: 'open checkouts' },
  product: { one: 'product', many: 'products' },
  event: { one: 'event', many: 'events' },
  letter: { one: 'dead letter', many: 'dead letters' },
  queue: { one: 'queue', many: 'queues' },
  service: { one: 'service', many: 'services' },
  action: { one: 'action', many: 'actions' },
}
export const manyOf = (kind: ItemKind): string => kinds[kind].many

/** `10,000` */
export const grouped = new Intl.NumberFormat('en')

const countInWords = ({ n, isMore, of }: Count): string =>
  `${isMore ? 'more than ' : ''}${grouped.format(n)} ${n === 1 && !isMore ? kinds[of].one : kinds[of].many}`

/** `1 payment`, `more than 10,000 payments, 3 open checkouts` */
export const countsInWords = (counts: readonly Count[]): string => counts.map(countInWords).join(', ')

/** An item by its name, with a link to its page where it has one. */
export function itemLink(kind: ItemKind, id: number, orderId: number | null): Insert {
  if (kind === 'letter') return html`<a href="${HOME}/dead-letters/${id}">dead letter ${id}</a>`
  if (kind === 'product') return html`<a href="${HOME}/inventory/${id}">product ${id}</a>`
  if (kind === 'checkout') return html`<a href="${HOME}/orders/${id}">order ${id}</a>`
  if (orderId === null) return `${kinds[kind].one} ${id}`
  return html`<a href="${HOME}/orders/${orderId}">${kinds[kind].one} of order ${orderId}</a>`
}

const query = (fields: Record<string, string | null | undefined>): string =>
  new URLSearchParams(Object.entries(fields).filter((field): field is [string, string] => typeof field[1] === 'string')).toString()

export const problemPath = (cause: Cause, service: ServiceName | null): string => {
  const search = query({ service })
  return `${HOME}/problems/${cause}${search && `?${search}`}`
}

export const runbookPath = (cause: Cause): string => `${HOME}/runbook#${cause}`

/** An edit is of one letter, and begins on its page. */
export const isBulk = (verb: Verb): boolean => verb !== 'edit-letter'

type ActionTarget = Pick<Problem, 'cause' | 'service' | 'actions' | 'queue'>

/** What an action acts on: a queue, the service itself, or all items of a cause. */
function selection({ cause, service, queue }: ActionTarget, item: ItemKind): Record<string, string | null | undefined> {
  if (item === 'queue') return { queue }
  return item === 'service' ? {} : { cause, service }
}

/** Links to what can be done about all items of a cause; nothing for operators that may not act. */
export function actionLinks(target: ActionTarget, role: OperatorRole): Insert {
  const offered = role === 'admin' ? target.actions.filter(isBulk) : []
  if (offered.length === 0) return null
  const link = (verb: Verb): Html => {
    const { item, title } = verbs[verb]
    const all = item !== 'queue' && item !== 'service' && `: all ${kinds[item].many}`
    return html`<li><a class="button" href="${HOME}/actions/new?${query({ verb, ...selection(target, item) })}">${title}${all}</a></li>`
  }
  return html`<ul class="actions" aria-label="Actions">${offered.map(link)}</ul>`
}

/** What is known of a problem, apart from its sentence. */
export const problemFacts = ({ cause, counts, since, oldest, evidence, next }: Problem): Html => html`<dl class="facts">
  ${counts.length > 0 && html`<dt>Waiting</dt><dd>${countsInWords(counts)}</dd>`}
  <dt>Since</dt><dd>${time(since)}, for ${liveAge(since)}</dd>
  ${oldest && html`<dt>Oldest</dt><dd>${itemLink(oldest.kind, oldest.id, oldest.orderId)}, for ${liveAge(oldest.since)}</dd>`}
  <dt>Evidence</dt><dd class="evidence">${evidence}</dd>
  <dt>What happens next</dt><dd>${next}</dd>
  <dt>Runbook</dt><dd><a href="${runbookPath(cause)}">${cause}</a></dd>
</dl>`
