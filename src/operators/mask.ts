/** What operators with the role `support` see of a customer. */
import type { OrderLife, OrderRow } from './orders.ts'

/** `a***@example.com`: enough to recognise a customer who calls, and too little to write to. */
export function maskEmail(email: string | null): string | null {
  if (email === null) return null
  const [name = '', domain] = email.split('@')
  return `${[...name][0] ?? ''}***${domain === undefined ? '' : `@${domain}`}`
}

const EMAILS = /[^\s@"'<>()[\]{},;:=]+@[^\s@"'<>()[\]{},;:=]+/g

/** Masks what looks like an email in a text that people or other services wrote. */
export const maskText = (text: string): string => text.replace(EMAILS, (email) => maskEmail(email)!)

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
