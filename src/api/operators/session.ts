/** An operator's session: Auth's own access token in a cookie, for as long as the token lasts. Programs send theirs as `Authorization: Bearer`. */
import { createHmac, type KeyObject } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import { bearsToken, type Claims, type ReadToken } from '../auth.ts'
import { Refusal } from '../refusal.ts'
import { HOME, wantsHtml } from './layout.ts'
import { isHttps } from './protection.ts'

const COOKIE = 'order_operator'

export const SIGN_IN = `${HOME}/sign-in`

const isOperator = ({ role }: Claims): boolean => role === 'admin'

function setCookie(ctx: Context, value: string | null, expires?: Date): void {
  const secure = isHttps(ctx)
  // It refuses a secure cookie on a connection that is not, and knows nothing of the gateway.
  ctx.cookies.secure = secure
  ctx.cookies.set(COOKIE, value, { path: HOME, httpOnly: true, sameSite: 'strict', secure, ...(expires && { expires }) })
}

/** Takes a token that Auth has just issued. @returns false, and no session, where it is no operator's. @throws what `readToken` throws */
export async function beginSession(ctx: Context, readToken: ReadToken, token: string): Promise<boolean> {
  const claims = await readToken(ctx, token)
  if (!isOperator(claims)) return false
  setCookie(ctx, token, new Date(claims.exp * 1000))
  return true
}

export const endSession = (ctx: Context): void => setCookie(ctx, null)

/**
 * What the log calls an operator: a token names people by their email alone, which must not be there. Who knows the secret can tell whose
 * name it is (README, "Operators' pages"). The space keeps what is hashed apart from everything that is signed as a token.
 */
const nameOf = (jwtKey: KeyObject, email: string): string =>
  createHmac('sha256', jwtKey).update(`operator ${email}`).digest('hex').slice(0, 12)

/**
 * Lets operators through, their name for the log in `ctx.state.operator`. People without a session are sent to sign in and come back here; programs get a 401; a token without the role is a 403.
 * Where a Bearer token and a cookie come together the token alone counts, also where it is a bad one: who says who they are means it.
 * (koa-jwt by itself would take the cookie.) Another scheme in `Authorization` is a gateway's business.
 */
export function operatorsOnly(readToken: ReadToken, jwtKey: KeyObject): Middleware {
  return async (ctx, next) => {
    const byPerson = !bearsToken(ctx)
    const claims = await readToken(ctx, byPerson ? ctx.cookies.get(COOKIE) : undefined).catch((error: unknown) => {
      if (error instanceof Refusal && byPerson && /^(GET|HEAD)$/.test(ctx.method) && wantsHtml(ctx)) return undefined
      throw error
    })
    if (!claims) {
      ctx.status = 303
      return ctx.redirect(`${SIGN_IN}?next=${encodeURIComponent(ctx.path + ctx.search)}`)
    }
    if (!isOperator(claims)) throw new Refusal(403, 'Only operators may do this: the token has not the role admin')
    ctx.state.operator = nameOf(jwtKey, claims.sub)
    return next()
  }
}

/** @returns the path of the page that was asked for before the sign-in, or the first page where that is none of ours */
export function pathWithin(asked: string): string {
  const here = 'http://here'
  const url = URL.canParse(asked, here) ? new URL(asked, here) : undefined
  const within = url?.origin === here && url.pathname.startsWith(`${HOME}/`) && url.pathname !== SIGN_IN
  return within ? url.pathname + url.search : HOME
}
