/** What all operators' pages share: paths, layout and error pages. */
import { STATUS_CODES } from 'node:http'
import type { Context, Middleware } from 'koa'
import { causes } from '../../causes.ts'
import type { Logger } from '../../telemetry/logger.ts'
import { BadQuery } from '../../operators/order-query.ts'
import { Refusal, RETRY_SOON } from '../refusal.ts'
import { type Html, html, type Insert } from './html.ts'
import { storeFault } from './store-fault.ts'

/** The path of all operators' pages. The gateway does not strip it. */
export const HOME = '/order/admin'
export const QUEUES = `${HOME}/queues`

/** The colours and the frame come first: the others use their names. */
export const styles = ['style.css', 'forms.css', 'content.css']
export const SCRIPT = 'pages.js'

/** The pages in the navigation. A page below one of them is shown as part of it. */
const pages = [
  { path: HOME, title: 'Overview' },
  { path: `${HOME}/orders`, title: 'Orders' },
  { path: `${HOME}/dead-letters`, title: 'Dead letters' },
  { path: `${HOME}/inventory`, title: 'Inventory' },
  { path: `${HOME}/actions`, title: 'Actions' },
  { path: QUEUES, title: 'Queues' },
  { path: `${HOME}/sign-out`, title: 'Sign out' },
]

/** Browsers ask for HTML by name; programs accept anything, or JSON. */
export const wantsHtml = (ctx: Context): boolean => ctx.accepts('json', 'html') === 'html'

interface PageOptions {
  /** Fetched again every 5 s by `pages.js`. */
  isLive?: boolean
}

/** With the navigation, when the operator is signed in. */
export function page(ctx: Context, status: number, title: string, content: Insert, { isLive = false }: PageOptions = {}): void {
  ctx.status = status
  ctx.type = 'html'
  ctx.body = String(document(title, isSignedIn(ctx) && navigation(ctx), content, isLive))
}

/** `page` or `true` (a page below it) as `aria-current` has it; false for the others. */
function isCurrent(ctx: Context, path: string): string | false {
  if (ctx.path === path) return 'page'
  return path !== HOME && ctx.path.startsWith(`${path}/`) && 'true'
}

const navigation = (ctx: Context): Html => html`<nav aria-label="Operators">
        <ul>
          ${pages.map(({ path, title }) => {
            const current = isCurrent(ctx, path)
            return html`<li><a href="${path}"${current && html` aria-current="${current}"`}>${title}</a></li>`
          })}
        </ul>
      </nav>
      <p class="who">${ctx.state.email as string} <span class="role">${roleOf(ctx)}</span></p>`

const document = (title: string, signedIn: Insert, content: Insert, isLive: boolean): Html => html`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="robots" content="noindex">
    <title>${title} - Order service</title>
    ${styles.map((name) => html`<link rel="stylesheet" href="${HOME}/${name}">`)}
    ${signedIn && html`<script src="${HOME}/${SCRIPT}" defer></script>`}
  </head>
  <body>
    <a class="skip" href="#main">Skip to the content</a>
    <header>
      <p class="name">Order service</p>
      ${signedIn}
    </header>
    <main id="main" tabindex="-1"${isLive && html` data-live`}>
      <h1${isLive && html` data-announce`}>${title}</h1>
      ${content}
    </main>
    ${isLive && html`<footer id="live" class="note"></footer>`}
    <p id="announcer" class="unseen" role="status"></p>
  </body>
</html>
`

/** A query that cannot be made is a 400. PostgreSQL or Redis does not answer: a 503 that says which. Other errors stay as they are. */
function asRefusal(error: unknown): unknown {
  if (error instanceof Refusal) return error
  if (error instanceof BadQuery) return new Refusal(400, error.message)
  const cause = storeFault(error)
  if (cause === undefined) return error
  return new Refusal(503, causes[cause].sentence, { headers: RETRY_SOON, cause: error })
}

/** Shows refusals and errors as pages to browsers. Programs get JSON. */
export function refusalPages(logger: Logger): Middleware {
  return async (ctx, next) => {
    try {
      await next()
    } catch (thrown) {
      const error = asRefusal(thrown)
      if (!wantsHtml(ctx)) throw error
      const { requestId } = ctx.state
      const refusal = error instanceof Refusal ? error : new Refusal(500, 'This page failed; the log has the error', { cause: error })
      if (refusal.cause !== undefined) logger.error({ err: refusal.cause, requestId }, "operators' page failed")
      ctx.set(refusal.headers)
      const content = html`<p>${refusal.message}.</p><p><a href="${HOME}">Go to the overview</a></p>`
      page(ctx, refusal.status, STATUS_CODES[refusal.status] ?? 'Refused', content)
    }
  }
}

/** Of an operator: `admin` acts, `support` reads, without emails and addresses. */
export type OperatorRole = 'admin' | 'support'
export const roleOf = (ctx: Context): OperatorRole => ctx.state.role as OperatorRole
const isSignedIn = (ctx: Context): boolean => ctx.state.role !== undefined

/** What a page shows: to browsers as HTML, to programs as JSON. */
export interface Shown extends PageOptions {
  title: string
  /** Already without what the operator's role may not see (see `masked`). */
  data: object
  content: () => Insert
}

export function respond(ctx: Context, { title, data, content, ...options }: Shown): void {
  if (wantsHtml(ctx)) return page(ctx, 200, title, content(), options)
  ctx.status = 200
  ctx.body = data
}
