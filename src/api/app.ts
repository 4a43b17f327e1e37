/** The HTTP side of a process: routes, and what lies around all of them. Made before PostgreSQL and Redis are there, so that liveness can be seen at once. */
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

/** What the customers' routes need. */
export interface Service extends CheckoutDeps, OrderDeps {
  /** How long the oldest checkout job has waited for a worker when it was last looked at, in ms. */
  queueBehindMs(): number
  refused: RefusedCheckouts
}

export interface OpsOptions {
  logger: Logger
  metrics: Pick<Metrics, 'registry' | 'refresh' | 'httpSeconds'>
  /** Whether `/order/metrics` is among the routes: not so where a port of its own serves it. */
  servesMetrics?: boolean
  /** What readiness asks; a component that is not connected yet is one whose check throws. */
  checks: readonly Check[]
  /** Whether the process has been asked to end: it is no longer ready, and each answer closes its connection. */
  stopping?: () => boolean
}

export interface AppOptions extends OpsOptions {
  config: Pick<Config, 'jwtKey' | 'JWT_ALGORITHM' | 'CHECKOUT_BUDGET_MS' | 'MAX_IN_FLIGHT' | 'MAX_IN_FLIGHT_PER_CUSTOMER'>
  /** undefined until everything is there: until then customers get a 503 and readiness says `starting`. */
  service: () => Service | undefined
  /** undefined until everything is there. */
  operators: () => OperatorDeps | undefined
}

/** Everything: customers' routes, operators' pages, health, readiness, metrics. Connects to nothing. */
export function createApp(options: AppOptions): Koa {
  const { config, service, operators, logger } = options
  const readToken = tokenReader({ ...config, now: () => service()?.clock.wallTime() ?? Date.now() })
  const deps = () => service()!
  const started: Middleware = (ctx, next) => {
    if (service()) return next()
    // What was asked before with this key may stand as an order; we cannot look yet, and do not deny it.
    const repeat = ctx.method === 'POST' && ctx.get('Idempotency-Key') !== ''
    throw new Refusal(503, 'Starting', repeat ? UNKNOWN : { headers: RETRY_SOON })
  }

  const customers = new Router({ prefix: '/order/v1/orders' })
  const crowd = crowdLimit({
    mostInFlight: config.MAX_IN_FLIGHT,
    // Half of the budget is then left for the checkout itself.
    mostBehindMs: config.CHECKOUT_BUDGET_MS / 2,
    behindMs: () => deps().queueBehindMs(),
    isPaused: () => deps().isPaused(),
  })
  const ofCustomer = customerLimit(config.MAX_IN_FLIGHT_PER_CUSTOMER)
  customers.post(
    '/checkout',
    started,
    crowd,
    customersOnly(readToken),
    ofCustomer,
    refusedLimit(() => deps().refused),
    readBody,
    checkoutHandler(deps, config.CHECKOUT_BUDGET_MS),
  )
  customers.get('/:id', started, orderHandler(deps))
  return around(options, () => service() !== undefined, [
    customers,
    operatorRoutes(operators, { readToken, jwtKey: config.jwtKey, logger }),
  ])
}

/** For processes that serve no customers: health, readiness and metrics alone. @param started whether the process does its work */
export function createOpsApp(options: OpsOptions, started: () => boolean): Koa {
  return around(options, started, [])
}

function around(options: OpsOptions, started: () => boolean, routers: Router[]): Koa {
  const { logger, metrics, servesMetrics = true, checks, stopping = () => false } = options
  const app = new Koa()
  // What gets here is a customer who left while being answered; all else has been answered for in `refusals`.
  app.on('error', (error) => logger.debug({ err: error }, 'answer not delivered'))
  app.use(requestLog({ logger, metrics, stopping }))
  app.use(refusals(logger))
  app.use(wellFormedOnly)
  const ops = opsRoutes({ checks, metrics: servesMetrics ? metrics : undefined, started, stopping })
  for (const router of [...routers, ops]) app.use(router.routes())
  // By itself a router answers 501, on any path, to methods that none of its users has.
  app.use(new Router({ methods: METHODS }).allowedMethods())
  return app
}
