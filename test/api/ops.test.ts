import { readFileSync } from 'node:fs'
import test from 'ava'
import { createOpsApp } from '../../src/api/app.ts'
import { close, listen, portOf } from '../../src/api/server.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { ask } from './operators/harness.ts'
import { open } from './harness.ts'

const ok = async () => {}
const away = (message: string) => async () => {
  throw Object.assign(new Error(message), { code: 'ECONNREFUSED', syscall: 'connect' })
}

test('health is ok on both paths', async (t) => {
  const api = await open(t)
  for (const path of ['/health', '/order/health', '/order/health/']) t.deepEqual((await api.get(path)).body, { status: 'ok' })
})

test('_info names the service and the version of package.json', async (t) => {
  const api = await open(t)
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  for (const path of ['/v1/_info', '/order/v1/_info']) t.deepEqual((await api.get(path)).body, { service: 'order', version })
})

test('a starting process is live and not ready, and customers are told to come back', async (t) => {
  const checks = [
    { name: 'postgres', required: true, check: away('not connected yet') },
    { name: 'redis', required: true, check: ok },
  ]
  const api = await open(t, { service: () => undefined, app: { checks } })
  t.is((await api.get('/order/health')).status, 200)
  const ready = await api.get('/order/ready')
  t.is(ready.status, 503)
  t.deepEqual(ready.body, {
    status: 'starting',
    components: { postgres: { state: 'not connected yet', required: true }, redis: { state: 'ok', required: true } },
  })
  const checkout = await api.checkout()
  t.is(checkout.status, 503)
  t.deepEqual(checkout.body, { detail: 'The service is starting' })
  t.is(checkout.headers.get('retry-after'), '1')
  t.is((await api.get('/order/v1/orders/1')).status, 503)
})

test('a repeat that comes while the process starts is not told that there is no order', async (t) => {
  const api = await open(t, { service: () => undefined })
  const answer = await api.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.like(answer.body, { detail: 'The service is starting', outcome: 'unknown' })
  t.is(answer.headers.get('checkout-outcome'), 'unknown')
})

test('a process is ready without Kafka, which readiness reports, and not without PostgreSQL', async (t) => {
  const postgres = { name: 'postgres', required: true, check: ok as () => Promise<void> }
  const kafka = { name: 'kafka', required: false, check: away('no broker answers') }
  const api = await open(t, { app: { checks: [postgres, kafka] } })
  const ready = await api.get('/ready')
  t.is(ready.status, 200)
  t.deepEqual(ready.body, {
    status: 'ready',
    components: { postgres: { state: 'ok', required: true }, kafka: { state: 'no broker answers', required: false } },
  })

  postgres.check = () => new Promise(() => {}) // hangs
  const without = await api.get('/order/ready')
  t.is(without.status, 503)
  t.is(without.body.status, 'not ready')
  t.regex(without.body.components.postgres.state, /no answer/)
})

test('a process that ends is not ready, and closes its connections with each answer', async (t) => {
  let stopping = false
  const api = await open(t, { app: { stopping: () => stopping } })
  t.is((await api.get('/order/ready')).status, 200)
  stopping = true
  const ready = await api.get('/order/ready')
  t.is(ready.status, 503)
  t.is(ready.body.status, 'stopping')
  t.is(ready.headers.get('connection'), 'close')
  t.is((await api.checkout()).status, 200)
})

test('metrics count requests by the pattern of their route, never by their path', async (t) => {
  const api = await open(t)
  await api.checkout()
  for (const path of ['/order/v1/orders/17', '/order/v1/orders/18', '/no/such/path']) await api.get(path)
  const { text, headers } = await api.get('/order/metrics')
  t.regex(headers.get('content-type') ?? '', /^text\/plain/)
  t.regex(text, /order_http_request_seconds_count\{route="\/order\/v1\/orders\/checkout",method="POST",status="200"\} 1/)
  t.regex(text, /order_http_request_seconds_count\{route="\/order\/v1\/orders\/:id",method="GET",status="404"\} 2/)
  t.regex(text, /route="none",method="GET",status="404"\} 1/)
  t.notRegex(text, /such/)
})

