/** The API on a port of its own, before dependencies that a test plays with: what is real here is HTTP. */
import { createSecretKey } from 'node:crypto'
import type { Server } from 'node:http'
import type { ExecutionContext } from 'ava'
import jwt from 'jsonwebtoken'
import { type AppOptions, createApp, type Service } from '../../src/api/app.ts'
import { close, listen, portOf } from '../../src/api/server.ts'
import type { Cart } from '../../src/clients/cart.ts'
import type { Claim } from '../../src/db/intents.ts'
import type { OrderView } from '../../src/db/orders.ts'
import { CURRENCY, type Intent, type Outcome, type Rejection } from '../../src/model.ts'
import type { NewCheckoutTask } from '../../src/queues/checkout.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { hostClock } from '../support/clock.ts'

export const SECRET = 'a secret of the tests'

export const demoAddress = { address_line1: '1 Demo Street', address_line2: '', city: 'Dublin', country: 'IE', postcode: 'D01XYZ' }

export const shoes = { product_id: 1, qty: 2, unit_price_cents: 12_999, title_snapshot: 'Air Zoom' }

/** A token as Auth issues it, with whatever a test changes about it; `undefined` leaves a claim out. */
export function token(claims: Record<string, unknown> = {}, secret = SECRET, options: jwt.SignOptions = {}): string {
  const all = { sub: 'cust@example.com', role: 'customer', type: 'access', exp: Math.floor(Date.now() / 1000) + 600, ...claims }
  return jwt.sign(Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)), secret, options)
}

type Row = Claim & { userEmail: string; idempotencyKey: string | null; rejection?: Rejection }

/** The tables in memory, with the rules of the real ones that the API relies on; `down` is thrown by every statement while it is set. */
export function createTables() {
  const rows = new Map<number, Row>()
  const tables = {
    rows,
    down: undefined as Error | undefined,
    polls: 0,
    intents: [] as Intent[],
    outcomeOf(row: Row): Outcome | undefined {
      if (row.state === 'OPEN' && !row.rejection) return undefined
      if (row.rejection) return { state: 'CANCELLED', orderId: row.orderId, ...row.rejection }
      return { state: 'CREATED', orderId: row.orderId, totalCents: row.totalCents, currency: row.currency }
    },
    complete(orderId: number): Outcome {
      const row = rows.get(orderId)!
      if (!row.rejection) row.state = 'CREATED'
      return tables.outcomeOf(row)!
    },
    reject(orderId: number, rejection: Rejection): Outcome {
      const row = rows.get(orderId)!
      if (row.state === 'OPEN' && !row.rejection) Object.assign(row, { rejection, idempotencyKey: null })
      return tables.outcomeOf(row)!
    },
    /** An open checkout that another process waits for. */
    begin(userEmail: string, idempotencyKey: string, requestHash: string, deadlineAt = new Date(Date.now() + 60_000)): number {
      const orderId = rows.size + 101
      rows.set(orderId, {
        orderId,
        userEmail,
        idempotencyKey,
        requestHash,
        state: 'OPEN',
        totalCents: 25_998,
        currency: CURRENCY,
        deadlineAt,
      })
      return orderId
    },
  }
  return tables
}

export interface Options {
  budgetMs?: number
  service?: (service: Service) => Service | undefined
  app?: Partial<AppOptions>
}

