/** How every answer that is not a success looks: `{"detail": "..."}`, as the stack's clients know it. */
import { STATUS_CODES } from 'node:http'
import type { Context, Middleware } from 'koa'
import type { Logger } from '../telemetry/logger.ts'

/** Thrown by a handler that will not go on: the customer gets `status`, `{"detail": message, ...fields}` and `headers`. */
export class Refusal extends Error {
  override name = 'Refusal'
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly fields: Readonly<Record<string, string>>

  constructor(
    status: number,
    detail: string,
    { headers = {}, fields = {} }: { headers?: Record<string, string>; fields?: Record<string, string> } = {},
  ) {
    super(detail)
    this.status = status
    this.headers = headers
    this.fields = fields
  }
}

/** What goes with a 503: it is worth coming back soon. */
export const RETRY_SOON = { 'Retry-After': '1' }

/** Answers in JSON; the type without a charset is what today's clients see. */
export function answer(ctx: Context, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  ctx.status = status
  ctx.set('Content-Type', 'application/json')
  for (const name in headers) ctx.set(name, headers[name]!)
  ctx.body = body
}

/** Turns what handlers throw, and paths and methods that nobody serves, into answers. Nothing gets past it. */
export function refusals(logger: Logger): Middleware {
  return async (ctx, next) => {
    try {
      await next()
      if (ctx.status >= 400 && ctx.body == null) answer(ctx, ctx.status, { detail: STATUS_CODES[ctx.status] ?? 'Error' })
    } catch (error) {
      if (error instanceof Refusal) return answer(ctx, error.status, { detail: error.message, ...error.fields }, error.headers)
      logger.error({ err: error, requestId: ctx.state.requestId, orderId: ctx.state.orderId }, 'request failed')
      answer(ctx, 500, { detail: 'Internal server error' })
    }
  }
}
