/** Operators' sessions: Auth's access token in a cookie until it expires. Programs send it as `Authorization: Bearer`. */
import { createHmac, type KeyObject } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import { bearsToken, type Claims, type ReadToken } from '../auth.ts'
import { Refusal } from '../refusal.ts'
import { HOME, type OperatorRole, roleOf, wantsHtml } from './layout.ts'
import { isHttps } from './protection.ts'

const COOKIE = 'order_operator'

export const SIGN_IN = `${HOME}/sign-in`

const roles: readonly unknown[] = ['admin', 'support'] satisfies OperatorRole[]
const isOperator = ({ role }: Claims): boolean => roles.includes(role)

function setCookie(ctx: Context, value: string | null, expires?: Date): void {
  const secure = isHttps(ctx)
  // Koa refuses secure cookies on a plain connection, and does not know that the gateway ends TLS.
  ctx.cookies.secure = secure
  ctx.cookies.set(COOKIE, value, { path: HOME, httpOnly: true, sameSite: 'strict', secure, ...(expires && { expires }) })
}

/** Begins a session with a token that Auth has just issued. @returns false if it is not an operator's. @throws what `readToken` throws */
export async function beginSession(ctx: Context, readToken: ReadToken, token: string): Promise<boolean> {
  const claims = await readToken(ctx, token)
  if (!isOperator(claims)) return false
  setCookie(ctx, token, new Date(claims.exp * 1000))
  return true
}

export const endSession = (ctx: Context): void => setCookie(ctx, null)

/**
 * The operator's name in the log. A token only has the email, which must not be logged. With the secret the name can be traced to its
 * email (docs/runbook.md, "queue-paused"). Tokens contain no space, so this hash is never a token's signature.
 */
const nameOf = (jwtKey: KeyObject, email: string): string =>
  createHmac('sha256', jwtKey).update(`operator ${email}`).digest('hex').slice(0, 12)

/**
 * Admits operators. Puts their name for the log into `ctx.state.operator`, and their role and email into `role` and `email`. Browsers
 * without a session are redirected to sign in; programs get a 401. A token without the role gets a 403. With both a Bearer token and a cookie, only the token counts, even if it is
 * invalid (koa-jwt would use the cookie). Other schemes in `Authorization` are for the gateway and are ignored.
 */
export function operatorsOnly(readToken: ReadToken, jwtKey: KeyObject): Middleware {
  return async (ctx, next) => {
    const usesCookie = !bearsToken(ctx)
    const claims = await readToken(ctx, usesCookie ? ctx.cookies.get(COOKIE) : undefined).catch((error: unknown) => {
      if (error instanceof Refusal && usesCookie && /^(GET|HEAD)$/.test(ctx.method) && wantsHtml(ctx)) return undefined
      throw error
    })
    if (!claims) {
      ctx.status = 303
      return ctx.redirect(`${SIGN_IN}?next=${encodeURIComponent(ctx.path + ctx.search)}`)
    }
    if (!isOperator(claims)) throw new Refusal(403, 'This account has neither the admin nor the support role')
    Object.assign(ctx.state, { operator: nameOf(jwtKey, claims.sub), role: claims.role, email: claims.sub })
    return next()
  }
}

/** For what changes something. @throws Refusal 403 for operators with the role `support` */
export const adminsOnly: Middleware = (ctx, next) => {
  if (roleOf(ctx) !== 'admin') throw new Refusal(403, 'Only accounts with the admin role may do this')
  return next()
}

/** @returns the path that was requested before the sign-in, or the start page if it is not one of the operators' pages */
export function pathWithin(requested: string): string {
  const base = 'http://base'
  const url = URL.canParse(requested, base) ? new URL(requested, base) : undefined
  const isOurs = url?.origin === base && url.pathname.startsWith(`${HOME}/`) && url.pathname !== SIGN_IN
  return isOurs ? url.pathname + url.search : HOME
}
