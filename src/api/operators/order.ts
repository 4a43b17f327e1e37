/** One order: where it stands, what can help, and its life as a timeline. */
import type { Middleware } from 'koa'
import { sentenceOf, type Verb, verbs } from '../../causes.ts'
import type { Pool } from '../../db/pool.ts'
import type { Line } from '../../model.ts'
import { maskLife } from '../../operators/mask.ts'
import { type NextRun, readOrderLife } from '../../operators/order-life.ts'
import { money } from '../../operators/order-timeline.ts'
import type { OrderLife, TimelineEntry } from '../../operators/orders.ts'
import { Refusal } from '../refusal.ts'
import { type Html, html } from './html.ts'
import { HOME, type OperatorRole, respond, roleOf } from './layout.ts'
import { idInPath } from './parameters.ts'
import { liveAge, time } from './time.ts'

export interface OrderPageDeps {
  /** The pages' own connections: two, and no statement takes longer than 2 s. */
  read(): Promise<Pool>
  nextRun: NextRun
  /** Where the events of orders go. */
  eventTopic: string
}

export function showOrder(requireDeps: () => OrderPageDeps): Middleware {
  return async (ctx) => {
    const id = idInPath('order', String(ctx.params.id))
    const { read, nextRun, eventTopic } = requireDeps()
    const life = await readOrderLife(await read(), id, { nextRun, eventTopic })
    if (!life) throw new Refusal(404, `There is no order ${id}, and no checkout of this number`)
    ctx.state.orderId = id
    const role = roleOf(ctx)
    const shown = role === 'admin' ? life : maskLife(life)
    respond(ctx, { title: `Order ${id}`, data: shown, content: () => page(shown, role) })
  }
}

const page = (life: OrderLife, role: OperatorRole): Html => html`
    <p class="summary"><strong>${life.summary}</strong></p>
    ${role === 'admin' && actions(life)}
    ${facts(life, role)}
    ${lines(life)}
    <h2>Timeline</h2>
    <ol class="timeline">${life.timeline.map(entry)}</ol>`

/** One link for each verb, with all of its items. */
function actions(life: OrderLife): Html | false {
  const byVerb = new Map<Verb, number[]>()
  for (const { verb, item } of life.actions) byVerb.set(verb, [...(byVerb.get(verb) ?? []), item])
  return (
    byVerb.size > 0 &&
    html`<p class="actions">${[...byVerb].map(([verb, items]) => {
      const query = new URLSearchParams([['verb', verb], ...items.map((item): [string, string] => ['item', String(item)])])
      return html`<a class="button" href="${HOME}/actions/new?${String(query)}" title="${verbs[verb].does}">${titleOf(verb, items)}</a> `
    })}</p>`
  )
}

const nouns: Partial<Record<(typeof verbs)[Verb]['item'], string>> = {
  letter: 'dead letter',
  event: 'event',
  product: 'product',
  payment: 'payment',
  checkout: 'checkout',
}
const titleOf = (verb: Verb, items: readonly number[]) =>
  `${verbs[verb].title}: ${nouns[verbs[verb].item] ?? ''}${items.length > 1 ? ` (${items.length})` : ''}`

function facts(life: OrderLife, role: OperatorRole): Html {
  const rows: [string, Html | string | null][] = [
    ['State', life.state],
    ['Why', life.cause && sentenceOf(life.cause, life.service)],
    ['Created', html`${time(life.createdAt)}, ${liveAge(life.createdAt)} ago`],
    ['Total', money(life.totalCents, life.currency)],
    ['Customer', life.email ?? 'removed after the retention period'],
    ['Idempotency key', life.idempotencyKey],
    ['Deadline of the checkout', life.deadlineAt && time(life.deadlineAt)],
    ['Address', role === 'admin' && life.address ? addressInWords(life.address) : null],
    ['Details removed', life.prunedAt && time(life.prunedAt)],
  ]
  return html`<dl class="facts">${rows.map(([name, value]) => value && html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`
}

const addressInWords = ({ address_line1, address_line2, postcode, city, country }: Record<string, string>): string =>
  [address_line1, address_line2, `${postcode} ${city}`, country].filter(Boolean).join(', ')

const lines = ({ lines: all, currency }: OrderLife): Html | false =>
  all.length > 0 &&
  html`<table>
      <caption>Lines</caption>
      <thead><tr><th scope="col">Product</th><th scope="col">Title</th><th scope="col" class="numbers">Units</th><th scope="col" class="numbers">Price</th></tr></thead>
      <tbody>${all.map(
        (line: Line) => html`<tr>
        <th scope="row"><a href="${HOME}/inventory/${line.product_id}">${line.product_id}</a></th><td data-label="Title">${line.title_snapshot}</td>
        <td data-label="Units" class="numbers">${line.qty}</td><td data-label="Price" class="numbers">${money(line.unit_price_cents, currency)}</td></tr>`,
      )}</tbody>
    </table>`

function entry(one: TimelineEntry): Html {
  const title = one.link ? html`<a href="${HOME}${one.link}">${one.title}</a>` : one.title
  return html`<li${one.isPlanned && html` class="planned"`}>${time(one.at)} <strong>${title}</strong>${one.isPlanned && ' (planned)'}
      ${one.ms !== null && one.ms !== undefined && html`<span class="note">after ${one.ms} ms</span>`}
      ${one.cause && html`<span>${sentenceOf(one.cause, one.service ?? null)}.</span>`}
      ${one.operator && html`<span>By ${one.operator}:</span>`}
      ${one.detail && html`<span>${one.detail}</span>`}
      ${one.stack && html`<details><summary>Stack trace</summary><pre>${one.stack}</pre></details>`}
    </li>`
}
