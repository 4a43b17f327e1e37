/** One log line and one observation a request. No token, address or email is in either. */
import type { Middleware } from 'koa'
import { randomUUID } from 'node:crypto'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** What we take over from a gateway or a client; anything else could forge log lines or bloat them. */
const SANE = /^[A-Za-z0-9._:-]{1,128}$/

/** Asked for every few seconds by machines: not worth a line. */
const QUIET = /\/(health|ready|metrics)$/

/** Gives each request its id (`X-Request-Id`, sent back too). Routes are told by their pattern, so that labels stay few. */
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
    const requestId = SANE.test(given) ? given : randomUUID()
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
