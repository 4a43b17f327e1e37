/** What all operators' pages share: paths, layout and error pages. */
import { STATUS_CODES } from 'node:http'
import type { Context, Middleware } from 'koa'
import { Refusal } from '../refusal.ts'
import { type Html, html, type Insert } from './html.ts'

/** The path of all operators' pages. The gateway does not strip it. */
export const HOME = '/order/admin'
export const QUEUES = `${HOME}/queues`

/** The pages in the navigation. */
const pages = [
  { path: QUEUES, title: 'Queues' },
  { path: `${HOME}/sign-out`, title: 'Sign out' },
]

/** Browsers ask for HTML by name; programs accept anything, or JSON. */
export const wantsHtml = (ctx: Context): boolean => ctx.accepts('json', 'html') === 'html'

/** @param signedIn whether to show the navigation */
export function page(ctx: Context, status: number, title: string, content: Insert, { signedIn }: { signedIn: boolean }): void {
  const navigation =
    signedIn &&
    html`<nav aria-label="Operators">
        <ul>
          ${pages.map(({ path, title: name }) => html`<li><a href="${path}"${path === ctx.path && html` aria-current="page"`}>${name}</a></li>`)}
        </ul>
      </nav>`
  ctx.status = status
  ctx.type = 'html'
  ctx.body = document(title, navigation, content).text
}

const document = (title: string, navigation: Insert, content: Insert): Html => html`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="robots" content="noindex">
    <title>${title} - Order service</title>
    <link rel="stylesheet" href="${HOME}/style.css">
  </head>
  <body>
    <header>
      <p>Order service</p>
      ${navigation}
    </header>
    <main>
      <h1>${title}</h1>
      ${content}
    </main>
  </body>
</html>
`

/** Shows refusals as pages to browsers. Programs get JSON. Other errors are thrown on and logged. */
export function refusalPages(): Middleware {
  return async (ctx, next) => {
    try {
      await next()
    } catch (error) {
      if (!(error instanceof Refusal && wantsHtml(ctx))) throw error
      ctx.set(error.headers)
      page(
        ctx,
        error.status,
        STATUS_CODES[error.status] ?? 'Refused',
        html`<p>${error.message}.</p><p><a href="${HOME}">Go to the start page</a></p>`,
        {
          signedIn: false,
        },
      )
    }
  }
}

/** Of an operator: `admin` acts, `support` reads, without emails and addresses. */
export type OperatorRole = 'admin' | 'support'
export const roleOf = (ctx: Context): OperatorRole => ctx.state.role as OperatorRole

/** What a page shows: to browsers as HTML, to programs as JSON. */
export interface Shown {
  status?: number
  title: string
  /** Already without what the operator's role may not see (see `masked`). */
  data: object
  content: () => Insert
}

export function respond(ctx: Context, { status = 200, title, data, content }: Shown): void {
  if (wantsHtml(ctx)) return page(ctx, status, title, content(), { signedIn: true })
  ctx.status = status
  ctx.body = data
}
