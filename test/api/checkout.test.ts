import test from 'ava'
import type { Intended } from '../../src/db/intents.ts'
import { until } from '../support/until.ts'
import { demoAddress, open, shoes, token } from './harness.ts'

const never = () => new Promise<never>(() => {})
const refused = () => Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:5432'), { code: 'ECONNREFUSED' })
const broken = () => new Error('Connection terminated unexpectedly')

test('a checkout answers 200 with four fields and no more, the rest in headers', async (t) => {
  const api = await open(t)
  const answer = await api.checkout()
  t.is(answer.status, 200)
  t.deepEqual(answer.body, { order_id: 101, status: 'CREATED', total_cents: 25_998, currency: 'USD' })
  t.is(answer.headers.get('content-type'), 'application/json')
  t.is(answer.headers.get('order-id'), '101')
  t.is(answer.headers.get('idempotency-replayed'), null)
})

test('the intent carries cart, address and total, the job neither email nor address', async (t) => {
  const api = await open(t)
  await api.checkout({ body: { ...demoAddress, country: 'ie', address_line2: null, gift: true } })
  const [intent] = api.tables.intents
  t.like(intent, { userEmail: 'cust@example.com', lines: [shoes], address: demoAddress, totalCents: 25_998, budgetMs: 8000 })
  const [job] = api.jobs
  t.deepEqual(job, {
    orderId: 101,
    products: [{ productId: 1, qty: 2 }],
    lease: { callId: 7, expiresAt: api.tables.rows.get(101)!.deadlineAt.getTime() },
    deadline: api.tables.rows.get(101)!.deadlineAt.getTime(),
    replyTo: 'replies:here',
  })
})

