/** Validates the body of a checkout and its `Idempotency-Key`. */
import { hash } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import { z } from 'zod'
import { type Address, keyOfCart, type Line, storable } from '../model.ts'
import { mediaType, readBodyAs } from './body.ts'
import { Refusal } from './refusal.ts'
import { lengthWithin } from './text.ts'

/** An address takes at most 3 kB; the rest is room for unknown fields, which are ignored. */
const MAX_BODY_KB = 256

const missingOr = (message: string) => (issue: { input?: unknown }) => (issue.input === undefined ? 'is missing' : message)
const text = (min: number, max: number) =>
  z
    .string({ error: missingOr('is not a string') })
    .refine((value) => value.length >= min && lengthWithin(value, max), { error: `must have ${min} to ${max} characters`, abort: true })
    .refine(storable, { error: 'contains a NUL or an unpaired surrogate' })
/** Text with at least one visible character. */
const visible = (max: number) => text(1, max).refine((value) => /[^\p{Z}\p{Cc}\p{Cf}]/u.test(value), { error: 'is blank' })

const body = z.object(
  {
    address_line1: visible(255),
    address_line2: text(0, 255)
      .nullish()
      .transform((line) => line ?? ''),
    city: visible(128),
    postcode: visible(32),
    country: z
      .string({ error: missingOr('is not a string') })
      .regex(/^[A-Za-z]{2}$/, { error: 'must be two letters' })
      .transform((country) => country.toUpperCase()),
  },
  { error: 'is not a JSON object' },
)

/** A valid checkout request. `requestHash` covers only the body, in normal form: the same address always has the same hash. */
export interface CheckoutRequest {
  address: Address
  requestHash: string
}

const fingerprint = (canonical: string): string => hash('sha256', canonical)

const readJson = readBodyAs('json', MAX_BODY_KB)

/**
 * Reads JSON. A missing content type counts as JSON, as in the predecessor.
 * Throws a 422 for another content type or an empty body, and what {@link readBodyAs} throws.
 */
export const readBody: Middleware = (ctx, next) => {
  if (!/^(application\/(json|.*\+json))?$/.test(mediaType(ctx))) {
    throw new Refusal(422, 'The body must be JSON; send Content-Type: application/json')
  }
  return readJson(ctx, () => {
    if (ctx.request.rawBody === '') throw new Refusal(422, 'The body is empty')
    return next()
  })
}

/** @throws Refusal 422 that names the invalid fields */
export function readCheckoutRequest(given: unknown): CheckoutRequest {
  const read = body.safeParse(given)
  if (!read.success) {
    const faults = read.error.issues.map(({ path, message }) => `${path.join('.') || 'The body'} ${message}`)
    throw new Refusal(422, faults.join('; '))
  }
  const { address_line1, address_line2, city, country, postcode } = read.data
  const address = { address_line1, address_line2, city, country, postcode }
  return { address, requestHash: fingerprint(JSON.stringify(address)) }
}

/** @returns undefined if none was sent. @throws Refusal 422 unless it is 1 to 255 visible ASCII characters */
export function readIdempotencyKey(ctx: Context): string | undefined {
  const key = ctx.req.headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key
  throw new Refusal(422, 'Idempotency-Key must be 1 to 255 visible ASCII characters without spaces')
}

/** The key of a request without an Idempotency-Key, derived from cart and address, so that a double click finds the first checkout. */
export function keyOf(requestHash: string, lines: readonly Line[]): string {
  return keyOfCart(fingerprint(requestHash + JSON.stringify(lines)).slice(0, 32))
}
