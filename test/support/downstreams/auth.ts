/** The Auth that issues the tokens: a login over HTTP, and tokens of any kind for tests. */
import { createSecretKey } from 'node:crypto'
import jwt from 'jsonwebtoken'
import { openListener } from './listener.ts'
import { type Answer, Exchange, json, readJson, refusal, unprocessable } from './exchange.ts'

/** A token to make. What is left out is as Auth issues it. */
export interface TokenOptions {
  /** The customer's email; without it the token says of no one. */
  sub?: string
  role?: string
  type?: string
  /** Negative for a token that has expired; null for one that never does. */
  expiresInS?: number | null
  secret?: string
  /** `none` leaves the token unsigned. */
  algorithm?: jwt.Algorithm
  /** Claims beside these, or in their place. */
  claims?: Record<string, unknown>
}

export interface Auth {
  base: string
  /** A token as Auth would issue it, or as it never would. */
  token(options: TokenOptions): string
  /** Every login gets this from now on: an answer of ours, or none. Without an argument Auth is itself again. */
  instead(answer?: { status: number; body: unknown } | 'hang'): void
  /** The bodies of all logins, as they came. */
  readonly logins: readonly unknown[]
  /** Refuses connections and cuts the open ones. */
  down(): Promise<void>
  /** Is back, at the same port. */
  up(): Promise<void>
  stop(): Promise<void>
}

/** The password of everybody. */
export const password = 'secret'

/** The only admin, and an account that may only read. */
export const adminEmail = 'admin@example.com'
export const supportEmail = 'support@example.com'

const accessS = 15 * 60
const refreshS = 7 * 24 * 60 * 60

/** Opens an Auth that knows everybody. */
export async function openAuth({ jwtSecret, port }: { jwtSecret: string; port?: number }): Promise<Auth> {
  // Made once: signing with the text itself takes four times as long.
  const key = createSecretKey(Buffer.from(jwtSecret))

  function token({
    sub,
    role = 'customer',
    type = 'access',
    expiresInS = accessS,
    secret,
    algorithm = 'HS256',
    claims,
  }: TokenOptions): string {
    const now = Math.floor(Date.now() / 1000)
    const payload = {
      ...(sub !== undefined && { sub }),
      role,
      type,
      ...(expiresInS !== null && { exp: now + expiresInS }),
      iat: now,
      ...claims,
    }
    const signedWith = algorithm === 'none' ? '' : secret === undefined ? key : secret
    return jwt.sign(payload, signedWith, { algorithm })
  }

  let told: { status: number; body: unknown } | 'hang' | undefined
  const logins: unknown[] = []

  function login(body: unknown): Answer {
    const { email, password: given } = (body ?? {}) as Record<string, unknown>
    if (typeof email !== 'string' || !email.includes('@')) return unprocessable(['email'], 'value is not a valid email address')
    if (typeof given !== 'string') return unprocessable(['password'], 'Input should be a valid string')
    if (given !== password) return refusal(401, 'Invalid credentials')
    const role = email === adminEmail ? 'admin' : email === supportEmail ? 'support' : 'customer'
    return json(200, {
      access_token: token({ sub: email, role }),
      refresh_token: token({ sub: email, role, type: 'refresh', expiresInS: refreshS, claims: { jti: crypto.randomUUID() } }),
      token_type: 'bearer',
    })
  }

  const listener = await openListener((req, res) => {
    const exchange = new Exchange(res, () => undefined)
    if (req.method === 'POST' && req.url === '/auth/login') {
      return readJson(req, (body) => {
        logins.push(body)
        if (told === 'hang') return
        exchange.answer(told ? json(told.status, told.body) : login(body))
      })
    }
    exchange.answer(refusal(404, 'Not Found'))
  }, port)

  const instead = (answer?: typeof told) => void (told = answer)
  return { base: listener.base, token, instead, logins, down: listener.down, up: listener.up, stop: listener.down }
}
