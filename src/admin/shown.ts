/** How things are shown to people: nothing that came from outside may steer a terminal. */

/** Control and format characters (among them those that turn the direction of writing), line and paragraph separators, lone surrogates. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu
const named: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** As it is, but for characters that a terminal would act on. */
export const safe = (text: string): string =>
  text.replace(UNSAFE, (char) => named[char] ?? `\\u{${char.codePointAt(0)!.toString(16).padStart(4, '0')}}`)

/** JSON that is still JSON, and that a terminal shows as it is. */
export const safeJson = (value: unknown): string =>
  JSON.stringify(value, null, 2).replace(UNSAFE, (char) =>
    char === '\n' ? char : Array.from({ length: char.length }, (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''),
  )

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text where the bytes are UTF-8. */
export function textOf(bytes: Buffer): string | undefined {
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

/** `none`, the text, or `base64:` and the bytes in base64. */
export function shownBytes(bytes: Buffer | null): string {
  if (bytes === null) return 'none'
  const text = textOf(bytes)
  return text === undefined ? `base64:${bytes.toString('base64')}` : safe(text)
}

/** For machines: which of the two it is stands beside it. */
export function bytesForJson(bytes: Buffer | null): { text: string } | { base64: string } | null {
  if (bytes === null) return null
  const text = textOf(bytes)
  return text === undefined ? { base64: bytes.toString('base64') } : { text }
}

/** UTC, to the second. */
export const shownTime = (time: Date): string =>
  time
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z')

/** By characters, not by halves of them. */
export function cut(text: string, most: number): string {
  const characters = [...text]
  return characters.length <= most ? text : `${characters.slice(0, most - 3).join('')}...`
}

/** Columns one below the other; the first row is the heading. The last column may be as long as it likes. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => [...row[column]!].length)))
  const cells = (row: readonly string[]) =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell + ' '.repeat(widths[i]! - [...cell].length)))
  return rows.map((row) => cells(row).join('  ').trimEnd()).join('\n')
}