test('a reply that comes before Redis has answered for the job is not missed', async (t) => {
  const api = await open(t)
  api.worker = async ({ orderId }) => {
    api.reply(api.tables.complete(orderId))
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.is((await api.checkout()).status, 200)
  t.is(api.tables.polls, 0)
  t.is(api.waiting.size, 0)
})

for (const [status, detail] of [
  [409, 'Insufficient stock for product_id 1'],
  [404, 'Inventory missing for product_id 1'],
  [502, 'Shipping refused'],
] as const) {
  test(`a checkout that was refused with ${status} answers so, with the detail`, async (t) => {
    const api = await open(t)
    api.worker = ({ orderId }) => api.reply(api.tables.reject(orderId, { status, detail }))
    const answer = await api.checkout()
    t.is(answer.status, status)
    t.deepEqual(answer.body, { detail })
    t.is(answer.headers.get('content-type'), 'application/json')
  })
}

test('a checkout that was given up with 503 says when to come back', async (t) => {
  const api = await open(t)
  api.worker = ({ orderId }) => api.reply(api.tables.reject(orderId, { status: 503, detail: 'Catalog cannot be reached' }))
  const answer = await api.checkout()
  t.is(answer.status, 503)
  t.is(answer.headers.get('retry-after'), '1')
  t.is(answer.headers.get('checkout-outcome'), null)
})

test('an empty cart is a 400', async (t) => {
  const api = await open(t)
  api.cart = { cart: 'empty' }
  const answer = await api.checkout()
  t.is(answer.status, 400)
  t.deepEqual(answer.body, { detail: 'Cart is empty' })
})

test('a malformed cart is a 422 that says what is wrong', async (t) => {
  const api = await open(t)
  api.cart = { cart: 'malformed', detail: 'Cart is malformed: qty is invalid' }
  const answer = await api.checkout()
  t.is(answer.status, 422)
  t.deepEqual(answer.body, { detail: 'Cart is malformed: qty is invalid' })
})

test('a Redis that is away is a 503 before anything is written', async (t) => {
  const api = await open(t)
  api.cart = new Error("Stream isn't writeable")
  const answer = await api.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(answer.status, 503)
  t.is(answer.headers.get('checkout-outcome'), null)
  t.is(answer.headers.get('retry-after'), '1')
  t.is(api.tables.intents.length, 0)
})

test('a job that cannot be added cancels its checkout: 503, and no order', async (t) => {
  const api = await open(t)
  api.worker = () => Promise.reject(new Error('Command timed out'))
  const answer = await api.checkout()
  t.is(answer.status, 503)
  t.is(answer.headers.get('checkout-outcome'), null)
  t.truthy(api.tables.rows.get(101)!.rejection)
  t.is(api.waiting.size, 0)
})

test('a job that seemed lost and was done all the same is a 200', async (t) => {
  const api = await open(t)
  api.worker = ({ orderId }) => {
    api.tables.complete(orderId)
    return Promise.reject(new Error('Command timed out'))
  }
  t.is((await api.checkout()).status, 200)
})

test('a checkout whose reply is lost is found by polling', async (t) => {
  const api = await open(t)
  api.worker = ({ orderId }) => void api.tables.complete(orderId)
  t.is((await api.checkout()).status, 200)
  t.is(api.tables.polls, 1)
})

test('a poll that fails is followed by another one', async (t) => {
  let polls = 0
  const api = await open(t, {
    service: (service) => ({
      ...service,
      checkouts: {
        ...service.checkouts,
        async readOutcome(orderId) {
          polls += 1
          if (polls === 1) throw broken()
          return service.checkouts.readOutcome(orderId)
        },
      },
    }),
  })
  api.worker = ({ orderId }) => void api.tables.complete(orderId)
  t.is((await api.checkout()).status, 200)
  t.is(polls, 2)
})

test('a checkout is cancelled at its deadline: 503, and no order', async (t) => {
  const api = await open(t, { budgetMs: 50 })
  api.worker = () => {}
  const answer = await api.checkout()
  t.is(answer.status, 503)
  t.regex(String(answer.body.detail), /nothing was ordered/)
  t.is(api.tables.rows.get(101)!.rejection?.status, 503)
  t.is(api.waiting.size, 0)
})

test('a checkout whose queue is paused meanwhile ends in a 503 that says so, and blames nobody else', async (t) => {
  const api = await open(t, { budgetMs: 50 })
  api.worker = () => void (api.isPaused = true)
  const answer = await api.checkout()
  t.is(answer.status, 503)
  t.deepEqual(answer.body, { detail: 'Orders are paused at the moment; nothing was ordered' })
  t.is(answer.headers.get('checkout-outcome'), null)
})

test('an order that stands at the deadline, its reply lost, is a 200', async (t) => {
  const api = await open(t, { budgetMs: 50 })
  api.worker = ({ orderId }) => void api.tables.complete(orderId)
  t.is((await api.checkout()).status, 200)
})

test('a PostgreSQL that goes away while a checkout is under way leaves its outcome unknown, and the answer says so', async (t) => {
  const api = await open(t, { budgetMs: 50 })
  api.worker = () => void (api.tables.down = refused())
  const answer = await api.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(answer.status, 503)
  t.deepEqual(answer.body, { detail: 'Outcome unknown; repeat with the same Idempotency-Key', outcome: 'unknown' })
  t.is(answer.headers.get('checkout-outcome'), 'unknown')
  t.is(answer.headers.get('order-id'), '101')

  api.tables.down = undefined
  api.tables.complete(101)
  const repeat = await api.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(repeat.status, 200)
  t.is(repeat.body.order_id, 101)
})

test('a PostgreSQL that hangs at the end does not hold the customer', async (t) => {
  const api = await open(t, { budgetMs: 50, service: (service) => ({ ...service, checkouts: { readOutcome: never, cancel: never } }) })
  api.worker = () => {}
  const answer = await api.checkout()
  t.is(answer.headers.get('checkout-outcome'), 'unknown')
})

test('a PostgreSQL that hangs at the intent does not hold the customer, and may have written it', async (t) => {
  const api = await open(t, {
    budgetMs: 50,
    service: (service) => ({ ...service, intents: { findClaim: never, intend: () => new Promise<Intended>(() => {}) } }),
  })
  for (const headers of [{}, { 'idempotency-key': 'k1' }]) {
    const answer = await api.checkout({ headers: headers as Record<string, string> })
    t.is(answer.status, 503)
    t.is(answer.headers.get('checkout-outcome'), 'unknown')
  }
})

test('a PostgreSQL that refuses connections before the intent is a plain 503: nothing was begun', async (t) => {
  const api = await open(t)
  for (const error of [refused(), new Error('outer', { cause: refused() }), Object.assign(new Error('starting up'), { code: '57P03' })]) {
    api.tables.down = error
    const answer = await api.checkout()
    t.is(answer.status, 503)
    t.is(answer.headers.get('checkout-outcome'), null)
    t.is(answer.body.outcome, undefined)
    t.is(answer.headers.get('retry-after'), '1')
  }
})

test('a connection that breaks in the intent, or a server that goes down in it, leaves the outcome unknown', async (t) => {
  const api = await open(t)
  for (const error of [broken(), Object.assign(new Error('terminating'), { code: '57P01' })]) {
    api.tables.down = error
    t.is((await api.checkout()).headers.get('checkout-outcome'), 'unknown')
  }
})

test('a checkout with a key has an unknown outcome while PostgreSQL is away: an order may exist under that key', async (t) => {
  const api = await open(t)
  t.is((await api.checkout({ headers: { 'idempotency-key': 'k1' } })).status, 200)
  api.tables.down = refused()
  const answer = await api.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(answer.status, 503)
  t.is(answer.headers.get('checkout-outcome'), 'unknown')
})

test('a checkout with a key has an unknown outcome even if its intent was certainly not written: another one may have been written', async (t) => {
  const api = await open(t, {
    service: (service) => ({ ...service, intents: { ...service.intents, intend: () => Promise.reject(refused()) } }),
  })
  t.is((await api.checkout()).headers.get('checkout-outcome'), null)
  t.is((await api.checkout({ headers: { 'idempotency-key': 'k1' } })).headers.get('checkout-outcome'), 'unknown')
})

test('a customer who goes away changes nothing', async (t) => {
  const api = await open(t)
  const leaving = new AbortController()
  api.worker = () => leaving.abort()
  await t.throwsAsync(
    fetch(`${api.url}/order/v1/orders/checkout`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token()}`, 'content-type': 'application/json' },
      body: JSON.stringify(demoAddress),
      signal: leaving.signal,
    }),
  )
  t.is(api.tables.rows.get(101)!.rejection, undefined)
  api.reply(api.tables.complete(101))
  await until(() => api.logged.length > 0)
  t.like(JSON.parse(api.logged[0]!), { status: 200, orderId: 101 })
})
