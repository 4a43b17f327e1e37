import test from 'ava'
import { open, token } from '../harness.ts'
import { ask, openOperators } from './harness.ts'

const bearer = { authorization: `Bearer ${token({ role: 'admin' })}` }

const foreign: Record<string, Record<string, string>> = {
  'another site': { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' },
  'another host of the same site': { 'sec-fetch-site': 'same-site', origin: 'https://blog.shop.example' },
  'nowhere, as the browser says': { 'sec-fetch-site': 'none' },
  'another origin, as an older browser says': { origin: 'https://evil.example' },
  'a sandbox without an origin': { origin: 'null' },
  'an origin that is no URL': { origin: 'evil' },
  'who knows where': {},
  'another origin that says it is the gateway': { origin: 'https://evil.example', host: 'evil.example:1' },
  'another port': { origin: 'http://127.0.0.1:1' },
}

test('a changing request to an operators’ page is a 403 unless it comes from one of the service’s pages', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  for (const [where, headers] of Object.entries(foreign)) {
    for (const [method, path] of [
      ['POST', '/order/admin/sign-in'],
      ['POST', '/order/admin/sign-out'],
      ['PUT', '/order/admin/queues/api/queues/checkout/pause'],
      ['PUT', '/order/admin/queues/api/queues/pause'],
      ['POST', '/order/admin/queues/api/queues/checkout/add'],
      ['PATCH', '/order/admin/queues/api/queues/checkout/checkout-1/update-data'],
      ['DELETE', '/order/admin/queues'],
    ] as const) {
      const answer = await operators.ask(path, { method, headers: { ...session, ...headers } })
      t.is(answer.status, 403, `${method} ${path} from ${where}`)
      t.regex(JSON.parse(answer.text).detail, /another site/)
      t.is(answer.headers.get('set-cookie'), null)
    }
    t.false(await operators.checkoutQueue.queue.isPaused())
    t.is(operators.auth.logins.length, 1)
  }
})

test('an operators’ page may send changing requests in newer and older browsers, behind the gateway or not', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  const own: Record<string, string>[] = [
    { 'sec-fetch-site': 'same-origin' },
    { origin: operators.url },
    { origin: 'https://shop.example', 'x-forwarded-host': 'shop.example' },
    { origin: 'https://shop.example', 'x-forwarded-host': 'shop.example:443, inner:8000' },
    { origin: 'http://shop.example:8080', host: 'shop.example:8080' },
  ]
  for (const headers of own) {
    await operators.checkoutQueue.queue.resume()
    const answer = await operators.ask('/order/admin/queues/api/queues/checkout/pause', {
      method: 'PUT',
      headers: { ...session, ...headers },
    })
    t.is(answer.status, 200, JSON.stringify(headers))
    t.true(await operators.checkoutQueue.queue.isPaused())
  }
})

test('a program with a token may change something from anywhere', async (t) => {
  const operators = await openOperators(t)
  const path = '/order/admin/queues/api/queues/checkout/pause'
  t.is((await operators.ask(path, { method: 'PUT', headers: { ...bearer, 'sec-fetch-site': 'cross-site' } })).status, 200)
  t.true(await operators.checkoutQueue.queue.isPaused())
  const lent = { ...(await operators.session()), authorization: 'Bearer rubbish', 'sec-fetch-site': 'cross-site' }
  t.is((await operators.ask(path, { method: 'PUT', headers: lent })).status, 401)
})

const strict =
  "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
const board =
  "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; font-src 'self'; connect-src 'self'"

test('every answer of an operators’ page carries the security headers', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  const answers = {
    'sign-in': [await operators.visit('/order/admin/sign-in'), strict],
    'a wrong password': [await operators.signIn({ password: 'wrong' }), strict],
    'the redirect': [await operators.visit('/order/admin/queues'), strict],
    'no token': [await operators.ask('/order/admin/queues'), strict],
    "a customer's token": [await operators.ask('/order/admin/queues', { headers: { authorization: `Bearer ${token()}` } }), strict],
    'another site': [await operators.ask('/order/admin/sign-out', { method: 'POST' }), strict],
    'sign-out': [await operators.visit('/order/admin/sign-out', session), strict],
    style: [await operators.visit('/order/admin/style.css'), strict],
    script: [await operators.visit('/order/admin/pages.js'), strict],
    'the board': [await operators.visit('/order/admin/queues', session), board],
    'its data': [await operators.visit('/order/admin/queues/api/queues', session), board],
    'what it has not': [await operators.visit('/order/admin/queues/api/nothing', session), board],
  } as const
  for (const [what, [{ headers }, policy]] of Object.entries(answers)) {
    t.is(headers.get('content-security-policy'), policy, what)
    t.is(headers.get('x-content-type-options'), 'nosniff', what)
    t.is(headers.get('referrer-policy'), 'same-origin', what)
    t.is(headers.get('cache-control'), 'no-store', what)
  }
})

test('answers to customers do not carry the headers of the operators’ pages', async (t) => {
  const operators = await openOperators(t)
  const { headers } = await operators.ask('/order/v1/orders/1')
  t.is(headers.get('content-security-policy'), null)
})

test('while the service starts, operators are told so', async (t) => {
  const api = await open(t)
  const answer = await ask(`${api.url}/order/admin/queues`, { headers: bearer })
  t.is(answer.status, 503)
  t.is(answer.headers.get('retry-after'), '1')
  t.deepEqual(JSON.parse(answer.text), { detail: 'The service is starting' })
  const page = await ask(`${api.url}/order/admin/sign-in`, {
    method: 'POST',
    body: new URLSearchParams({ email: 'admin@example.com', password: 'secret' }),
    headers: { accept: 'text/html', origin: api.url },
  })
  t.is(page.status, 503)
  t.regex(page.text, /<h1>Service Unavailable<\/h1>[^]*The service is starting\./)
})
