/** How every answer that is not a success looks: `{"detail": "..."}`, as the stack's clients know it. */
import { STATUS_CODES } from 'node:http'
import type { Context, Middleware } from 'koa'
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Logger } from '../telemetry/logger.ts'

/** Thrown by a handler that will not go on: the customer gets `status`, `{"detail": message, ...fields}` and `headers`, the log `cause`. */
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

/** What goes with a 503: it is worth coming back soon. */
export const RETRY_SOON = { 'Retry-After': '1' }

/** While the service is drained, which takes a minute at the least. */
export const RETRY_LATER = { 'Retry-After': '30' }

/** Answers in JSON; the type without a charset is what today's clients see. */
export function answer(ctx: Context, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  ctx.status = status
  ctx.set('Content-Type', 'application/json')
  for (const name in headers) ctx.set(name, headers[name]!)
  ctx.body = body
}

/** An outage refuses hundreds of customers a second: each reason is worth one line in this time. */
const QUIET_MS = 60_000

/** Tells the log why customers are refused. */
function reasons(logger: Logger): (refusal: Refusal, requestId: unknown) => void {
  const toldAt = new Map<string, number>()
  return (refusal, requestId) => {
    const what = `${refusal.message}: ${reasonOf(refusal.cause)}`
    const now = performance.now()
    for (const [one, at] of toldAt) if (now - at >= QUIET_MS) toldAt.delete(one)
    if (toldAt.has(what)) return
    toldAt.set(what, now)
    logger.error({ err: refusal.cause, detail: refusal.message, requestId }, 'customers are refused')
  }
}

/** Turns what handlers throw, and paths and methods that nobody serves, into answers. Nothing gets past it. */
export function refusals(logger: Logger): Middleware {
  const tell = reasons(logger)
  return async (ctx, next) => {
    try {
      await next()
      if (ctx.status >= 400 && ctx.body == null) answer(ctx, ctx.status, { detail: STATUS_CODES[ctx.status] ?? 'Error' })
    } catch (error) {
      if (error instanceof Refusal) {
        if (error.cause !== undefined) tell(error, ctx.state.requestId)
        return answer(ctx, error.status, { detail: error.message, ...error.fields }, error.headers)
      }
      logger.error({ err: error, requestId: ctx.state.requestId, orderId: ctx.state.orderId }, 'request failed')
      answer(ctx, 500, { detail: 'Internal server error' })
    }
  }
}
