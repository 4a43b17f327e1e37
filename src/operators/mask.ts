/** What operators with the role `support` see of a customer. */

/** `a***@example.com`: enough to recognise a customer who calls, and too little to write to. */
export function maskEmail(email: string | null): string | null {
  if (email === null) return null
  const [name = '', domain] = email.split('@')
  return `${[...name][0] ?? ''}***${domain === undefined ? '' : `@${domain}`}`
}
