/** What a customer may ask: the body of a checkout and its `Idempotency-Key`, checked before anything is done about them. */
import { hash } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import { z } from 'zod'
import { type Address, keyOfCart, type Line, storable } from '../model.ts'
import { mediaType, readBodyAs } from './body.ts'
import { Refusal } from './refusal.ts'
import { lengthWithin } from './text.ts'

/** An address takes 3 kB at the most; unknown fields are ignored, but not without end. */
const MAX_BODY_KB = 256

const missingOr = (message: string) => (issue: { input?: unknown }) => (issue.input === undefined ? 'is missing' : message)
const text = (min: number, max: number) =>
  z
    .string({ error: missingOr('is no string') })
    .refine((value) => value.length >= min && lengthWithin(value, max), { error: `has to have ${min} to ${max} characters`, abort: true })
    .refine(storable, { error: 'has a NUL or half of a surrogate pair in it' })
/** Text with something to read in it: a carrier can deliver nothing to spaces. */
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
      .string({ error: missingOr('is no string') })
      .regex(/^[A-Za-z]{2}$/, { error: 'has to be two letters' })
      .transform((country) => country.toUpperCase()),
  },
  { error: 'is no JSON object' },
)

/** A checkout as it was asked for. `requestHash` is over the body alone, in one form for all ways to write the same address. */
export interface CheckoutRequest {
  address: Address
  requestHash: string
}

const fingerprint = (canonical: string): string => hash('sha256', canonical)

const readJson = readBodyAs('json', MAX_BODY_KB)

/**
 * Reads JSON, also where no content type is given, as the predecessor does.
 * Throws a 422 for what is no JSON (another content type, too), and what {@link readBodyAs} throws.
 */
export const readBody: Middleware = (ctx, next) => {
  if (!/^(application\/(json|.*\+json))?$/.test(mediaType(ctx))) {
    throw new Refusal(422, 'The body has to be JSON; send Content-Type: application/json')
  }
  return readJson(ctx, () => {
    if (ctx.request.rawBody === '') throw new Refusal(422, 'The body is empty')
    return next()
  })
}

/** @throws Refusal 422 naming the fields that are wrong */
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

/** @returns undefined where none was sent. @throws Refusal 422 for what is none: 1 to 255 visible ASCII characters */
export function readIdempotencyKey(ctx: Context): string | undefined {
  const key = ctx.req.headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key
  throw new Refusal(422, 'Idempotency-Key has to be 1 to 255 visible ASCII characters without spaces')
}

/** What stands for a cart and an address where a customer sent no key, so that a double click finds the first. */
export function keyOf(requestHash: string, lines: readonly Line[]): string {
  return keyOfCart(fingerprint(requestHash + JSON.stringify(lines)).slice(0, 32))
}