test('a gauge that cannot be read does not hold up the others', async (t) => {
  const metrics = createMetrics()
  metrics.refreshed.push(
    () => new Promise(() => {}), // PostgreSQL hangs
    () => Promise.reject(new Error('Redis is away')),
  )
  const api = await open(t, { app: { metrics } })
  const { status, text } = await api.get('/order/metrics')
  t.is(status, 200)
  t.regex(text, /order_checkouts_total/)
})

test('a hundred who scrape at once get one text, for which PostgreSQL and Redis are asked once', async (t) => {
  const metrics = createMetrics()
  let asked = 0
  metrics.refreshed.push(async () => void metrics.outboxUnsent.set((asked += 1)))
  const api = await open(t, { app: { metrics } })
  const answers = await Promise.all(Array.from({ length: 100 }, () => api.get('/order/metrics')))
  answers.push(await api.get('/metrics'))
  t.is(asked, 1)
  t.is(new Set(answers.map(({ text }) => text)).size, 1)
  t.regex(answers[0]!.text, /^order_outbox_unsent 1$/m)
})

test('a process that serves no customers has health, readiness and metrics alone', async (t) => {
  const koa = createOpsApp({ logger: createLogger('silent'), metrics: createMetrics(), checks: [] }, () => true)
  const server = await listen(koa, { host: '127.0.0.1', port: 0 })
  t.teardown(() => close(server, { withinMs: 1000 }))
  const url = `http://127.0.0.1:${portOf(server)}`
  t.is((await fetch(`${url}/order/ready`)).status, 200)
  t.is((await fetch(`${url}/order/v1/orders/1`)).status, 404)
})

test('an unknown path is a 404 and an unknown method a 405, both with a detail', async (t) => {
  const api = await open(t)
  const lost = await api.get('/order/nowhere')
  t.is(lost.status, 404)
  t.deepEqual(lost.body, { detail: 'Not Found' })
  const wrong = await api.get('/order/v1/orders/5', { method: 'DELETE' })
  t.is(wrong.status, 405)
  t.deepEqual(wrong.body, { detail: 'Method Not Allowed' })
  t.regex(wrong.headers.get('allow') ?? '', /GET/)
  t.is((await api.get('/order/health', { method: 'POST' })).status, 405)
})

test('a method that no route has is a 405 with the allowed methods on a known path, and a 404 on an unknown one', async (t) => {
  const api = await open(t)
  for (const method of ['PROPFIND', 'SEARCH', 'TRACE']) {
    const there = await ask(`${api.url}/order/v1/orders/5`, { method })
    t.is(there.status, 405, method)
    t.is(there.text, '{"detail":"Method Not Allowed"}')
    t.is(there.headers.get('allow'), 'HEAD, GET')
    t.is((await ask(`${api.url}/order/nowhere`, { method })).status, 404)
  }
})

test('a valid request id is kept, otherwise one is made, and it is sent back', async (t) => {
  const api = await open(t)
  const send = async (id: string) => (await api.get('/order/v1/orders/1', { headers: { 'x-request-id': id } })).headers.get('x-request-id')
  t.is(await send('gateway-7:a.b_c'), 'gateway-7:a.b_c')
  for (const id of ['', 'x'.repeat(129), 'a b', '{"forged":1}']) t.regex((await send(id)) ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-4/)
  t.like(JSON.parse(api.logged[0]!), { requestId: 'gateway-7:a.b_c', route: '/order/v1/orders/:id', method: 'GET', status: 404 })
})

test('an unexpected error is a 500 without details, and a log line with them', async (t) => {
  const api = await open(t, {
    service: (service) => ({
      ...service,
      replies: {
        channel: 'x',
        expect() {
          throw new TypeError('a mistake of ours')
        },
      },
    }),
  })
  const answer = await api.checkout({ headers: { 'x-request-id': 'r-1' } })
  t.is(answer.status, 500)
  t.deepEqual(answer.body, { detail: 'Internal server error' })
  t.true(api.logged.some((line) => line.includes('r-1')))
})
