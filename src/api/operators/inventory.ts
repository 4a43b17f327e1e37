/** Products: those that need attention, and one product in full, beside what Catalog says now. */
import type { RouterInstance } from '@koa/router'
import type { Middleware } from 'koa'
import type { Catalog, CatalogInventory } from '../../clients/catalog.ts'
import type { Pool } from '../../db/pool.ts'
import { type NotableProduct, oversoldUnits, type ProductPage, readNotable, readProductPage } from '../../operators/inventory.ts'
import { maskRow } from '../../operators/mask.ts'
import { Refusal } from '../refusal.ts'
import { type Html, html, type Insert } from './html.ts'
import { HOME, type OperatorRole, respond, roleOf } from './layout.ts'
import { orderTable } from './orders.ts'
import { idInPath, parameters } from './parameters.ts'
import { liveAge, time } from './time.ts'

export interface InventoryPageDeps {
  read(): Promise<Pool>
  /** For reading. */
  catalog: Catalog
}

/** More products that need attention are not listed. */
const LIST = 200

export function addInventoryPages(router: RouterInstance, guarded: readonly Middleware[], requireDeps: () => InventoryPageDeps): void {
  router.get('/inventory', ...guarded, async (ctx) => {
    const { product } = parameters(ctx.query)
    if (product) {
      ctx.status = 303
      return ctx.redirect(`${HOME}/inventory/${idInPath('product', product.trim())}`)
    }
    const found = await readNotable(await requireDeps().read(), LIST)
    respond(ctx, { title: 'Inventory', data: found, content: () => html`${search}${list(found)}` })
  })

  router.get('/inventory/:product', ...guarded, async (ctx) => {
    const id = idInPath('product', String(ctx.params.product))
    const { read, catalog } = requireDeps()
    const found = await readProductPage(await read(), catalog, id)
    if (!found) throw new Refusal(404, `Product ${id} is unknown: no checkout has contained it yet`)
    const role = roleOf(ctx)
    const shown = role === 'admin' ? found : { ...found, holders: { ...found.holders, orders: found.holders.orders.map(maskRow) } }
    respond(ctx, { title: `Product ${id}`, data: shown, content: () => page(shown, role) })
  })
}

const search = html`<form method="get" action="${HOME}/inventory" role="search">
      <div><label for="product">Product id</label>
      <input id="product" name="product" inputmode="numeric" required></div>
      <button>Show</button>
    </form>`

const list = ({ products, isMore }: { products: NotableProduct[]; isMore: boolean }): Html =>
  products.length === 0
    ? html`<p>No product needs attention: Catalog agrees with our orders, as far as it was read.</p>`
    : html`<table>
      <caption>Products that need attention</caption>
      <thead><tr><th scope="col">Product</th><th scope="col">Note</th><th scope="col" class="numbers">Held by orders</th>
        <th scope="col" class="numbers">Oversold</th><th scope="col">Since</th></tr></thead>
      <tbody>${products.map(
        ({ entry, notes }) => html`<tr>
        <th scope="row"><a href="${HOME}/inventory/${entry.productId}">${entry.productId}</a></th>
        <td data-label="Note">${notes.join(', ')}</td>
        <td data-label="Held by orders" class="numbers">${entry.held}</td>
        <td data-label="Oversold" class="numbers">${oversoldUnits(entry)}</td>
        <td data-label="Since">${entry.reconcilingSince && liveAge(entry.reconcilingSince)}</td>
      </tr>`,
      )}</tbody>
    </table>
    ${isMore && html`<p>Only the first ${LIST} are listed.</p>`}`

const signed = (units: number) => (units > 0 ? `+${units}` : String(units))

function page(found: ProductPage, role: OperatorRole): Html {
  const { entry, notes, holders } = found
  return html`
    <p class="summary"><strong>${notes.length > 0 ? `Product ${entry.productId}: ${notes.join(', ')}.` : 'Nothing is open for this product.'}</strong></p>
    ${role === 'admin' && actions(found)}
    ${comparison(found)}
    ${facts(found)}
    ${ambiguities(found)}
    ${history(found)}
    <h2>Unpaid orders that hold it</h2>
    ${holders.orders.length > 0 ? orderTable(holders.orders) : html`<p>None among the latest orders.</p>`}
    <p><a href="${HOME}/orders?product=${entry.productId}&amp;state=CREATED">All unpaid orders with this product</a></p>`
}

