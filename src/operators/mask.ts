/** What operators with the role `support` see of a customer. */
import type { OrderLife, OrderRow } from './orders.ts'

/** `a***@example.com`: enough to recognise a customer who calls, and too little to write to. */
export function maskEmail(email: string | null): string | null {
  if (email === null) return null
  const [name = '', domain] = email.split('@')
  return `${[...name][0] ?? ''}***${domain === undefined ? '' : `@${domain}`}`
}

/** It begins at the first character of a word only: a message may be a word of a megabyte, which would be searched again from each character. */
const EMAILS = /(?<![^\s@"'<>()[\]{},;:=])[^\s@"'<>()[\]{},;:=]+@[^\s@"'<>()[\]{},;:=]+/g

/** An `@` as JSON and URLs may write it. */
const ESCAPED_AT = /\\u0040|%40/gi

/** Masks what looks like an email in a text that people or other services wrote. */
export const maskText = (text: string): string => text.replace(ESCAPED_AT, '@').replace(EMAILS, (email) => maskEmail(email)!)

/** Masks every text of a value as pages show it. Bytes and times stay as they are. */
export function maskTexts<Shown>(shown: Shown): Shown {
  if (typeof shown === 'string') return maskText(shown) as Shown
  if (Array.isArray(shown)) return shown.map(maskTexts) as Shown
  if (typeof shown !== 'object' || shown === null || Object.getPrototypeOf(shown) !== Object.prototype) return shown
  return Object.fromEntries(Object.entries(shown).map(([name, value]) => [name, maskTexts(value)])) as Shown
}

export const maskRow = <Row extends OrderRow>(row: Row): Row => ({ ...row, email: maskEmail(row.email) })

/** For a problem, an item or a service: what it shows is the text of an error. */
export const maskEvidence = <Shown extends { evidence: string }>(shown: Shown): Shown => ({ ...shown, evidence: maskText(shown.evidence) })

/** Without address and stack traces, with masked emails. */
export function maskLife(life: OrderLife): OrderLife {
  return {
    ...maskRow(life),
    idempotencyKey: life.idempotencyKey === null ? null : maskText(life.idempotencyKey),
    summary: maskText(life.summary),
    address: null,
    timeline: life.timeline.map((entry) => ({
      ...entry,
      ...(entry.detail && { detail: maskText(entry.detail) }),
      ...(entry.operator !== undefined && { operator: maskText(entry.operator) }),
      stack: null,
    })),
  }
}
