/** Sign-in with email and password, which Auth checks, and sign-out. */
import type { Context, Middleware } from 'koa'
import { type Auth, type Login } from '../../clients/auth.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { ReadToken } from '../auth.ts'
import { readBodyAs } from '../body.ts'
import { Refusal } from '../refusal.ts'
import { within } from '../../within.ts'
import { html } from './html.ts'
import { HOME, page } from './layout.ts'
import { callerAddress } from './protection.ts'
import { beginSession, endSession, pathWithin, SIGN_IN } from './session.ts'
import type { SignInTries } from './tries.ts'

export interface SignInDeps {
  auth: Auth
  tries: SignInTries
  /** How long Auth may take, in ms. */
  authTimeoutMs: number
}

const MAX_FORM_KB = 8

/** The form is always empty: nothing that was typed is shown again. */
function signInPage(ctx: Context, status: number, next: string, message?: string): void {
  const sessionHint =
    ctx.method === 'GET' &&
    ctx.get('Sec-Fetch-Site') === 'cross-site' &&
    html`<p>You followed a link from another site, so your browser did not send your session. If you are signed in, <a href="${next}">continue here</a>.</p>`
  const form = html`
      ${message !== undefined && html`<p class="fault" role="alert" id="fault">${message}</p>`}
      ${sessionHint}
      <form method="post" action="${SIGN_IN}">
        <input type="hidden" name="next" value="${next}">
        <label for="email">Email</label>
        <input id="email" name="email" type="email" autocomplete="username" required autofocus${message !== undefined && html` aria-describedby="fault"`}>
        <label for="password">Password</label>
        <input id="password" name="password" type="password" autocomplete="current-password" required>
        <button>Sign in</button>
      </form>
      <p class="note">Operators sign in with their shop account. It needs the role admin, which acts, or support, which reads without emails and addresses.</p>`
  page(ctx, status, 'Sign in', form)
}

export const showSignIn: Middleware = (ctx) => signInPage(ctx, 200, pathWithin(String(ctx.query.next ?? '')))

const readFields = readBodyAs('form', MAX_FORM_KB)

/** Reads a form. Throws a 400 or 413 that quotes nothing of its content. */
export const readForm: Middleware = async (ctx, next) => {
  await readFields(ctx, async () => {}).catch((error: unknown) => {
    throw new Refusal(error instanceof Refusal && error.status === 413 ? 413 : 400, 'The form cannot be read')
  })
  return next()
}

/** Begins a session and redirects to the requested page, or shows the form again with the reason. */
export function signIn(deps: () => SignInDeps, readToken: ReadToken, logger: Logger): Middleware {
  return async (ctx) => {
    const { email, password, next: requested } = ctx.request.body as Record<string, unknown>
    const next = pathWithin(typeof requested === 'string' ? requested : '')
    if (typeof email !== 'string' || typeof password !== 'string' || email === '' || password === '') {
      return signInPage(ctx, 400, next, 'Enter your email and your password.')
    }
    const { auth, tries, authTimeoutMs } = deps()
    const attempt = [callerAddress(ctx), email] as const
    const waitS = await tries.count(...attempt)
    if (waitS > 0) {
      ctx.set('Retry-After', String(waitS))
      return signInPage(ctx, 429, next, `Too many attempts. Try again in ${inWords(waitS)}.`)
    }
    const notCounted = async (error: unknown) => {
      logger.warn({ err: error, requestId: ctx.state.requestId }, 'sign-in not possible: Auth is unavailable or its token is invalid')
      await tries.uncount(...attempt)
    }
    let login: Login
    try {
      login = await within(authTimeoutMs, auth.login(email, password))
    } catch (error) {
      await notCounted(error)
      return signInPage(ctx, 503, next, 'Auth is unreachable or too slow, so nobody can sign in at the moment. Try again soon.')
    }
    if (login.login === 'refused') return signInPage(ctx, 401, next, 'Email or password is wrong.')
    let begun: boolean
    try {
      begun = await beginSession(ctx, readToken, login.accessToken)
    } catch (error) {
      await notCounted(error)
      return signInPage(ctx, 503, next, 'Auth issued a token that this service does not accept. Check that both have the same JWT_SECRET.')
    }
    if (!begun) return signInPage(ctx, 403, next, 'This account has neither the admin nor the support role.')
    await tries.reset(...attempt)
    ctx.status = 303
    ctx.redirect(next)
  }
}

const inWords = (seconds: number) => (seconds < 60 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`)

export const showSignOut: Middleware = (ctx) =>
  page(
    ctx,
    200,
    'Sign out',
    html`<form method="post" action="${HOME}/sign-out"><p>This ends your session in this browser.</p><p class="note">Your name in the log is ${ctx.state.operator as string}.</p><button>Sign out</button></form>`,
  )

export const signOut: Middleware = (ctx) => {
  endSession(ctx)
  ctx.status = 303
  ctx.redirect(SIGN_IN)
}
