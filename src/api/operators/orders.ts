/** The search for orders, and their list. */
import type { RouterInstance } from '@koa/router'
import type { Context, Middleware } from 'koa'
import { type Cause, sentenceOf, services, serviceTitles } from '../../causes.ts'
import { maskRow } from '../../operators/mask.ts'
import { readOrderQuery } from '../../operators/order-query.ts'
import { money } from '../../operators/order-timeline.ts'
import { type OrderPage, type OrderRow, orderStates, searchOrders } from '../../operators/orders.ts'
import { type Html, html } from './html.ts'
import { HOME, respond, roleOf, wantsHtml } from './layout.ts'
import { type OrderPageDeps, showOrder } from './order.ts'
import { parameters } from './parameters.ts'
import { liveAge, time } from './time.ts'

export function addOrderPages(router: RouterInstance, guarded: readonly Middleware[], requireDeps: () => OrderPageDeps): void {
  router.get('/orders', ...guarded, showOrders(requireDeps))
  router.get('/orders/:id', ...guarded, showOrder(requireDeps))
}

function showOrders(requireDeps: () => OrderPageDeps): Middleware {
  return async (ctx) => {
    const given = parameters(ctx.query)
    const found = await searchOrders(await requireDeps().read(), readOrderQuery(given))
    const names = Object.keys(given).filter((name) => given[name] !== '')
    // An operator who searches for one order wants to see it.
    if (wantsHtml(ctx) && names.length === 1 && names[0] === 'q' && found.rows.length === 1 && found.next === null)
      return seeOther(ctx, `${HOME}/orders/${found.rows[0]!.orderId}`)
    const page: OrderPage = roleOf(ctx) === 'admin' ? found : { ...found, rows: found.rows.map(maskRow) }
    respond(ctx, { title: 'Orders', data: page, content: () => html`${searchForm(given)}${list(page, given)}` })
  }
}

function seeOther(ctx: Context, path: string): void {
  ctx.status = 303
  ctx.redirect(path)
}

/** Failures that checkouts and payments record. The other causes are conditions of components, products or messages. */
const recorded: readonly Cause[] = [
  'downstream-unreachable',
  'downstream-timeout',
  'downstream-error',
  'downstream-refuses-us',
  'product-contended',
  'row-locked',
  'payment-early',
  'redis-unavailable',
  'database-unavailable',
  'internal-error',
]

const ages = [
  ['60', '1 minute'],
  ['600', '10 minutes'],
  ['3600', '1 hour'],
  ['86400', '1 day'],
  ['604800', '1 week'],
] as const

type Choice = readonly [value: string, title: string]

function select(name: string, label: string, given: string | undefined, choices: readonly Choice[]): Html {
  const isOther = given !== undefined && given !== '' && !choices.some(([value]) => value === given)
  const all = isOther ? [...choices, [given, given] as const] : choices
  return html`<div><label for="${name}">${label}</label>
      <select id="${name}" name="${name}">
        <option value="">any</option>
        ${all.map(([value, title]) => html`<option value="${value}"${value === given && html` selected`}>${title}</option>`)}
      </select></div>`
}

function searchForm(given: Record<string, string>): Html {
  return html`<form method="get" action="${HOME}/orders" role="search">
      <div><label for="q">Order, email, idempotency key or payment</label>
      <input id="q" name="q" type="search" value="${given.q}" maxlength="255" autocomplete="off"></div>
      ${select(
        'state',
        'State',
        given.state,
        orderStates.map((state) => [state, state]),
      )}
      ${select(
        'cause',
        'Cause',
        given.cause,
        recorded.map((cause) => [cause, sentenceOf(cause, null)]),
      )}
      ${select(
        'service',
        'Service',
        given.service,
        services.map((name) => [name, serviceTitles[name]]),
      )}
      <div><label for="product">Product id</label>
      <input id="product" name="product" inputmode="numeric" size="10" value="${given.product}"></div>
      ${select('olderThan', 'Older than', given.olderThan, ages)}
      <button>Search</button>
    </form>`
}

function list({ rows, next }: OrderPage, given: Record<string, string>): Html {
  const more = next !== null && `${HOME}/orders?${new URLSearchParams({ ...given, after: next })}`
  if (rows.length === 0)
    return more
      ? html`<p>None of the newest orders matches. A search reads a part of the orders at a time.</p>
        <p><a href="${more}" rel="next">Search older orders</a></p>`
      : html`<p>No order matches.</p>`
  return html`${orderTable(rows)}
    ${more && html`<p><a href="${more}" rel="next">Older orders</a></p>`}`
}

/** Also on other pages. */
export function orderTable(rows: readonly OrderRow[]): Html {
  return html`<table>
      <caption>Orders, newest first</caption>
      <thead><tr><th scope="col">Order</th><th scope="col">State</th><th scope="col">Why</th><th scope="col">Age</th>
        <th scope="col">Created</th><th scope="col" class="numbers">Total</th><th scope="col">Customer</th></tr></thead>
      <tbody>
        ${rows.map(
          (row) => html`<tr>
          <th scope="row"><a href="${HOME}/orders/${row.orderId}">${row.orderId}</a></th>
          <td data-label="State">${row.state}</td>
          <td data-label="Why">${row.cause && sentenceOf(row.cause, row.service)}</td>
          <td data-label="Age">${liveAge(row.createdAt)}</td>
          <td data-label="Created">${time(row.createdAt)}</td>
          <td data-label="Total" class="numbers">${money(row.totalCents, row.currency)}</td>
          <td data-label="Customer">${row.email ?? 'removed'}</td>
        </tr>`,
        )}
      </tbody>
    </table>`
}
