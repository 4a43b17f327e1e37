/** Builds the HTTP application: routes and common middleware. It is built before PostgreSQL and Redis are connected, for liveness. */
import { METHODS } from 'node:http'
import { Router } from '@koa/router'
import Koa, { type Middleware } from 'koa'
import type { Config } from '../config.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { crowdLimit, customerLimit, refusedLimit } from './admission.ts'
import { customersOnly, tokenReader } from './auth.ts'
import { type CheckoutDeps, checkoutHandler, UNKNOWN } from './checkout.ts'
import { readBody } from './checkout-request.ts'
import { type OperatorDeps, operatorRoutes } from './operators/routes.ts'
import { type Check, opsRoutes } from './ops.ts'
import { type OrderDeps, orderHandler } from './orders.ts'
import { Refusal, refusals, RETRY_SOON } from './refusal.ts'
import type { RefusedCheckouts } from './refused-checkouts.ts'
import { requestLog } from './request-log.ts'
import { wellFormedOnly } from './well-formed.ts'

/** What the customer routes need. */
export interface Service extends CheckoutDeps, OrderDeps {
  /** How long the oldest checkout job has waited for a worker, in ms, as last polled. */
  queueBehindMs(): number
  refused: RefusedCheckouts
}

export interface OpsOptions {
  logger: Logger
  metrics: Pick<Metrics, 'registry' | 'refresh' | 'httpSeconds'>
  /** Whether `/order/metrics` is served here. False if METRICS_PORT serves it. */
  servesMetrics?: boolean
  /** The readiness checks. The check of a component that is not connected yet throws. */
  checks: readonly Check[]
  /** Whether the process is shutting down. Then it is not ready, and each answer closes its connection. */
  stopping?: () => boolean
}

export interface AppOptions extends OpsOptions {
  config: Pick<Config, 'jwtKey' | 'JWT_ALGORITHM' | 'CHECKOUT_BUDGET_MS' | 'MAX_IN_FLIGHT' | 'MAX_IN_FLIGHT_PER_CUSTOMER'>
  /** undefined during start-up. Until then customers get a 503 and readiness says `starting`. */
  service: () => Service | undefined
  /** undefined during start-up */
  operators: () => OperatorDeps | undefined
}

/** The whole application: customer routes, operators' pages, health, readiness and metrics. It opens no connection. */
export function createApp(options: AppOptions): Koa {
  const { config, service, operators, logger } = options
  const readToken = tokenReader({ ...config, now: () => service()?.clock.databaseTime() ?? Date.now() })
  const deps = () => service()!
  const started: Middleware = (ctx, next) => {
    if (service()) return next()
    // An earlier request with this key may have an order. It cannot be read yet, so the answer must not deny it.
    const repeat = ctx.method === 'POST' && ctx.get('Idempotency-Key') !== ''
    throw new Refusal(503, 'The service is starting', repeat ? UNKNOWN : { headers: RETRY_SOON })
  }

  const customers = new Router({ prefix: '/order/v1/orders' })
  const crowd = crowdLimit({
    mostInFlight: config.MAX_IN_FLIGHT,
    // The other half of the budget is for the checkout itself.
    mostBehindMs: config.CHECKOUT_BUDGET_MS / 2,
    behindMs: () => deps().queueBehindMs(),
    isPaused: () => deps().isPaused(),
  })
  const perCustomer = customerLimit(config.MAX_IN_FLIGHT_PER_CUSTOMER)
  customers.post(
    '/checkout',
    started,
    crowd,
    customersOnly(readToken),
    perCustomer,
    refusedLimit(() => deps().refused),
    readBody,
    checkoutHandler(deps, config.CHECKOUT_BUDGET_MS),
  )
  customers.get('/:id', started, orderHandler(deps))
  return withCommonParts(options, () => service() !== undefined, [
    customers,
    operatorRoutes(operators, { readToken, jwtKey: config.jwtKey, logger }),
  ])
}

/** For processes without customer routes: health, readiness and metrics. @param started whether the process has started its work */
export function createOpsApp(options: OpsOptions, started: () => boolean): Koa {
  return withCommonParts(options, started, [])
}

function withCommonParts(options: OpsOptions, started: () => boolean, routers: Router[]): Koa {
  const { logger, metrics, servesMetrics = true, checks, stopping = () => false } = options
  const app = new Koa()
  // Only failed writes to a client that disconnected get here; `refusals` handles everything else.
  app.on('error', (error) => logger.debug({ err: error }, 'response not delivered: the client disconnected'))
  app.use(requestLog({ logger, metrics, stopping }))
  app.use(refusals(logger))
  app.use(wellFormedOnly)
  const ops = opsRoutes({ checks, metrics: servesMetrics ? metrics : undefined, started, stopping })
  for (const router of [...routers, ops]) app.use(router.routes())
  // Otherwise the router answers 501 on any path to methods that no route has.
  app.use(new Router({ methods: METHODS }).allowedMethods())
  return app
}
