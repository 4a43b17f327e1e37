import test from 'ava'
import { until } from '../support/until.ts'
import { open, shoes, token } from './harness.ts'

const as = (sub: string, more: Record<string, string> = {}) => ({ headers: { authorization: `Bearer ${token({ sub })}`, ...more } })

test('checkouts beyond the limit get a 503 at once, nothing is begun for them, and freed room is used again', async (t) => {
  const api = await open(t)
  const held: (() => void)[] = []
  api.worker = (job) => void held.push(() => api.reply(api.tables.complete(job.orderId)))
  const served = Array.from({ length: 40 }, (_, i) => api.checkout(as(`customer-${i}@example.com`)))
  await until(() => held.length === 40)

  const refused = await api.checkout(as('late@example.com'))

  t.is(refused.status, 503)
  t.deepEqual(refused.body, { detail: 'Too many customers at the moment' })
  t.is(refused.headers.get('retry-after'), '1')
  t.is(api.tables.rows.size, 40)
  for (const finish of held) finish()
  t.true((await Promise.all(served)).every(({ status }) => status === 200))
  const again = api.checkout(as('late@example.com'))
  await until(() => held.length === 41)
  held[40]!()
  t.is((await again).status, 200)
})

test('a customer with too many checkouts at a time gets a 429, and other customers are not affected', async (t) => {
  const api = await open(t)
  const held: (() => void)[] = []
  api.worker = (job) => void held.push(() => api.reply(api.tables.complete(job.orderId)))
  const mine = Array.from({ length: 30 }, (_, i) => api.checkout(as('busy@example.com', { 'idempotency-key': `k${i}` })))
  await until(() => held.length === 30)

  const refused = await api.checkout(as('busy@example.com', { 'idempotency-key': 'one-more' }))

  t.is(refused.status, 429)
  t.is(refused.headers.get('retry-after'), '1')
  t.is(refused.headers.get('checkout-outcome'), null)
  const other = api.checkout(as('other@example.com'))
  await until(() => held.length === 31)
  for (const finish of held) finish()
  t.is((await other).status, 200)
  t.true((await Promise.all(mine)).every(({ status }) => status === 200))
})

test('no checkout is admitted while the queue is further behind than half of the budget', async (t) => {
  const api = await open(t, { budgetMs: 1000 })
  api.queueBehindMs = 501
  t.is((await api.checkout()).status, 503)
  t.is(api.tables.rows.size, 0)
  api.queueBehindMs = 500
  t.is((await api.checkout()).status, 200)
})

test('no checkout is admitted while orders are paused, and the refusal says why; a repeat is not told that there is no order', async (t) => {
  const api = await open(t)
  api.isPaused = true
  const refused = await api.checkout()
  t.is(refused.status, 503)
  t.deepEqual(refused.body, { detail: 'Orders are paused at the moment' })
  t.is(refused.headers.get('retry-after'), '1')
  t.is((await api.checkout({ headers: { 'idempotency-key': 'k1' } })).headers.get('checkout-outcome'), 'unknown')
  t.is(api.tables.rows.size, 0)
  api.isPaused = false
  t.is((await api.checkout()).status, 200)
})

test('a checkout refused for load does not have its token verified: that would cost what the refusal is to save', async (t) => {
  const api = await open(t)
  const withoutToken = { headers: { authorization: 'Bearer x' } }
  t.is((await api.checkout(withoutToken)).status, 401)
  api.queueBehindMs = 60_000
  t.is((await api.checkout(withoutToken)).status, 503)
})

test('a repeat that is not admitted is told that the outcome is unknown: an order may exist under its key', async (t) => {
  const api = await open(t)
  const k1 = { 'idempotency-key': 'k1' }
  t.is((await api.checkout({ headers: k1 })).status, 200)
  api.queueBehindMs = 60_000
  const again = await api.checkout({ headers: k1 })
  t.is(again.status, 503)
  t.is(again.headers.get('checkout-outcome'), 'unknown')
})

test('a customer of whom too many checkouts were refused gets a 429 with the time to wait, and nothing is begun', async (t) => {
  const api = await open(t)
  api.waitS = 7
  const answer = await api.checkout()
  t.is(answer.status, 429)
  t.deepEqual(answer.body, { detail: 'Too many checkouts of this customer were refused' })
  t.is(answer.headers.get('retry-after'), '7')
  t.is(api.tables.rows.size, 0)
})

test('a checkout that drew an order id and became no order counts as refused, an order does not', async (t) => {
  const api = await open(t)
  t.is((await api.checkout()).status, 200)
  api.cart = { cart: 'empty' }
  t.is((await api.checkout()).status, 400)
  t.deepEqual(api.refused, [])
  api.cart = { cart: 'lines', lines: [shoes], totalCents: 25_998 }
  api.worker = (job) => api.reply(api.tables.reject(job.orderId, { status: 409, detail: 'Insufficient stock for product_id 1' }))
  t.is((await api.checkout(as('late@example.com'))).status, 409)
  t.deepEqual(api.refused, ['late@example.com'])
})