/** Opens the API; it is closed when the test ends. `worker` decides what becomes of each job; by default it completes and replies. */
export async function open(t: ExecutionContext, { budgetMs = 8000, service: change = (same) => same, app = {} }: Options = {}) {
  const tables = createTables()
  const waiting = new Map<number, (outcome: Outcome) => void>()
  const logged: string[] = []
  const refuseWhenDown = () => {
    if (tables.down) throw tables.down
  }

  const api = {
    tables,
    jobs: [] as NewCheckoutTask[],
    cart: { cart: 'lines', lines: [shoes], totalCents: 25_998 } as Cart | Error,
    reply: (outcome: Outcome) => waiting.get(outcome.orderId)?.(outcome),
    worker: (job: NewCheckoutTask): void | Promise<void> => api.reply(tables.complete(job.orderId)),
    waiting,
    queueBehindMs: 0,
    isPaused: false,
    /** Customers whose checkout was refused. */
    refused: [] as string[],
    waitS: 0,
    logged,
    url: '',
    server: undefined as unknown as Server,
    async checkout({ body = demoAddress as unknown, headers = {} as Record<string, string> } = {}) {
      const raw = typeof body === 'string' || body instanceof Uint8Array
      const response = await fetch(`${api.url}/order/v1/orders/checkout`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token()}`, 'content-type': 'application/json', ...headers },
        body: raw ? (body as string) : JSON.stringify(body),
      })
      return { status: response.status, headers: response.headers, body: (await response.json()) as Record<string, unknown> }
    },
    async get(path: string, init: RequestInit = {}) {
      const response = await fetch(api.url + path, init)
      const text = await response.text()
      const json = /json/.test(response.headers.get('content-type') ?? '')
      return { status: response.status, headers: response.headers, text, body: json ? JSON.parse(text) : undefined }
    },
  }

  const service: Service = {
    clock: hostClock,
    carts: {
      async read() {
        if (api.cart instanceof Error) throw api.cart
        return api.cart
      },
    },
    intents: {
      async findClaim(userEmail, idempotencyKey) {
        refuseWhenDown()
        return [...tables.rows.values()].find((row) => row.userEmail === userEmail && row.idempotencyKey === idempotencyKey)
      },
      async intend(intent) {
        refuseWhenDown()
        tables.intents.push(intent)
        const claim = await service.intents.findClaim(intent.userEmail, intent.idempotencyKey)
        if (claim) return { claim: 'taken', ...claim }
        const deadlineAt = new Date(Date.now() + intent.budgetMs)
        const orderId = tables.begin(intent.userEmail, intent.idempotencyKey, intent.requestHash, deadlineAt)
        return {
          claim: 'new',
          orderId,
          deadlineAt,
          products: [{ productId: 1, qty: 2 }],
          lease: { callId: 7, expiresAt: deadlineAt.getTime() },
        }
      },
    },
    checkouts: {
      async readOutcome(orderId) {
        refuseWhenDown()
        tables.polls += 1
        return tables.outcomeOf(tables.rows.get(orderId)!)
      },
      async cancel(orderId, rejection) {
        refuseWhenDown()
        return tables.reject(orderId, rejection)
      },
    },
    queue: {
      async add(job) {
        api.jobs.push(job)
        await api.worker(job)
      },
    },
    replies: {
      channel: 'replies:here',
      expect(orderId) {
        const outcome = new Promise<Outcome>((resolve) => waiting.set(orderId, resolve))
        return { outcome, forget: () => waiting.delete(orderId) }
      },
    },
    queueBehindMs: () => api.queueBehindMs,
    isPaused: () => api.isPaused,
    refused: { count: async (customer) => void api.refused.push(customer), waitS: async () => api.waitS },
    async readOrder(): Promise<OrderView | undefined> {
      refuseWhenDown()
      return undefined
    },
  }

  const changed = change(service)
  const logger = createLogger('info')
  // What would be printed is kept instead: tests ask what is in it.
  const keep = (line: object) => void logged.push(JSON.stringify(line))
  Object.assign(logger, { info: keep, warn: keep, error: keep, debug: () => {} })
  const koa = createApp({
    config: {
      jwtKey: createSecretKey(SECRET, 'utf8'),
      JWT_ALGORITHM: 'HS256',
      CHECKOUT_BUDGET_MS: budgetMs,
      MAX_IN_FLIGHT: 40,
      MAX_IN_FLIGHT_PER_CUSTOMER: 30,
    },
    logger,
    metrics: createMetrics(),
    checks: [],
    service: () => changed,
    operators: () => undefined,
    ...app,
  })
  api.server = await listen(koa, { host: '127.0.0.1', port: 0 })
  api.url = `http://127.0.0.1:${portOf(api.server)}`
  t.teardown(() => close(api.server, { withinMs: 1000 }))
  return api
}
