import { createSecretKey } from 'node:crypto'
import test from 'ava'
import { tokenReader } from '../../../src/api/auth.ts'
import { operatorRoutes } from '../../../src/api/operators/routes.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { SECRET, token } from '../harness.ts'
import { cookieOf, openOperators, target } from './harness.ts'

const admin = (claims: Record<string, unknown> = {}) => token({ sub: 'admin@example.com', role: 'admin', ...claims })
const past = Math.floor(Date.now() / 1000) - 10
const cookie = (value: string) => ({ cookie: `order_operator=${value}` })
const bearer = (value: string) => ({ authorization: `Bearer ${value}` })

test('a person without a session is redirected to the sign-in page from every page', async (t) => {
  const operators = await openOperators(t)
  for (const path of [
    '/order/admin',
    '/order/admin/',
    '/order/admin/queues',
    '/order/admin/queues/queue/checkout?status=failed',
    '/order/admin/sign-out',
  ]) {
    const answer = await operators.visit(path)
    t.is(answer.status, 303, path)
    t.is(target(answer), `/order/admin/sign-in?next=${encodeURIComponent(path)}`)
  }
})

test('a program without a token gets a 401 from every page', async (t) => {
  const operators = await openOperators(t)
  for (const path of ['/order/admin', '/order/admin/queues', '/order/admin/queues/api/queues', '/order/admin/queues/static/favicon.ico']) {
    const answer = await operators.ask(path)
    t.is(answer.status, 401, path)
    t.deepEqual(JSON.parse(answer.text), { detail: 'Not authenticated' })
    t.is(answer.headers.get('www-authenticate'), 'Bearer')
  }
})

test('no spelling of an address opens a page without a session', async (t) => {
  const operators = await openOperators(t)
  for (const path of [
    '/ORDER/admin/queues',
    '/order/ADMIN/queues/api/queues',
    '/order/admin//queues',
    '/order/admin/queues/',
    '/order/admin/%71ueues',
    '/order/admin/sign-in/../queues',
  ]) {
    t.true([401, 404].includes((await operators.ask(path)).status), path)
    t.true([303, 404].includes((await operators.visit(path)).status), path)
  }
})

test('only sign-in, sign-out, the style sheets and the script are open without a session', async (t) => {
  const operators = await openOperators(t)
  const jwtKey = createSecretKey(SECRET, 'utf8')
  const readToken = tokenReader({ jwtKey, JWT_ALGORITHM: 'HS256' })
  const routes = operatorRoutes(() => undefined, { readToken, jwtKey, logger: createLogger('silent') }).stack.flatMap(({ methods, path }) =>
    methods.filter((method) => method !== 'CONNECT').map((method) => ({ method, path: String(path).replace('{/*path}', '/x') })),
  )
  const answers = await Promise.all(
    routes.map(async ({ method, path }) => {
      const { status } = await operators.ask(path, { method, headers: { 'sec-fetch-site': 'same-origin' } })
      return status === 401 ? [] : [`${method} ${path}`]
    }),
  )
  const open = [
    'GET /order/admin/style.css',
    'GET /order/admin/forms.css',
    'GET /order/admin/content.css',
    'GET /order/admin/pages.js',
    'GET /order/admin/sign-in',
    'POST /order/admin/sign-in',
    'POST /order/admin/sign-out',
  ]
  t.deepEqual(
    answers
      .flat()
      .filter((route) => !route.startsWith('HEAD '))
      .sort(),
    open.sort(),
  )
  t.true(routes.length > 10)
})

const bad: Record<string, string> = {
  'an expired token': admin({ exp: past }),
  'a token without an end': admin({ exp: undefined }),
  'a refresh token': admin({ type: 'refresh' }),
  'a token of a foreign secret': token({ role: 'admin' }, 'a foreign secret'),
  'a token of another algorithm': token({ role: 'admin' }, SECRET, { algorithm: 'HS512' }),
  rubbish: 'rubbish',
}

test('a bad token opens no page, in a cookie or as a bearer token', async (t) => {
  const operators = await openOperators(t)
  for (const [what, value] of Object.entries(bad)) {
    t.is((await operators.visit('/order/admin/queues', cookie(value))).status, 303, what)
    t.is((await operators.ask('/order/admin/queues', { headers: cookie(value) })).status, 401, what)
    t.is((await operators.ask('/order/admin/queues', { headers: bearer(value) })).status, 401, what)
  }
})

test('a bearer token of an operator opens all pages', async (t) => {
  const operators = await openOperators(t)
  t.is((await operators.ask('/order/admin/queues/api/queues', { headers: bearer(admin()) })).status, 200)
})

test("a customer's token is a 403, in a cookie or as a bearer token", async (t) => {
  const operators = await openOperators(t)
  for (const role of ['customer', 'Admin', ['admin'], undefined]) {
    const value = token({ role })
    const answer = await operators.ask('/order/admin/queues', { headers: bearer(value) })
    t.is(answer.status, 403)
    t.is(typeof JSON.parse(answer.text).detail, 'string')
    t.is((await operators.ask('/order/admin/queues', { headers: cookie(value) })).status, 403)
    const page = await operators.visit('/order/admin/queues', cookie(value))
    t.is(page.status, 403)
    t.regex(page.text, /<h1>Forbidden<\/h1>/)
  }
})

test('a request with both a bearer token and a cookie is judged by the token', async (t) => {
  const operators = await openOperators(t)
  const asked = (authorization: string, inCookie: string) =>
    operators.ask('/order/admin/queues/api/queues', { headers: { authorization, ...cookie(inCookie) } })
  t.is((await asked(`Bearer ${admin()}`, admin({ exp: past }))).status, 200)
  t.is((await asked(`Bearer ${admin()}`, token())).status, 200)
  t.is((await asked(`Bearer ${token()}`, admin())).status, 403)
  t.is((await asked(`Bearer ${admin({ exp: past })}`, admin())).status, 401)
  t.is((await asked('Bearer', admin())).status, 401)
  t.is((await asked(`bearer ${admin()} more`, admin())).status, 401)
})

test("a gateway's own authorization does not stand in the way of a session", async (t) => {
  const operators = await openOperators(t)
  t.is((await operators.visit('/order/admin/queues', { authorization: 'Basic YTpi', ...cookie(admin()) })).status, 200)
})

test('signing out takes the cookie away', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  const asked = await operators.visit('/order/admin/sign-out', session)
  t.is(asked.status, 200)
  t.regex(asked.text, /<form method="post" action="\/order\/admin\/sign-out">/)
  t.is(asked.headers.get('set-cookie'), null)

  const answer = await operators.post('/order/admin/sign-out', {}, session)
  t.is(answer.status, 303)
  t.is(target(answer), '/order/admin/sign-in')
  t.is(cookieOf(answer), 'order_operator=')
  const attributes = answer.headers.get('set-cookie')!
  t.regex(attributes, /path=\/order\/admin(;|$)/)
  t.regex(attributes, /expires=Thu, 01 Jan 1970/)
})

test("an operator's cookie is no customer's token", async (t) => {
  const operators = await openOperators(t)
  const answer = await operators.post('/order/v1/orders/checkout', {}, await operators.session())
  t.is(answer.status, 401)
})
