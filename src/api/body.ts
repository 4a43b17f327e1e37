/** Reads bodies with koa-bodyparser, as strictly as FastAPI does and with our own words for what is wrong. */
import type { Context, Middleware } from 'koa'
import bodyParser from 'koa-bodyparser'
import { Refusal } from './refusal.ts'

/** What `Content-Type` names, in small letters and without its parameters, which may be malformed; '' where none was sent. */
export const mediaType = (ctx: Context): string => ctx.get('Content-Type').split(';', 1)[0]!.trim().toLowerCase()

/**
 * Reads a body into `ctx.request.body`, unpacked; `ctx.request.rawBody` is its text.
 * @param mostKB of the body, and of what it is unpacked to
 * @returns a middleware that throws a Refusal: 413 for what is larger, 400 for what ends early or is not UTF-8, 422 for what is no JSON or
 * not packed as `Content-Encoding` says
 */
export function readBodyAs(kind: 'json' | 'form', mostKB: number): Middleware {
  const parse = bodyParser({
    enableTypes: [kind],
    [`${kind}Limit`]: `${mostKB}kb`,
    strict: false,
    // Whether it is JSON is for the route to say: the parser's own check refuses `application/json; utf-8`.
    detectJSON: () => kind === 'json',
    onerror: (error) => {
      throw unreadable(error, mostKB)
    },
  })
  return (ctx, next) => {
    // RFC 9110, section 8.4.1: in any case, and `x-gzip` is `gzip`. The parser knows small letters alone.
    const coding = ctx.get('Content-Encoding').trim().toLowerCase()
    if (coding !== '') ctx.req.headers['content-encoding'] = coding === 'x-gzip' ? 'gzip' : coding
    return parse(ctx, async () => {
      requireUtf8(ctx.request.rawBody as string | undefined)
      await next()
    })
  }
}

/** The parser puts U+FFFD in the place of bytes that are not UTF-8: an address would be stored with question marks in it. */
function requireUtf8(text: string | undefined): void {
  if (text?.includes('\uFFFD')) throw new Refusal(400, 'The body is not UTF-8')
}

function unreadable(error: Error, mostKB: number): Refusal {
  const { status, type, body } = error as { status?: number; type?: string; body?: string }
  if (status === 413) return new Refusal(413, `The body is larger than ${mostKB} kB`)
  if (status === 415) return new Refusal(422, 'Content-Encoding has to be gzip, deflate, br or identity')
  if (type !== undefined) return new Refusal(400, 'The body ended early') // raw-body's own: aborted, or not as long as said
  requireUtf8(body)
  return new Refusal(422, body === undefined ? 'The body is not packed as Content-Encoding says' : 'The body is malformed JSON')
}
