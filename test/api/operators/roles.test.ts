/** Every route that the router gives, tried by everybody: without a session, with a forged one, from another site, and with each role. */
import { createSecretKey } from 'node:crypto'
import test from 'ava'
import { tokenReader } from '../../../src/api/auth.ts'
import { operatorRoutes } from '../../../src/api/operators/routes.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { adminEmail, supportEmail } from '../../support/downstreams/auth.ts'
import { operatorOf } from '../../support/operator.ts'
import { placeOrders } from '../../support/payment-totals.ts'
import { everything, openShop, type Shop } from '../../support/shop.ts'
import { until } from '../../support/until.ts'

interface Route {
  method: string
  path: string
}

const SECRET = 'devsecret'
let shop: Shop
let routes: Route[]
const isChange = ({ method }: Route) => !/^(GET|HEAD|OPTIONS)$/.test(method)
const isSession = ({ path }: Route) => /\/sign-(in|out)$/.test(path)
const isOpen = ({ method, path }: Route) =>
  path.endsWith('/sign-in') || (method === 'POST' && path.endsWith('/sign-out')) || /\.(css|js|svg|ico)$/.test(path)

test.before(async () => {
  shop = await openShop({ roles: everything })
  const product = shop.catalog.product({ stock: 100 })
  const [order] = await placeOrders(shop, 1, product)
  await shop.pay(order!, { amount_cents: 1 })
  const [letter] = await until(
    () => shop.query<{ id: string }>('select id from order_service.dead_letters'),
    ({ length }) => length === 1,
  )
  const acted = await operatorOf(shop).act('reconcile-products', { item: String(product) })
  const action = /\/actions\/(\d+)/.exec(`${acted.headers.get('location')} /actions/${acted.body?.id}`)![1]

  const jwtKey = createSecretKey(SECRET, 'utf8')
  const readToken = tokenReader({ jwtKey, JWT_ALGORITHM: 'HS256' })
  const real = (path: string) =>
    path
      .replace('{/*path}', '/api/queues')
      .replace('{*path}', 'nothing')
      .replace('/orders/:id', `/orders/${order}`)
      .replace('/dead-letters/:id', `/dead-letters/${letter!.id}`)
      .replace('/actions/:id', `/actions/${action}`)
      .replace(/\/inventory\/:\w+/, `/inventory/${product}`)
      .replace(/\/problems\/:\w+/, '/problems/payment-mismatch')
  routes = operatorRoutes(() => undefined, { readToken, jwtKey, logger: createLogger('silent') }).stack.flatMap(({ methods, path }) =>
    methods.filter((method) => method !== 'CONNECT' && method !== 'TRACE').map((method) => ({ method, path: real(String(path)) })),
  )
})
test.after.always(() => shop?.close())

async function request({ method, path }: Route, headers: Record<string, string>): Promise<{ status: number; location: string }> {
  const answer = await fetch(shop.url + path, {
    method,
    redirect: 'manual',
    headers: { accept: 'application/json', ...headers },
    ...(/^(POST|PUT|PATCH)$/.test(method) && { body: new URLSearchParams() }),
  })
  await answer.arrayBuffer()
  return { status: answer.status, location: answer.headers.get('location') ?? '' }
}
const cookie = (token: string) => ({ cookie: `order_operator=${token}` })
const foreign: Record<string, string>[] = [
  { 'sec-fetch-site': 'cross-site' },
  { 'sec-fetch-site': 'same-site' },
  { origin: 'https://evil.example' },
]
const sameOrigin = { 'sec-fetch-site': 'same-origin' }
const name = ({ method, path }: Route) => `${method} ${path}`

/** What could be changed: no forged request may change any of it. */
const state = async () => ({
  actions: await shop.query('select * from order_service.operator_actions order by id'),
  letters: await shop.query('select id, state, note from order_service.dead_letters order by id'),
  paused: (await shop.get('/order/ready')).body.components['checkout-queue'],
})

test('no path of the router is left with a parameter that this test does not know', (t) => {
  t.deepEqual(
    routes.filter(({ path }) => /[:{*]/.test(path)),
    [],
  )
  t.true(routes.length > 20)
})

test('no route answers without a session, or with a forged one', async (t) => {
  const before = await state()
  const admin = { sub: adminEmail, role: 'admin' }
  const forged: Record<string, string> = {
    'no token': '',
    'another secret': shop.auth.token({ ...admin, secret: 'guess' }),
    'no signature': shop.auth.token({ ...admin, algorithm: 'none' }),
    'another algorithm': shop.auth.token({ ...admin, algorithm: 'HS512' }),
    'a refresh token': shop.auth.token({ ...admin, type: 'refresh' }),
    'an expired token': shop.auth.token({ ...admin, expiresInS: -1 }),
    rubbish: 'rubbish',
  }
  for (const route of routes.filter((one) => !isOpen(one)))
    for (const [what, token] of Object.entries(forged)) {
      t.is((await request(route, { ...cookie(token), ...sameOrigin })).status, 401, `${name(route)} with ${what}, as a cookie`)
      t.is((await request(route, { authorization: `Bearer ${token}` })).status, 401, `${name(route)} with ${what}, as a Bearer token`)
    }
  t.deepEqual(await state(), before)
})

test('a customer gets a 403 from every route', async (t) => {
  const token = shop.auth.token({ sub: 'customer@example.com' })
  for (const route of routes.filter((one) => !isOpen(one)))
    t.is((await request(route, { ...cookie(token), ...sameOrigin })).status, 403, name(route))
})

test('the support role reads every page, and every change is a 403', async (t) => {
  const before = await state()
  const session = cookie(shop.auth.token({ sub: supportEmail, role: 'support' }))
  for (const route of routes.filter((one) => !isSession(one) && !isOpen(one))) {
    const { status } = await request(route, { ...session, ...sameOrigin })
    if (isChange(route)) t.is(status, 403, name(route))
    else if (route.method === 'GET') t.true(status < 400 || /\/(actions\/new|nothing)$/.test(route.path), `${name(route)}: ${status}`)
  }
  t.deepEqual(await state(), before)
})

test('the admin role is let through everywhere, and an empty form changes nothing', async (t) => {
  const before = await state()
  const session = cookie(shop.auth.token({ sub: adminEmail, role: 'admin' }))
  for (const route of routes.filter((one) => !isSession(one) && !isOpen(one))) {
    const { status } = await request(route, { ...session, ...sameOrigin })
    t.false([401, 403, 500].includes(status) && !route.path.includes('/queues/'), `${name(route)}: ${status}`)
  }
  t.deepEqual((await state()).letters, before.letters)
})

test('every change that another site asks for is a 403, though the operator is signed in', async (t) => {
  const before = await state()
  const session = cookie(shop.auth.token({ sub: adminEmail, role: 'admin' }))
  for (const route of routes.filter(isChange))
    for (const headers of foreign)
      t.is((await request(route, { ...session, ...headers })).status, 403, `${name(route)} ${JSON.stringify(headers)}`)
  t.deepEqual(await state(), before)
})