function actions({ entry }: ProductPage): Html {
  const link = (verb: string, title: string) =>
    html`<a class="button" href="${HOME}/actions/new?verb=${verb}&amp;item=${entry.productId}">${title}</a> `
  const isAmbiguous = entry.ambiguous.tooMany + entry.ambiguous.tooFew > 0
  return html`<p class="actions">${link('reconcile-products', 'Reconcile now')}${isAmbiguous && link('accept-inventory', 'Accept Catalog’s inventory')}</p>`
}

/** Ours, Catalog's, and the difference. */
function comparison({ entry, expected, inCatalog, difference }: ProductPage): Html {
  const row = (name: string, of: (one: CatalogInventory) => number) => html`<tr><th scope="row">${name}</th>
        <td data-label="Catalog should have" class="numbers">${expected ? of(expected) : 'unknown'}</td>
        <td data-label="Catalog has" class="numbers">${'noAnswer' in inCatalog ? '–' : of(inCatalog)}</td>
        <td data-label="Difference" class="numbers">${difference ? signed(of(difference)) : '–'}</td></tr>`
  return html`${'noAnswer' in inCatalog && html`<p class="fault">Catalog does not answer: ${inCatalog.noAnswer}.</p>`}
    <table>
      <caption>Inventory</caption>
      <thead><tr><th scope="col">Units</th><th scope="col" class="numbers">Catalog should have</th><th scope="col" class="numbers">Catalog has</th>
        <th scope="col" class="numbers">Difference</th></tr></thead>
      <tbody>${row('Reserved', (one) => one.reserved)}${row('In stock', (one) => one.inStock)}</tbody>
    </table>
    ${entry.call && html`<p class="note">A call is under way: the two may differ by its units until it ends.</p>`}`
}

function facts({ entry, waiting }: ProductPage): Html {
  const { call, unanswered } = entry
  const rows: [string, Insert][] = [
    ['Held by orders', entry.held],
    ['Holds of others at Catalog', entry.foreignHolds],
    ['Hold correction', signed(entry.holdCorrection)],
    ['Stock correction', signed(entry.stockCorrection)],
    ['Being reconciled', entry.reconcilingSince && html`for ${liveAge(entry.reconcilingSince)}, since ${time(entry.reconcilingSince)}`],
    ['Call under way', call ? html`${call.verb} ${call.qty} (call ${call.callId}); its lease ends ${time(call.expiresAt)}` : 'none'],
    ['Next', waiting.wanted && html`process ${waiting.wanted.by} asked for it, until ${time(waiting.wanted.until)}`],
    ...unanswered.map((one): [string, Insert] => [
      'Unanswered call',
      html`${one.verb} ${one.qty} (call ${one.callId}), since ${time(one.since)}; ${
        one.checkedAt ? html`not carried out by ${time(one.checkedAt)}` : 'Catalog was not read since'
      }`,
    ]),
    [
      'Open checkouts that wait',
      waiting.checkouts.length > 0 &&
        waiting.checkouts.map(
          ({ orderId, createdAt }) => html`<a href="${HOME}/orders/${orderId}">${orderId}</a> (${liveAge(createdAt)}) `,
        ),
    ],
  ]
  return html`<dl class="facts">${rows.map(([name, value]) => value !== null && value !== false && html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`
}

const upTo = ({ tooMany, tooFew }: { tooMany: number; tooFew: number }) =>
  [tooMany > 0 && `up to ${tooMany} too many`, tooFew > 0 && `up to ${tooFew} too few`].filter(Boolean).join(', ')

const ambiguities = ({ ambiguities: all }: ProductPage): Html | false =>
  all.length > 0 &&
  html`<h2>Ambiguities</h2>
    <ul>${all.map(
      (one) => html`<li>${time(one.at)} ${upTo(one)}: ${one.explanation}${one.acceptedAt && html`; accepted ${time(one.acceptedAt)}`}</li>`,
    )}</ul>`

const history = ({ reconciliations }: ProductPage): Html | false =>
  reconciliations.length > 0 &&
  html`<h2>History</h2>
    <table>
      <caption>Reconciliations, latest first</caption>
      <thead><tr><th scope="col">Time</th><th scope="col">Call</th><th scope="col" class="numbers">Units</th><th scope="col">Result</th><th scope="col">Reason</th></tr></thead>
      <tbody>${reconciliations.map(
        (one) =>
          html`<tr><td>${time(one.at)}</td><td data-label="Call">${one.verb}</td><td data-label="Units" class="numbers">${one.qty}</td>
        <td data-label="Result">${one.result}</td><td data-label="Reason">${one.reason}</td></tr>`,
      )}</tbody>
    </table>`
