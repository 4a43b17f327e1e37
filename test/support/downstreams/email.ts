/** Domains that deliver nowhere; Shipping refuses them, though `example.com` passes. */
const specialUse = new Set(['arpa', 'invalid', 'local', 'localhost', 'onion', 'test'])

const localPart = /^[\p{L}\p{N}!#$%&'*+\-/=?^_`{|}~]+(\.[\p{L}\p{N}!#$%&'*+\-/=?^_`{|}~]+)*$/u
const label = /^[\p{L}\p{N}]([\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?$/u

/** Why Shipping's strict check refuses an address, or nothing where it takes it. */
export function emailFlaw(email: string): string | undefined {
  const at = email.lastIndexOf('@')
  if (at < 1) return 'An email address must have an @-sign.'
  const local = email.slice(0, at)
  const labels = email.slice(at + 1).split('.')
  const top = labels.at(-1)?.toLowerCase() ?? ''
  if (email.length > 254 || local.length > 64) return 'The email address is too long.'
  if (!localPart.test(local)) return 'The email address contains invalid characters before the @-sign.'
  if (!labels.every((part) => label.test(part))) return 'The part after the @-sign contains invalid characters.'
  if (specialUse.has(top)) return 'The part after the @-sign is a special-use or reserved name that cannot be used with email.'
  if (labels.length < 2 || !/\p{L}$/u.test(top)) return 'The part after the @-sign is not valid. It should have a period.'
  return undefined
}
