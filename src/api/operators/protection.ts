/** Protects operators' sessions: by security headers, and by refusing requests that other sites made. */
import type { Context, Middleware } from 'koa'
import { bearsToken } from '../auth.ts'
import { Refusal } from '../refusal.ts'

const policy = (directives: Record<string, string>) =>
  Object.entries({ 'default-src': "'none'", 'form-action': "'self'", 'frame-ancestors': "'none'", ...directives })
    .map(([name, sources]) => `${name} ${sources}`)
    .join('; ')

const ours = policy({ 'base-uri': "'none'", 'script-src': "'self'", 'style-src': "'self'", 'connect-src': "'self'" })

/** Bull Board sets styles on elements, and its page has a `base`. Its inline script is data, which policies do not block. */
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
      // With `no-referrer` a form's `Origin` would be `null`, and browsers without `Sec-Fetch-Site` could not post.
      'Referrer-Policy': 'same-origin',
      'Cache-Control': 'no-store',
    })
    return next()
  }
}

/** Refuses (400) a URL that cannot be decoded. Bull Board would answer it with a 500. */
export const decodableOnly: Middleware = (ctx, next) => {
  try {
    decodeURIComponent(ctx.url)
  } catch {
    throw new Refusal(400, 'The URL has malformed percent-encoding')
  }
  return next()
}

/** The first entry of a list that proxies append to, or an empty text. */
const first = (list: string): string => list.split(',')[0]!.trim()

/** Whether the browser used HTTPS, as the gateway reports. A page of another site cannot set these headers. */
export const isHttps = (ctx: Context): boolean => (first(ctx.get('X-Forwarded-Proto')) || ctx.protocol) === 'https'

/** The caller's address as the gateway saw it. The gateway wrote the last entry of `X-Forwarded-For`; callers can write the others. */
export const callerAddress = (ctx: Context): string =>
  ctx.get('X-Forwarded-For').split(',').at(-1)!.trim() || (ctx.req.socket.remoteAddress ?? '')

function isOwnOrigin(ctx: Context): boolean {
  const origin = ctx.get('Origin')
  const host = first(ctx.get('X-Forwarded-Host')) || ctx.get('Host')
  if (!URL.canParse(origin)) return false // `null` is refused here too
  const { protocol, host: asked } = new URL(origin)
  const own = `${protocol}//${host}` // so that both omit a default port
  return URL.canParse(own) && new URL(own).host === asked
}

const safe = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Refuses (403) changes that do not come from our own pages. Bull Board does not check this, and SameSite alone trusts every host of
 * the same site. A request with its own token uses no cookie, so another site cannot have forged it.
 */
export function sameOriginOnly(): Middleware {
  return (ctx, next) => {
    if (safe.has(ctx.method) || bearsToken(ctx)) return next()
    const site = ctx.get('Sec-Fetch-Site')
    if (site === '' ? isOwnOrigin(ctx) : site === 'same-origin') return next()
    throw new Refusal(403, 'The request comes from another site or has no token; use this service’s pages or send Authorization: Bearer')
  }
}
