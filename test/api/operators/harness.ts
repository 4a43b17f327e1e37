/** The operators' pages on a port of their own, before a real Auth, real queues and a real Redis. */
import { createSecretKey, randomUUID } from 'node:crypto'
import type { ExecutionContext } from 'ava'
import fetch, { type RequestInit } from 'node-fetch'
import type { OperatorDeps } from '../../../src/api/operators/routes.ts'
import { createSignInTries } from '../../../src/api/operators/tries.ts'
import { createAuth } from '../../../src/clients/auth.ts'
import type { Catalog } from '../../../src/clients/catalog.ts'
import { createDownstream } from '../../../src/clients/http.ts'
import type { Overviews } from '../../../src/operators/overview.ts'
import { createCheckoutQueue } from '../../../src/queues/checkout.ts'
import { connectFailFast, connectPatient, ready } from '../../../src/redis/connection.ts'
import type { Action, ActionRequest, Actions } from '../../../src/operators/action.ts'
import { createStockQueue } from '../../../src/queues/stock.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { createMetrics } from '../../../src/telemetry/metrics.ts'
import { hostClock } from '../../support/clock.ts'
import { adminEmail, openAuth, password } from '../../support/downstreams/auth.ts'
import { overviewsWith } from '../../support/problems.ts'
import { open, SECRET } from '../harness.ts'

export { adminEmail, password }

/** What a browser says of a page that its user opens. */
const browser = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }

export interface Seen {
  status: number
  text: string
  headers: { get(name: string): string | null; raw(): Record<string, string[]> }
}

/** Asks once: redirects are not followed. */
export async function ask(url: string, init: RequestInit = {}): Promise<Seen> {
  const answer = await fetch(url, { redirect: 'manual', ...init })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

/** `name=value` of the session's cookie, as a browser sends it back. */
export const cookieOf = ({ headers }: Seen): string => (headers.get('set-cookie') ?? '').split(';')[0]!

/** Where a redirect leads, as it stands. */
export const target = ({ headers }: Seen): string | null => headers.get('location')

const noItems: OperatorDeps['items'] = async () => ({ items: [], next: null })

interface OperatorsOptions {
  authTimeoutMs?: number
  redisUrl?: string
  overview?: Overviews
  items?: OperatorDeps['items']
  /** The pages' PostgreSQL, which most tests do not need. */
  read?: OperatorDeps['read']
  actions?: OperatorDeps['actions']
}
const noPostgres = () => Promise.reject(new Error('these pages have no PostgreSQL'))

/** Keeps requests in memory, and carries them out. */
function recorder(recorded: ActionRequest[]): Actions {
  return {
    count: noPostgres,
    sample: noPostgres,
    act: noPostgres,
    inTransaction: noPostgres,
    change: noPostgres,
    list: noPostgres,
    read: noPostgres,
    readEdited: noPostgres,
    items: noPostgres,
    historyOf: noPostgres,
    async recordAround(request, run) {
      recorded.push(request)
      await run()
      return { id: recorded.length } as Action
    },
  }
}

export async function openOperators(
  t: ExecutionContext,
  {
    authTimeoutMs = 5000,
    redisUrl = process.env.REDIS_URL!,
    overview = overviewsWith(),
    items = noItems,
    read = noPostgres,
    actions,
  }: OperatorsOptions = {},
) {
  const logger = createLogger('silent')
  const prefix = `{operators-${randomUUID().slice(0, 8)}}`
  const redis = connectFailFast(redisUrl, logger)
  const stub = await openAuth({ jwtSecret: SECRET })
  const downstream = createDownstream({
    name: 'auth',
    base: stub.base,
    headers: {},
    concurrency: 4,
    timeoutMs: authTimeoutMs,
    metrics: createMetrics(),
  })
  if (redisUrl === process.env.REDIS_URL) await ready(redis)
  const patient = connectPatient(process.env.REDIS_URL!, logger) // however slow the machine is at the moment
  const recorded: ActionRequest[] = []
  const checkoutQueue = createCheckoutQueue(patient, prefix, hostClock)
  const stockQueue = createStockQueue(patient, prefix)
  const deps = {
    auth: createAuth(downstream),
    authTimeoutMs,
    read,
    overview,
    items,
    catalog: {
      read: () => Promise.reject(new Error('these pages have no Catalog')),
    } as unknown as Catalog,
    nextRun: async () => undefined,
    eventTopic: 'order.events',
    actions: actions ?? recorder(recorded),
    tries: createSignInTries(redis, prefix, createSecretKey(SECRET, 'utf8')),
    queues: [checkoutQueue.queue, stockQueue.queue],
  }
  const api = await open(t, { app: { operators: () => deps } })
  t.teardown(async () => {
    await stub.stop()
    await downstream.close()
    await Promise.all([checkoutQueue.close(), stockQueue.close()])
    redis.disconnect()
    patient.disconnect()
  })

  const operators = {
    url: api.url,
    logged: api.logged,
    auth: stub,
    checkoutQueue,
    stockQueue,
    /** What was recorded of changes, in place of PostgreSQL. */
    recorded,
    /** As a program asks. */
    ask: (path: string, init?: RequestInit) => ask(api.url + path, init),
    /** As a person opens a page. */
    visit: (path: string, headers: Record<string, string> = {}) => ask(api.url + path, { headers: { ...browser, ...headers } }),
    /** As a person sends a form of ours. */
    post: (path: string, fields: Record<string, string> = {}, headers: Record<string, string> = {}) =>
      ask(api.url + path, {
        method: 'POST',
        body: new URLSearchParams(fields),
        headers: { ...browser, origin: api.url, 'sec-fetch-site': 'same-origin', ...headers },
      }),
    signIn: (fields: Record<string, string> = {}, headers: Record<string, string> = {}) =>
      operators.post('/order/admin/sign-in', { email: adminEmail, password, ...fields }, headers),
    /** The cookie of somebody who has signed in. */
    session: async () => ({ cookie: cookieOf(await operators.signIn()) }),
  }
  return operators
}
