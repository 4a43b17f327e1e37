/** A whole shop for a test: the service on a database, a Redis prefix and a topic of its own, with its downstreams. */
import { randomUUID } from 'node:crypto'
import fetch from 'node-fetch'
import { type Config, readConfig } from '../../src/config.ts'
import type { Role } from '../../src/service/connect.ts'
import { type RunningService, startService } from '../../src/service/start.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase, query } from './database.ts'
import { openPayments, type PaymentMessage, paymentOf, type PaymentOptions } from './payments.ts'
import { type CartLine, type Downstreams, type DownstreamsOptions, startDownstreams } from './downstreams/index.ts'

export const demoAddress = { address_line1: '1 Demo Street', address_line2: '', city: 'Dublin', country: 'IE', postcode: 'D01XYZ' }

export interface Answer {
  status: number
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever the service says; a test asserts on it
  body: any
  headers: Headers
  ms: number
}
type Headers = Awaited<ReturnType<typeof fetch>>['headers']

export interface CheckoutOptions {
  key?: string
  address?: Record<string, unknown>
  /** Sent as it stands, in place of the address. */
  rawBody?: string
  token?: string
  /** Another process of the service. */
  url?: string
}

export interface Customer {
  email: string
  token: string
  wants(...lines: CartLine[]): Promise<Customer>
  checkout(options?: CheckoutOptions): Promise<Answer>
}

export interface Shop extends Downstreams {
  dsn: string
  prefix: string
  topic: string
  paymentTopic: string
  deadLetterTopic: string
  group: string
  /** The environment that any further process of this shop gets. */
  env: Record<string, string>
  /** The address of the service in this process. */
  url: string
  service: RunningService
  /** Another process' worth of the service in this one. */
  start(roles: readonly Role[], env?: Record<string, string>): Promise<RunningService>
  /** A new one each time, with an empty cart. */
  customer(name?: string): Customer
  get(path: string): Promise<Answer>
  /** Payment tells that this order was paid: what it costs, where nothing else is said. */
  pay(orderId: number, options?: PaymentOptions): Promise<void>
  /** Messages on the payment topic as they stand. */
  publish(messages: readonly PaymentMessage[]): Promise<void>
  query<Row extends Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]>
  close(): Promise<void>
}

export interface ShopOptions {
  roles?: readonly Role[]
  env?: Record<string, string>
  downstreams?: DownstreamsOptions
}

export const customersOnly: readonly Role[] = ['web', 'worker', 'relay']
/** With the bridge, which few tests need. */
export const everything: readonly Role[] = [...customersOnly, 'bridge']

/** @returns once the service is ready; `close` it in `test.after.always`, and what it leaves open fails the file */
export async function openShop({ roles = customersOnly, env: extra = {}, downstreams: wanted = {} }: ShopOptions = {}): Promise<Shop> {
  const id = randomUUID().slice(0, 8)
  const [database, downstreams] = await Promise.all([createDatabase(), startDownstreams(wanted)])
  const prefix = `{order-${id}}`
  const topic = `order.events.${id}`
  const paymentTopic = `payment.events.${id}`
  const deadLetterTopic = `payment.events.dlq.${id}`
  const group = `order-${id}`
  const env: Record<string, string> = {
    HOST: '127.0.0.1',
    PORT: '0',
    POSTGRES_DSN: database.dsn,
    REDIS_URL: process.env.REDIS_URL!,
    REDIS_PREFIX: prefix,
    KAFKA_BOOTSTRAP: process.env.KAFKA_BOOTSTRAP!,
    TOPIC_ORDER_EVENTS: topic,
    TOPIC_PAYMENT_EVENTS: paymentTopic,
    TOPIC_PAYMENT_EVENTS_DLQ: deadLetterTopic,
    KAFKA_GROUP: group,
    CREATE_PAYMENT_TOPIC: 'true',
    CATALOG_BASE: downstreams.catalogBase,
    SHIPPING_BASE: downstreams.shippingBase,
    AUTH_BASE: downstreams.authBase,
    LOG_LEVEL: process.env.LOG_LEVEL ?? 'silent',
    ...extra,
  }
  const running: RunningService[] = []
  const payments = openPayments(env.KAFKA_BOOTSTRAP!, paymentTopic)

  async function start(wantedRoles: readonly Role[], more: Record<string, string> = {}): Promise<RunningService> {
    const config: Config = readConfig({ ...env, ...more })
    const service = await startService(config, new Set(wantedRoles), createLogger(config.LOG_LEVEL))
    running.push(service)
    await service.started
    return service
  }

  const service = await start(roles)
  const url = `http://127.0.0.1:${service.port}`
  let customers = 0

  async function ask(path: string, init: Parameters<typeof fetch>[1] = {}, at = url): Promise<Answer> {
    const began = performance.now()
    const response = await fetch(at + path, init)
    const text = await response.text()
    const body = response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text
    return { status: response.status, body, headers: response.headers, ms: performance.now() - began }
  }

  return {
    ...downstreams,
    dsn: database.dsn,
    prefix,
    topic,
    paymentTopic,
    deadLetterTopic,
    group,
    env,
    url,
    service,
    start,
    get: (path) => ask(path),
    publish: payments.publish,
    async pay(orderId, options = {}) {
      const [order] = await query<{ amount_cents: number; currency: string }>(
        database.dsn,
        'select total_cents::float8 as amount_cents, currency from public.orders where id = $1',
        [orderId],
      )
      await payments.publish([paymentOf(orderId, { ...order, ...options })])
    },
    query: (text, values) => query(database.dsn, text, values),
    customer(name = 'customer') {
      customers += 1
      const email = `${name}-${id}-${customers}@example.com`
      const token = downstreams.auth.token({ sub: email })
      const customer: Customer = {
        email,
        token,
        async wants(...lines) {
          await downstreams.cart.fill(email, lines)
          return customer
        },
        checkout({ key, address = demoAddress, rawBody, token: other = token, url: at } = {}) {
          const headers: Record<string, string> = { authorization: `Bearer ${other}`, 'content-type': 'application/json' }
          if (key !== undefined) headers['idempotency-key'] = key
          return ask('/order/v1/orders/checkout', { method: 'POST', headers, body: rawBody ?? JSON.stringify(address) }, at)
        },
      }
      return customer
    },
    async close() {
      await Promise.all([payments.close(), ...running.map((one) => one.stop())])
      await downstreams.stop()
      await database.drop()
    },
  }
}
