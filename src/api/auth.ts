/** Authenticates requests by Auth's access token. */
import type { KeyObject } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import koaJwt from 'koa-jwt'
import { storable } from '../model.ts'
import { lengthWithin } from './text.ts'
import { Refusal } from './refusal.ts'

/** `orders.user_email varchar(255)` */
const MAX_EMAIL = 255

/** How far Auth's clock may be ahead of ours, in seconds. */
const CLOCK_SKEW_S = 300

/** The claims of a verified access token. `exp` is in epoch seconds. */
export interface Claims {
  sub: string
  role: unknown
  exp: number
}

/**
 * Verifies the given access token, or else that of `Authorization: Bearer`. Throws a 401 for anything but a valid access token.
 * A token is also refused
 * - without an expiry time: Auth issues none, and it could never be revoked;
 * - with `crit`, which requires extensions, since none are supported;
 * - if it was issued in the future;
 * - if no order can store its `sub`. A 422 would blame the body instead.
 */
export type ReadToken = (ctx: Context, token?: string) => Promise<Claims>

/** @param now epoch ms by PostgreSQL's clock once it is known, so that a host whose clock is an hour off works */
export function tokenReader({
  jwtKey,
  JWT_ALGORITHM,
  now = Date.now,
}: {
  jwtKey: KeyObject
  JWT_ALGORITHM: string
  now?: () => number
}): ReadToken {
  const verify = koaJwt({
    secret: jwtKey as unknown as string, // the types lack KeyObject; with a string each request imports the key again (31 us instead of 7.5)
    algorithms: [JWT_ALGORITHM], // otherwise a token chooses its own algorithm
    key: 'verified',
    complete: true, // returns the header too; passed on to jsonwebtoken, missing from the types
    passthrough: true,
    // Evaluated for each token, because jsonwebtoken copies its options.
    get clockTimestamp() {
      return Math.floor(now() / 1000)
    },
    getToken: (ctx) => ctx.state.givenToken ?? null,
  } as koaJwt.Options)
  return async (ctx, token) => {
    ctx.state.givenToken = token
    await verify(ctx, async () => {})
    return claimsOf(ctx, now())
  }
}

/** Whether the request carries its own token, not only a cookie. */
export const bearsToken = (ctx: Context): boolean => /^\s*bearer\b/i.test(ctx.get('Authorization'))

function claimsOf(ctx: Context, nowMs: number): Claims {
  const refuse = (detail: string) => new Refusal(401, detail, { headers: { 'WWW-Authenticate': 'Bearer' } })
  const { verified, givenToken } = ctx.state as { verified?: { header: object; payload: unknown }; givenToken?: string }
  const claims = verified?.payload
  if (typeof claims !== 'object' || claims === null) {
    const given = givenToken !== undefined || /^bearer\s+\S/i.test(ctx.get('Authorization'))
    throw refuse(given ? 'Invalid or expired token' : 'Not authenticated')
  }
  const { type, sub, exp, iat, role } = claims as Record<string, unknown>
  if ('crit' in verified!.header) throw refuse('The token requires an extension that this service does not support')
  if (type !== 'access') throw refuse('Not an access token')
  if (typeof exp !== 'number') throw refuse('The token has no expiry time')
  if (iat !== undefined && !(typeof iat === 'number' && iat <= nowMs / 1000 + CLOCK_SKEW_S)) {
    throw refuse('The token has an invalid issue time, or one in the future')
  }
  if (typeof sub !== 'string' || sub === '' || !lengthWithin(sub, MAX_EMAIL) || !storable(sub))
    throw refuse('The token does not name a customer')
  return { sub, role, exp }
}

/** Admits requests with a valid access token in `Authorization: Bearer`. Puts its unchanged `sub` into `ctx.state.customer`. */
export function customersOnly(readToken: ReadToken): Middleware {
  return async (ctx, next) => {
    ctx.state.customer = (await readToken(ctx)).sub
    return next()
  }
}
