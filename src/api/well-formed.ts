/** Refuses requests that Node's parser accepts although they are incomplete or ambiguous. */
import type { Context, Middleware } from 'koa'
import { Refusal } from './refusal.ts'

/** If these are sent twice, a gateway may use one value and we the other. */
const once = ['host', 'authorization', 'content-type'] as const

/** Throws a 400, or a 417 for an unsupported `Expect`. */
export const wellFormedOnly: Middleware = (ctx, next) => {
  const { headers, headersDistinct, httpVersionMinor } = ctx.req
  if (headers.host === undefined && httpVersionMinor > 0) throw new Refusal(400, 'The request has no Host header')
  const twice = once.find((name) => headersDistinct[name] && headersDistinct[name].length > 1)
  if (twice) throw new Refusal(400, `The request has more than one ${twice} header`)
  if (headers.expect && !/\b100-continue\b/i.test(headers.expect)) throw new Refusal(417, 'Expect must be 100-continue')
  if (pathOf(ctx) === undefined) throw new Refusal(400, 'The request target is malformed')
  return next()
}

/** undefined if Koa cannot parse the target, for example `http://[/` */
function pathOf(ctx: Context): string | undefined {
  try {
    return ctx.path
  } catch {
    return undefined
  }
}
