/** Requests that Node's parser takes and that mean nothing, or two things: refused before any route looks at them. */
import type { Context, Middleware } from 'koa'
import { Refusal } from './refusal.ts'

/** Sent twice, they say two things: a gateway may go by the one, and we by the other. */
const once = ['host', 'authorization', 'content-type'] as const

/** Throws a 400 or, where `Expect` is none that we can meet, a 417. */
export const wellFormedOnly: Middleware = (ctx, next) => {
  const { headers, headersDistinct, httpVersionMinor } = ctx.req
  if (headers.host === undefined && httpVersionMinor > 0) throw new Refusal(400, 'The request has no Host')
  const twice = once.find((name) => headersDistinct[name] && headersDistinct[name].length > 1)
  if (twice) throw new Refusal(400, `The request has more than one ${twice}`)
  if (headers.expect && !/\b100-continue\b/i.test(headers.expect)) throw new Refusal(417, 'Expect can only be 100-continue')
  if (pathOf(ctx) === undefined) throw new Refusal(400, 'The request target is malformed')
  return next()
}

/** undefined where Koa cannot tell it, as of `http://[/` */
function pathOf(ctx: Context): string | undefined {
  try {
    return ctx.path
  } catch {
    return undefined
  }
}
