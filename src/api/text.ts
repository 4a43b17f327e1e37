/** Text that comes from outside: how it is read, and how its characters count. */
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate } from 'node:zlib'
import type { Context } from 'koa'
import rawBody from 'raw-body'
import { Refusal } from './refusal.ts'

/** What `Content-Encoding` may name, in any case (RFC 9110, section 8.4.1). */
const unpackers = new Map([
  ['gzip', promisify(gunzip)],
  ['x-gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
  ['br', promisify(brotliDecompress)],
])

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** What `Content-Type` names, in small letters and without its parameters, which may be malformed; '' where none was sent. */
export const mediaType = (ctx: Context): string => ctx.get('Content-Type').split(';', 1)[0]!.trim().toLowerCase()

/**
 * Reads a request's body as text, unpacked, without a byte order mark.
 * @param mostKB of the body, and of what it is unpacked to
 * @throws Refusal 413 for what is larger; 400 for what ends early or is not UTF-8; 422 for what is not packed as `Content-Encoding` says
 */
export async function readText(ctx: Context, mostKB: number): Promise<string> {
  const coding = ctx.get('Content-Encoding').trim().toLowerCase()
  const unpack = unpackers.get(coding)
  if (!unpack && coding !== '' && coding !== 'identity') {
    throw new Refusal(422, 'Content-Encoding has to be gzip, deflate, br or identity')
  }
  const tooLarge = () => new Refusal(413, `The body is larger than ${mostKB} kB`)
  const most = mostKB * 1024
  const sent = await rawBody(ctx.req, { limit: most, length: ctx.get('Content-Length') || null }).catch((error: { status?: number }) => {
    throw error.status === 413 ? tooLarge() : new Refusal(400, 'The body ended early')
  })
  const unpacked = unpack?.(sent, { maxOutputLength: most }).catch((error: { code?: string }) => {
    throw error.code === 'ERR_BUFFER_TOO_LARGE' ? tooLarge() : new Refusal(422, 'The body is not packed as Content-Encoding says')
  })
  const bytes = (await unpacked) ?? sent
  try {
    return utf8.decode(bytes)
  } catch {
    throw new Refusal(400, 'The body is not UTF-8')
  }
}

/** Characters as `varchar(n)` counts them: an emoji is one, where JavaScript sees two units. */
export function lengthWithin(text: string, max: number): boolean {
  if (text.length <= max) return true
  return text.length <= 2 * max && [...text].length <= max
}
