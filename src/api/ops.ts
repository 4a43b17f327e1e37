/** Liveness, readiness, version and metrics of a process. */
import { Router } from '@koa/router'
import manifest from '../../package.json' with { type: 'json' }
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { answer } from './refusal.ts'
import { within } from '../within.ts'

/** One component of readiness. `required: false` means that it is only reported. */
export interface Check {
  name: string
  required: boolean
  /** Resolves if the component can be used. The reason of its error is shown. */
  check: () => Promise<unknown>
}

/** A component that has not answered by then counts as unavailable. */
const CHECK_MS = 1000
/** Gauges that have not been read from PostgreSQL and Redis by then keep their last value. */
const SCRAPE_MS = 3000
/** All scrapes within this time get the same text. Prometheus scrapes every 15 s, and the route is public. */
const CACHE_MS = 5000

export interface OpsDeps {
  checks: readonly Check[]
  /** undefined if another port serves them */
  metrics: Pick<Metrics, 'registry' | 'refresh'> | undefined
  /** False until the process has started its work. */
  started: () => boolean
  /** True once the process is shutting down. */
  stopping: () => boolean
}

/** Liveness checks nothing; readiness checks all components in parallel. */
export function opsRoutes({ checks, metrics, started, stopping }: OpsDeps): Router {
  const router = new Router()

  router.get(['/health', '/order/health'], (ctx) => answer(ctx, 200, { status: 'ok' }))

  router.get(['/ready', '/order/ready'], async (ctx) => {
    const components = await readComponents(checks)
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

/** @returns a function for the text that Prometheus reads, with at most one refresh and rendering per {@link CACHE_MS} */
function metricsText({ registry, refresh }: Pick<Metrics, 'registry' | 'refresh'>): () => Promise<string> {
  let text: Promise<string> | undefined
  let refreshedAt = 0
  return () => {
    if (!text || performance.now() - refreshedAt >= CACHE_MS) {
      refreshedAt = performance.now()
      text = within(SCRAPE_MS, refresh())
        .catch(() => {})
        .then(() => registry.metrics())
    }
    return text
  }
}

/** Asks all components in parallel. @returns each with `ok` or the reason why it cannot be used */
export async function readComponents(checks: readonly Check[]): Promise<{ component: Check; state: string }[]> {
  return Promise.all(checks.map(async (component) => ({ component, state: await stateOf(component) })))
}

async function stateOf({ check }: Check): Promise<string> {
  try {
    await within(CHECK_MS, check())
    return 'ok'
  } catch (error) {
    return reasonOf(error)
  }
}
