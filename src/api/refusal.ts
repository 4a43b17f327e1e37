/** Error answers in the form that the stack's clients expect: `{"detail": "..."}`. */
import { STATUS_CODES } from 'node:http'
import type { Context, Middleware } from 'koa'
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Logger } from '../telemetry/logger.ts'

/** Thrown by handlers. The customer gets `status`, `{"detail": message, ...fields}` and `headers`; `cause` is logged. */
export class Refusal extends Error {
  override name = 'Refusal'
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly fields: Readonly<Record<string, string>>

  constructor(
    status: number,
    detail: string,
    { headers = {}, fields = {}, cause }: { headers?: Record<string, string>; fields?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(detail, { cause })
    this.status = status
    this.headers = headers
    this.fields = fields
  }
}

/** For a 503 that a retry may get past soon. */
export const RETRY_SOON = { 'Retry-After': '1' }

/** For a 503 while the service is drained, which takes at least a minute. */
export const RETRY_LATER = { 'Retry-After': '30' }

/** Answers in JSON. The content type has no charset, as today's clients expect. */
export function answer(ctx: Context, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  ctx.status = status
  ctx.set('Content-Type', 'application/json')
  for (const name in headers) ctx.set(name, headers[name]!)
  ctx.body = body
}

/** An outage refuses hundreds of requests a second. Each reason is logged once in this time. */
const LOG_EVERY_MS = 60_000

/** Logs why requests are refused. */
function refusalLog(logger: Logger): (refusal: Refusal, requestId: unknown) => void {
  const loggedAt = new Map<string, number>()
  return (refusal, requestId) => {
    const reason = `${refusal.message}: ${reasonOf(refusal.cause)}`
    const now = performance.now()
    for (const [one, at] of loggedAt) if (now - at >= LOG_EVERY_MS) loggedAt.delete(one)
    if (loggedAt.has(reason)) return
    loggedAt.set(reason, now)
    logger.error({ err: refusal.cause, detail: refusal.message, requestId }, 'customer requests refused')
  }
}

/** Answers for every error that a handler throws, and for unknown paths and methods. */
export function refusals(logger: Logger): Middleware {
  const logCause = refusalLog(logger)
  return async (ctx, next) => {
    try {
      await next()
      if (ctx.status >= 400 && ctx.body == null) answer(ctx, ctx.status, { detail: STATUS_CODES[ctx.status] ?? 'Error' })
    } catch (error) {
      if (error instanceof Refusal) {
        if (error.cause !== undefined) logCause(error, ctx.state.requestId)
        return answer(ctx, error.status, { detail: error.message, ...error.fields }, error.headers)
      }
      logger.error({ err: error, requestId: ctx.state.requestId, orderId: ctx.state.orderId }, 'request failed')
      answer(ctx, 500, { detail: 'Internal server error' })
    }
  }
}
