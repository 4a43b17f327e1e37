/** Logs and measures each request, without tokens, addresses or emails. */
import type { Middleware } from 'koa'
import { randomUUID } from 'node:crypto'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** The ids that we accept from a gateway or client. Other text could forge or bloat log lines. */
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/

/** Routes that machines poll every few seconds; they are logged at debug level. */
const QUIET = /\/(health|ready|metrics)$/

/** Gives each request an id and returns it in `X-Request-Id`. Routes are labelled by pattern, so that labels stay few. */
export function requestLog({
  logger,
  metrics,
  stopping,
}: {
  logger: Logger
  metrics: Pick<Metrics, 'httpSeconds'>
  stopping: () => boolean
}): Middleware {
  return async (ctx, next) => {
    const began = performance.now()
    const given = ctx.get('X-Request-Id')
    const requestId = REQUEST_ID.test(given) ? given : randomUUID()
    ctx.state.requestId = requestId
    ctx.set('X-Request-Id', requestId)

    await next()

    if (stopping()) ctx.set('Connection', 'close')
    const ms = performance.now() - began
    const route = String(ctx._matchedRoute ?? 'none')
    const { method, status } = ctx
    metrics.httpSeconds.observe({ route, method, status }, ms / 1000)
    const line = { method, route, status, ms: Math.round(ms * 10) / 10, requestId, orderId: ctx.state.orderId }
    if (status < 500 && QUIET.test(route)) logger.debug(line, 'request')
    else logger.info(line, 'request')
  }
}
