/**
 * The inline implementation that the service is compared with. It has the same packages, SQL and HTTP client, but does everything in the
 * handler, without queue, intent, outbox and leases. A crash loses stock, orders and events, and concurrent customers lose holds.
 */
import { Router } from '@koa/router'
import Koa from 'koa'
import { sql } from 'slonik'
import { z } from 'zod'
import { customersOnly, tokenReader } from '../src/api/auth.ts'
import { readBody, readCheckoutRequest } from '../src/api/checkout-request.ts'
import { answer, refusals } from '../src/api/refusal.ts'
import { requestLog } from '../src/api/request-log.ts'
import { listen } from '../src/api/server.ts'
import { createCarts } from '../src/clients/cart.ts'
import { createCatalog } from '../src/clients/catalog.ts'
import { createDownstream } from '../src/clients/http.ts'
import { createShipping } from '../src/clients/shipping.ts'
import { readConfig } from '../src/config.ts'
import { connectPool } from '../src/db/pool.ts'
import { CURRENCY, productsOf } from '../src/model.ts'
import { connectFailFast, ready } from '../src/redis/connection.ts'
import { createLogger } from '../src/telemetry/logger.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'

const config = readConfig(process.env)
const logger = createLogger(config.LOG_LEVEL)
const metrics = createMetrics()
// It sends each statement separately, so it needs more connections than batches do.
const pool = await connectPool(config.POSTGRES_DSN, { size: 10, logger })
const redis = connectFailFast(config.REDIS_URL, logger)
await ready(redis)
const carts = createCarts(redis, config.MAX_CART_LINES)
const headers = { 'x-internal-key': config.SVC_INTERNAL_KEY }
const common = { headers, timeoutMs: config.CALL_TIMEOUT_MS, metrics }
const catalog = createCatalog(
  createDownstream({ ...common, name: 'catalog', base: config.CATALOG_BASE, concurrency: config.CATALOG_CONCURRENCY }),
)
const shipping = createShipping(
  createDownstream({ ...common, name: 'shipping', base: config.SHIPPING_BASE, concurrency: config.SHIPPING_CONCURRENCY }),
)

const orderRow = z.object({ id: z.int() })

const router = new Router({ prefix: '/order/v1/orders' })
router.post('/checkout', customersOnly(tokenReader(config)), readBody, async (ctx) => {
  const email: string = ctx.state.customer
  const { address } = readCheckoutRequest(ctx.request.body)
  const cart = await carts.read(email)
  if (cart.cart !== 'lines') return answer(ctx, 400, { detail: 'Cart is empty' })

  const reserved = await catalog.change({ verb: 'reserve', items: productsOf(cart.lines), idempotencyKey: ctx.state.requestId ?? email })
  if (reserved.answer === 'refused') return answer(ctx, reserved.status, { detail: reserved.detail })

  const { id } = await pool.one(sql.prepared('inline-order', orderRow)`
    with o as (
      insert into public.orders (user_email, status, total_cents, currency) values (${email}, 'CREATED', ${cart.totalCents}, ${CURRENCY}) returning id
    ), items as (
      insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
      select o.id, l.product_id, l.qty, l.unit_price_cents, l.title_snapshot
      from o cross join lateral jsonb_to_recordset(${JSON.stringify(cart.lines)}::jsonb)
        as l (product_id int, qty int, unit_price_cents bigint, title_snapshot text)
    )
    select id from o`)
  const shipment = await shipping.create({ order_id: id, user_email: email, ...address }, `order:${id}`)
  if (shipment.answer !== 'created') return answer(ctx, 502, { detail: shipment.detail })
  answer(ctx, 200, { order_id: id, status: 'CREATED', total_cents: cart.totalCents, currency: CURRENCY })
})

const app = new Koa()
app.use(requestLog({ logger, metrics, stopping: () => false }))
app.use(refusals(logger))
app.use(router.routes())
await listen(app, { host: config.HOST, port: config.PORT })
process.on('SIGTERM', () => process.exit(0))
