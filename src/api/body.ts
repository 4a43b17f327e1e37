/** Reads bodies with koa-bodyparser, as strictly as FastAPI does, with our own error details. */
import type { Context, Middleware } from 'koa'
import bodyParser from 'koa-bodyparser'
import { Refusal } from './refusal.ts'

/** The media type of `Content-Type` in lower case, without parameters, which may be malformed; '' if none was sent. */
export const mediaType = (ctx: Context): string => ctx.get('Content-Type').split(';', 1)[0]!.trim().toLowerCase()

/**
 * Reads a body into `ctx.request.body`; `ctx.request.rawBody` is its decoded text.
 * @param mostKB the size limit, before and after decoding
 * @returns a middleware that throws a Refusal: 413 if the body is too large, 400 if it ends early or is not UTF-8, 422 if it is not JSON
 * or not encoded as `Content-Encoding` says
 */
export function readBodyAs(kind: 'json' | 'form', mostKB: number): Middleware {
  const parse = bodyParser({
    enableTypes: [kind],
    [`${kind}Limit`]: `${mostKB}kb`,
    strict: false,
    // The route checks the content type, because the parser refuses `application/json; utf-8`.
    detectJSON: () => kind === 'json',
    onerror: (error) => {
      throw unreadable(error, mostKB)
    },
  })
  return (ctx, next) => {
    // RFC 9110, section 8.4.1: case does not matter, and `x-gzip` is `gzip`. The parser only knows lower case.
    const coding = ctx.get('Content-Encoding').trim().toLowerCase()
    if (coding !== '') ctx.req.headers['content-encoding'] = coding === 'x-gzip' ? 'gzip' : coding
    return parse(ctx, async () => {
      requireUtf8(ctx.request.rawBody as string | undefined)
      await next()
    })
  }
}

/** The parser replaces bytes that are not UTF-8 with U+FFFD, which would be stored in the address. */
function requireUtf8(text: string | undefined): void {
  if (text?.includes('\uFFFD')) throw new Refusal(400, 'The body is not UTF-8')
}

function unreadable(error: Error, mostKB: number): Refusal {
  const { status, type, body } = error as { status?: number; type?: string; body?: string }
  if (status === 413) return new Refusal(413, `The body is larger than ${mostKB} kB`)
  if (status === 415) return new Refusal(422, 'Content-Encoding must be gzip, deflate, br or identity')
  if (type !== undefined) return new Refusal(400, 'The body ended early') // an error of raw-body: the request was aborted, or is shorter than its Content-Length
  requireUtf8(body)
  return new Refusal(422, body === undefined ? 'The body is not encoded as Content-Encoding says' : 'The body is malformed JSON')
}
