/** What all operators' pages share: where they are, their frame, and how a refusal looks to a person. */
import { STATUS_CODES } from 'node:http'
import type { Context, Middleware } from 'koa'
import { Refusal } from '../refusal.ts'
import { type Html, html, type Insert } from './html.ts'

/** All of it lies below this path, behind the gateway as before it: nothing is stripped. */
export const HOME = '/order/admin'
export const QUEUES = `${HOME}/queues`

/** The pages, as the navigation shows them. */
const pages = [
  { path: QUEUES, title: 'Queues' },
  { path: `${HOME}/sign-out`, title: 'Sign out' },
]

/** People's browsers ask for HTML by name; programs take anything, or JSON. */
export const wantsHtml = (ctx: Context): boolean => ctx.accepts('json', 'html') === 'html'

/** @param signedIn whether to offer the other pages */
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

/** Shows people a page where programs get JSON. What is no refusal goes on to be logged. */
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
        html`<p>${error.message}.</p><p><a href="${HOME}">To the first page</a></p>`,
        {
          signedIn: false,
        },
      )
    }
  }
}
