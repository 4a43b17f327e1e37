/** What machines ask of any of our processes: whether it lives, whether it can work, who it is, and its numbers. */
import { Router } from '@koa/router'
import manifest from '../../package.json' with { type: 'json' }
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { answer } from './refusal.ts'
import { within } from '../within.ts'

/** One component that a process needs, or, `required: false`, only tells about. */
export interface Check {
  name: string
  required: boolean
  /** Resolves where the component can be used; the reason in what it throws is shown. */
  check: () => Promise<unknown>
}

/** A component that has not answered by then counts as away. */
const CHECK_MS = 1000
/** Gauges that PostgreSQL and Redis have not told by then keep their last value. */
const SCRAPE_MS = 3000
/** Everybody who scrapes within this time gets the same text: a Prometheus asks every 15 s, and the route is open to all. */
const SHARED_MS = 5000

export interface OpsDeps {
  checks: readonly Check[]
  /** undefined: another port serves them */
  metrics: Pick<Metrics, 'registry' | 'refresh'> | undefined
  /** False from the start until the process can do its work. */
  started: () => boolean
  /** True from the moment that the process has been asked to end. */
  stopping: () => boolean
}

/** Liveness asks nothing of anybody; readiness asks every component, all at once. */
export function opsRoutes({ checks, metrics, started, stopping }: OpsDeps): Router {
  const router = new Router()

  router.get(['/health', '/order/health'], (ctx) => answer(ctx, 200, { status: 'ok' }))

  router.get(['/ready', '/order/ready'], async (ctx) => {
    const components = await Promise.all(checks.map(async (component) => ({ component, state: await stateOf(component) })))
    const missing = components.some(({ component, state }) => component.required && state !== 'ok')
    const status = stopping() ? 'stopping' : !started() ? 'starting' : missing ? 'not ready' : 'ready'
    const shown = components.map(({ component, state }) => [component.name, { state, required: component.required }])
    answer(ctx, status === 'ready' ? 200 : 503, { status, components: Object.fromEntries(shown) })
  })

  router.get(['/v1/_info', '/order/v1/_info'], (ctx) => answer(ctx, 200, { service: 'order', version: manifest.version }))

  if (metrics) {
    const text = metricsText(metrics)
    router.get(['/metrics', '/order/metrics'], async (ctx) => {
      ctx.body = await text()
      ctx.set('Content-Type', metrics.registry.contentType)
    })
  }

  return router
}

/** @returns a function for the text that Prometheus reads; one refresh, and one rendering, for all who ask within {@link SHARED_MS} */
function metricsText({ registry, refresh }: Pick<Metrics, 'registry' | 'refresh'>): () => Promise<string> {
  let text: Promise<string> | undefined
  let askedAt = 0
  return () => {
    if (!text || performance.now() - askedAt >= SHARED_MS) {
      askedAt = performance.now()
      text = within(SCRAPE_MS, refresh())
        .catch(() => {})
        .then(() => registry.metrics())
    }
    return text
  }
}

async function stateOf({ check }: Check): Promise<string> {
  try {
    await within(CHECK_MS, check())
    return 'ok'
  } catch (error) {
    return reasonOf(error)
  }
}
