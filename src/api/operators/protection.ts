/** What keeps others out of an operator's session: headers that tell the browser what these pages never do, and requests refused that other sites made. */
import type { Context, Middleware } from 'koa'
import { bearsToken } from '../auth.ts'
import { Refusal } from '../refusal.ts'

const policy = (directives: Record<string, string>) =>
  Object.entries({ 'default-src': "'none'", 'form-action': "'self'", 'frame-ancestors': "'none'", ...directives })
    .map(([name, sources]) => `${name} ${sources}`)
    .join('; ')

const ours = policy({ 'base-uri': "'none'", 'style-src': "'self'" })

/** Bull Board sets styles on elements, and its page has a `base`. Its one script in the page is data, which no policy minds. */
export const boardPolicy = policy({
  'base-uri': "'self'",
  'script-src': "'self'",
  'style-src': "'self' 'unsafe-inline'",
  'img-src': "'self'",
  'font-src': "'self'",
  'connect-src': "'self'",
})

export function pageHeaders(): Middleware {
  return (ctx, next) => {
    ctx.set({
      'Content-Security-Policy': ours,
      'X-Content-Type-Options': 'nosniff',
      // Not `no-referrer`: with it a form's `Origin` is `null`, and a browser without `Sec-Fetch-Site` could post nothing.
      'Referrer-Policy': 'same-origin',
      'Cache-Control': 'no-store',
    })
    return next()
  }
}

/** Refuses (400) an address that no part of ours could decode: Bull Board takes the fault for its own. */
export const decodableOnly: Middleware = (ctx, next) => {
  try {
    decodeURIComponent(ctx.url)
  } catch {
    throw new Refusal(400, 'The address has malformed percent-encoding in it')
  }
  return next()
}

/** The first of a list that proxies made longer, or nothing. */
const first = (list: string): string => list.split(',')[0]!.trim()

/** How the browser reached us, as the gateway tells. A page of another site can set none of these headers. */
export const isHttps = (ctx: Context): boolean => (first(ctx.get('X-Forwarded-Proto')) || ctx.protocol) === 'https'

/** Who asks, as the gateway saw it: the last entry of `X-Forwarded-For` is the one that no caller wrote. */
export const callerAddress = (ctx: Context): string =>
  ctx.get('X-Forwarded-For').split(',').at(-1)!.trim() || (ctx.req.socket.remoteAddress ?? '')

function isOwnOrigin(ctx: Context): boolean {
  const origin = ctx.get('Origin')
  const host = first(ctx.get('X-Forwarded-Host')) || ctx.get('Host')
  if (!URL.canParse(origin)) return false // `null`, too
  const { protocol, host: asked } = new URL(origin)
  const own = `${protocol}//${host}` // so that a default port is left out of both
  return URL.canParse(own) && new URL(own).host === asked
}

const safe = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Refuses (403) what would change something and was not asked for by a page of ours: Bull Board does not look, and
 * SameSite alone trusts every host of the same site. A request with a token of its own needs no cookie, and so nobody can have lent it one.
 */
export function sameOriginOnly(): Middleware {
  return (ctx, next) => {
    if (safe.has(ctx.method) || bearsToken(ctx)) return next()
    const site = ctx.get('Sec-Fetch-Site')
    if (site === '' ? isOwnOrigin(ctx) : site === 'same-origin') return next()
    throw new Refusal(403, 'This was asked for by another site, or by a program without a token')
  }
}
