/** Who somebody is: Auth's access token, and nothing else. */
import type { KeyObject } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import koaJwt from 'koa-jwt'
import { storable } from '../model.ts'
import { lengthWithin } from './text.ts'
import { Refusal } from './refusal.ts'

/** `orders.user_email varchar(255)` */
const MAX_EMAIL = 255

/** How far Auth's clock may run ahead of ours, in seconds. */
const CLOCKS_APART_S = 300

/** What a verified access token says. `exp` is in epoch seconds. */
export interface Claims {
  sub: string
  role: unknown
  exp: number
}

/**
 * Reads the given access token, or, without one, that of `Authorization: Bearer`.
 * Throws a 401 for all that is no access token of ours: also for a token without an end (Auth issues none; it could never be taken back),
 * for one that says it may only be accepted by whoever understands an extension (`crit`; we understand none), for one from the future, and
 * for one whose `sub` no order can carry (it names no customer; the body, which a 422 would blame, is not at fault).
 */
export type ReadToken = (ctx: Context, token?: string) => Promise<Claims>

/** @param now epoch ms, by PostgreSQL's clock where it is known: a host whose clock is an hour off serves as usual */
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
    secret: jwtKey as unknown as string, // its types know no KeyObject; with a string every request imports the key anew (31 us, not 7.5)
    algorithms: [JWT_ALGORITHM], // without it a token names its own
    key: 'verified',
    complete: true, // with the header; handed on to jsonwebtoken, and unknown to its types, too
    passthrough: true,
    // Read anew for each token: jsonwebtoken copies its options first.
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

/** Whether the request says itself who it is from. */
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
  if ('crit' in verified!.header) throw refuse('The token needs an extension that this service does not know')
  if (type !== 'access') throw refuse('Not an access token')
  if (typeof exp !== 'number') throw refuse('The token never expires')
  if (iat !== undefined && !(typeof iat === 'number' && iat <= nowMs / 1000 + CLOCKS_APART_S)) {
    throw refuse('The token was issued at no time, or in the future')
  }
  if (typeof sub !== 'string' || sub === '' || !lengthWithin(sub, MAX_EMAIL) || !storable(sub)) throw refuse('The token names no customer')
  return { sub, role, exp }
}

/** Lets a request through whose `Authorization: Bearer` carries an access token, and puts its `sub`, exactly as it stands, into `ctx.state.customer`. */
export function customersOnly(readToken: ReadToken): Middleware {
  return async (ctx, next) => {
    ctx.state.customer = (await readToken(ctx)).sub
    return next()
  }
}
