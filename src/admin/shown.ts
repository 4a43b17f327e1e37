/** Formats values for terminals. Text from outside must not control the terminal. */

import { textOf } from '../operators/utf8.ts'

/** Control and format characters (also those that change the writing direction), line and paragraph separators, lone surrogates. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu
const named: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** The text, with characters escaped that a terminal would act on. */
export const safe = (text: string): string =>
  text.replace(UNSAFE, (char) => named[char] ?? `\\u{${char.codePointAt(0)!.toString(16).padStart(4, '0')}}`)

/** Valid JSON, with characters escaped that a terminal would act on. */
export const safeJson = (value: unknown): string =>
  JSON.stringify(value, null, 2).replace(UNSAFE, (char) =>
    char === '\n' ? char : Array.from({ length: char.length }, (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''),
  )

/** `none`, the text, or `base64:` followed by base64. */
export function shownBytes(bytes: Buffer | null): string {
  if (bytes === null) return 'none'
  const text = textOf(bytes)
  return text === undefined ? `base64:${bytes.toString('base64')}` : safe(text)
}

/** Bytes in JSON, labelled as text or base64. */
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

/** Cuts by characters, not by UTF-16 units. */
export function cut(text: string, most: number): string {
  const characters = [...text]
  return characters.length <= most ? text : `${characters.slice(0, most - 3).join('')}...`
}

/** Aligned columns. The first row is the heading; the last column has no padding. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => [...row[column]!].length)))
  const cells = (row: readonly string[]) =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell + ' '.repeat(widths[i]! - [...cell].length)))
  return rows.map((row) => cells(row).join('  ').trimEnd()).join('\n')
}
