/** Who the customer is: Auth's access token, and nothing else. */
import type { KeyObject } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import koaJwt from 'koa-jwt'
import { storable } from '../model.ts'
import { lengthWithin } from './text.ts'
import { Refusal } from './refusal.ts'

/** `orders.user_email varchar(255)` */
const MAX_EMAIL = 255

/**
 * Lets a request through whose `Authorization: Bearer` carries an access token, and puts its `sub`, exactly as it stands, into `ctx.state.customer`.
 * All else is a 401: also a token without an end (Auth issues none; it could never be taken back) and one whose `sub` no order can
 * carry (it names no customer; the body, which a 422 would blame, is not at fault).
 */
export function customersOnly({ jwtKey, JWT_ALGORITHM }: { jwtKey: KeyObject; JWT_ALGORITHM: string }): Middleware {
  const verify = koaJwt({
    secret: jwtKey as unknown as string, // its types know no KeyObject; with a string every request imports the key anew (31 us, not 7.5)
    algorithms: [JWT_ALGORITHM], // without it a token names its own
    key: 'claims',
    passthrough: true,
  })
  return async (ctx, next) => {
    await verify(ctx, async () => {})
    ctx.state.customer = customerOf(ctx)
    return next()
  }
}

function customerOf(ctx: Context): string {
  const refuse = (detail: string) => new Refusal(401, detail, { headers: { 'WWW-Authenticate': 'Bearer' } })
  const { claims } = ctx.state as { claims?: unknown }
  if (typeof claims !== 'object' || claims === null) {
    throw refuse(/^bearer\s+\S/i.test(ctx.get('Authorization')) ? 'Invalid or expired token' : 'Not authenticated')
  }
  const { type, sub, exp } = claims as Record<string, unknown>
  if (type !== 'access') throw refuse('Not an access token')
  if (typeof exp !== 'number') throw refuse('The token never expires')
  if (typeof sub !== 'string' || sub === '' || !lengthWithin(sub, MAX_EMAIL) || !storable(sub)) throw refuse('The token names no customer')
  return sub
}
