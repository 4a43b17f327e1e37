/** Reads a message of the payment topic: from its bytes to an event, or to the reason why it is none. Pure. */
import { createHash } from 'node:crypto'
import type { Message, ReadMessage } from '../db/inbox.ts'
import { MAX_INTEGER, type PaymentEvent } from '../model.ts'

/** In characters: no payment provider has longer ids. They are stored and indexed. */
const MOST_NAME = 255
const MOST_CURRENCY = 16
/** The reason of a failed payment is only stored: a longer one is cut. */
const MOST_REASON = 500

/** The message says what is wrong without quoting any content, since it is shown, logged and published. */
class Unreadable extends Error {}
/** The message can be read in two ways. */
class Ambiguous extends Error {}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Reads the flat form and the envelope (wire contract, "Kafka"); the key is not needed. Never throws.
 * @returns `ignored` for types that do not concern an order
 */
export function readPaymentMessage(message: Message): ReadMessage {
  try {
    const text = textOf(message.value)
    const outer = objectOf(text)
    const { type } = outer
    const counts = countAll(text)
    if (counts.types > 1) throw new Ambiguous('it has two types')
    if (typeof type !== 'string') throw new Unreadable(`type is ${kindOf(type)}; it must be a string`)
    if (type !== 'payment.succeeded' && type !== 'payment.failed') return { ...message, read: 'ignored' }
    if (counts.orderIds > 1) throw new Ambiguous('it has two order ids')
    const event = eventOf(type, fieldsOf(outer))
    return { ...message, read: 'event', event, identity: identityOf(event) }
  } catch (error) {
    // Any error is caused by this message, and must not stop the others.
    if (error instanceof Ambiguous) return unreadable(message, error.message, 'ambiguous')
    return unreadable(message, error instanceof Unreadable ? error.message : 'the reader failed')
  }
}

/** For a message that cannot be stored as an event, for a reason found elsewhere. */
export function unreadable(message: Message, reason: string, read: 'unreadable' | 'ambiguous' = 'unreadable'): ReadMessage {
  const { offset, key, value, headers, sentAt } = message
  return { offset, key, value, headers, sentAt, read, reason, bytesHash: hashOf([base64(key), base64(value)]) }
}

function textOf(value: Buffer | null): string {
  if (value === null) throw new Unreadable('the value is missing')
  if (value.length === 0) throw new Unreadable('the value is empty')
  return decode(value)
}

function objectOf(text: string): Record<string, unknown> {
  const outer = parse(text)
  if (!isObject(outer)) throw new Unreadable(`the value is ${kindOf(outer)}; it must be an object`)
  return outer
}

/** The event's own fields. In an envelope, those of `data` win over those around it. */
function fieldsOf({ data, ...around }: Record<string, unknown>): Record<string, unknown> {
  if (data === undefined || data === null) return around
  if (!isObject(data)) throw new Unreadable(`data is ${kindOf(data)}; it must be an object`)
  const { type, order_id: orderId } = around
  return { ...around, ...data, type, order_id: orderId ?? data.order_id }
}

const ESCAPE = /\\(?:u([0-9a-f]{4})|.)/gi
const STRING_OR_KEY = /"([^"]*)"(\s*:)?/g

/**
 * Counts the different order ids and types. `JSON.parse` keeps only the last of equal keys, so the keys are numbered first.
 * @param text of a JSON object
 */
function countAll(text: string): { orderIds: number; types: number } {
  if (!/"(order_id|type|data)"[^]*"\1"|\\u/.test(text)) return { orderIds: 1, types: 1 } // nearly all messages
  let keys = 0
  const numbered = text
    // Keys may contain escapes. Without escapes a string ends at the next quote.
    .replace(ESCAPE, (_, hex = '') => /[a-z_]/i.exec(String.fromCharCode(Number.parseInt(hex, 16)))?.[0] ?? '?')
    .replace(STRING_OR_KEY, (whole, name, colon) => (colon ? `"${keys++} ${name}":` : whole))
  const outer = JSON.parse(numbered) as Record<string, unknown>
  const valuesOf = (object: object, name: string) =>
    Object.entries(object).flatMap(([key, value]) => (key.replace(/^\d+ /, '') === name && value !== null ? [value] : []))
  const count = (values: unknown[]) => new Set(values.map((value) => JSON.stringify(value))).size
  return {
    orderIds: count([outer, ...valuesOf(outer, 'data').filter(isObject)].flatMap((object) => valuesOf(object, 'order_id'))),
    types: count(valuesOf(outer, 'type')),
  }
}

function decode(value: Buffer): string {
  try {
    return utf8.decode(value)
  } catch {
    throw new Unreadable('the value is not UTF-8')
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Unreadable('the value is not JSON')
  }
}

function eventOf(type: PaymentEvent['type'], fields: Record<string, unknown>): PaymentEvent {
  const { order_id: orderId, amount_cents: amountCents = null } = fields
  if (typeof orderId !== 'number' || !Number.isInteger(orderId) || orderId < 1 || orderId > MAX_INTEGER)
    throw new Unreadable(`order_id must be an integer from 1 to ${MAX_INTEGER}`)
  if (amountCents !== null && (typeof amountCents !== 'number' || !Number.isSafeInteger(amountCents) || amountCents < 0))
    throw new Unreadable('amount_cents must be an integer from 0 to 2^53 - 1')
  const reason = stringOf('reason', fields.reason)?.slice(0, MOST_REASON).toWellFormed()
  const code = stringOf('code', asText('code', fields.code))?.slice(0, MOST_REASON).toWellFormed()
  return {
    type,
    orderId,
    amountCents,
    currency: stringOf('currency', fields.currency, MOST_CURRENCY)?.toUpperCase() ?? null,
    provider: stringOf('provider', fields.provider, MOST_NAME),
    paymentId: stringOf('payment_id', asText('payment_id', fields.payment_id), MOST_NAME),
    details: type === 'payment.failed' ? { ...(reason && { reason }), ...(code && { code }) } : {},
  }
}

/** Numbers beyond JavaScript's exact integers could make two ids equal. */
function asText(name: string, value: unknown): unknown {
  if (typeof value !== 'number') return value
  if (!Number.isSafeInteger(value)) throw new Unreadable(`${name} is a number that is not an exact integer`)
  return String(value)
}

/** An empty string counts as missing: with an empty id, all payments would be the same. */
function stringOf(name: string, value: unknown, most = Number.POSITIVE_INFINITY): string | null {
  if (value === undefined || value === null || value === '') return null
  if (typeof value !== 'string') throw new Unreadable(`${name} is ${kindOf(value)}; it must be a string`)
  if (value.length > most) throw new Unreadable(`${name} is longer than ${most} characters`)
  // PostgreSQL can store neither.
  if (value.includes('\0') || !value.isWellFormed()) throw new Unreadable(`${name} contains a NUL or a lone surrogate`)
  return value
}

/** One payment has one identity, in either form and whatever else the message contains. */
function identityOf({ type, provider, paymentId, orderId, amountCents, currency }: PaymentEvent): string {
  return hashOf(paymentId === null ? [type, 'order', orderId, amountCents, currency] : [type, 'payment', provider, paymentId])
}

const hashOf = (parts: readonly (string | number | null)[]) => createHash('sha256').update(JSON.stringify(parts)).digest('hex')
const base64 = (bytes: Buffer | null) => bytes?.toString('base64') ?? null

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

function kindOf(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
