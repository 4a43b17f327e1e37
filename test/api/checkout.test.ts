import test from 'ava'
import type { Intended } from '../../src/db/intents.ts'
import { until } from '../support/until.ts'
import { demoAddress, open, shoes, token } from './desk.ts'

const never = () => new Promise<never>(() => {})
const refused = () => Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:5432'), { code: 'ECONNREFUSED' })
const broken = () => new Error('Connection terminated unexpectedly')

test('a checkout answers 200 with four fields and no more, the rest in headers', async (t) => {
  const desk = await open(t)
  const answer = await desk.checkout()
  t.is(answer.status, 200)
  t.deepEqual(answer.body, { order_id: 101, status: 'CREATED', total_cents: 25_998, currency: 'USD' })
  t.is(answer.headers.get('content-type'), 'application/json')
  t.is(answer.headers.get('order-id'), '101')
  t.is(answer.headers.get('idempotency-replayed'), null)
})

test('the intent carries cart, address and total, the job neither email nor address', async (t) => {
  const desk = await open(t)
  await desk.checkout({ body: { ...demoAddress, country: 'ie', address_line2: null, gift: true } })
  const [intent] = desk.books.intents
  t.like(intent, { userEmail: 'cust@example.com', lines: [shoes], address: demoAddress, totalCents: 25_998, budgetMs: 8000 })
  const [job] = desk.jobs
  t.deepEqual(job, {
    orderId: 101,
    products: [{ productId: 1, qty: 2 }],
    lease: { callId: 7, expiresAt: desk.books.rows.get(101)!.deadlineAt.getTime() },
    deadline: desk.books.rows.get(101)!.deadlineAt.getTime(),
    replyTo: 'replies:here',
  })
})

test('a reply that comes before Redis has answered for the job is not missed', async (t) => {
  const desk = await open(t)
  desk.worker = async ({ orderId }) => {
    desk.reply(desk.books.complete(orderId))
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.is((await desk.checkout()).status, 200)
  t.is(desk.books.looks, 0)
  t.is(desk.waiting.size, 0)
})

for (const [status, detail] of [
  [409, 'Insufficient stock for product_id 1'],
  [404, 'Inventory missing for product_id 1'],
  [502, 'Shipping refused'],
] as const) {
  test(`a checkout that was refused with ${status} answers so, with the detail`, async (t) => {
    const desk = await open(t)
    desk.worker = ({ orderId }) => desk.reply(desk.books.reject(orderId, { status, detail }))
    const answer = await desk.checkout()
    t.is(answer.status, status)
    t.deepEqual(answer.body, { detail })
    t.is(answer.headers.get('content-type'), 'application/json')
  })
}

test('a checkout that was given up with 503 says when to come back', async (t) => {
  const desk = await open(t)
  desk.worker = ({ orderId }) => desk.reply(desk.books.reject(orderId, { status: 503, detail: 'Catalog cannot be reached' }))
  const answer = await desk.checkout()
  t.is(answer.status, 503)
  t.is(answer.headers.get('retry-after'), '1')
  t.is(answer.headers.get('checkout-outcome'), null)
})

test('an empty cart is a 400', async (t) => {
  const desk = await open(t)
  desk.cart = { cart: 'empty' }
  const answer = await desk.checkout()
  t.is(answer.status, 400)
  t.deepEqual(answer.body, { detail: 'Cart is empty' })
})

test('a malformed cart is a 422 that says what is wrong', async (t) => {
  const desk = await open(t)
  desk.cart = { cart: 'malformed', detail: 'Cart is malformed: qty is not as it should be' }
  const answer = await desk.checkout()
  t.is(answer.status, 422)
  t.deepEqual(answer.body, { detail: 'Cart is malformed: qty is not as it should be' })
})

test('a Redis that is away is a 503 before anything is written', async (t) => {
  const desk = await open(t)
  desk.cart = new Error("Stream isn't writeable")
  const answer = await desk.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(answer.status, 503)
  t.is(answer.headers.get('checkout-outcome'), null)
  t.is(answer.headers.get('retry-after'), '1')
  t.is(desk.books.intents.length, 0)
})

test('a job that cannot be added cancels its checkout: 503, and no order', async (t) => {
  const desk = await open(t)
  desk.worker = () => Promise.reject(new Error('Command timed out'))
  const answer = await desk.checkout()
  t.is(answer.status, 503)
  t.is(answer.headers.get('checkout-outcome'), null)
  t.truthy(desk.books.rows.get(101)!.rejection)
  t.is(desk.waiting.size, 0)
})

test('a job that seemed lost and was done all the same is a 200', async (t) => {
  const desk = await open(t)
  desk.worker = ({ orderId }) => {
    desk.books.complete(orderId)
    return Promise.reject(new Error('Command timed out'))
  }
  t.is((await desk.checkout()).status, 200)
})

test('a lost reply is found by looking', async (t) => {
  const desk = await open(t)
  desk.worker = ({ orderId }) => void desk.books.complete(orderId)
  t.is((await desk.checkout()).status, 200)
  t.is(desk.books.looks, 1)
})

test('a look in vain is followed by another one', async (t) => {
  let looks = 0
  const desk = await open(t, {
    service: (service) => ({
      ...service,
      checkouts: {
        ...service.checkouts,
        async readOutcome(orderId) {
          looks += 1
          if (looks === 1) throw broken()
          return service.checkouts.readOutcome(orderId)
        },
      },
    }),
  })
  desk.worker = ({ orderId }) => void desk.books.complete(orderId)
  t.is((await desk.checkout()).status, 200)
  t.is(looks, 2)
})

test('at the deadline the checkout is cancelled: 503, and no order', async (t) => {
  const desk = await open(t, { budgetMs: 50 })
  desk.worker = () => {}
  const answer = await desk.checkout()
  t.is(answer.status, 503)
  t.regex(String(answer.body.detail), /nothing was ordered/)
  t.is(desk.books.rows.get(101)!.rejection?.status, 503)
  t.is(desk.waiting.size, 0)
})

test('a checkout whose queue is paused meanwhile ends in a 503 that says so, and blames nobody else', async (t) => {
  const desk = await open(t, { budgetMs: 50 })
  desk.worker = () => void (desk.isPaused = true)
  const answer = await desk.checkout()
  t.is(answer.status, 503)
  t.deepEqual(answer.body, { detail: 'Orders are paused at the moment; nothing was ordered' })
  t.is(answer.headers.get('checkout-outcome'), null)
})

test('an order that stands at the deadline, its reply lost, is a 200', async (t) => {
  const desk = await open(t, { budgetMs: 50 })
  desk.worker = ({ orderId }) => void desk.books.complete(orderId)
  t.is((await desk.checkout()).status, 200)
})

test('a PostgreSQL that goes away while a checkout is under way leaves its outcome unknown, and the answer says so', async (t) => {
  const desk = await open(t, { budgetMs: 50 })
  desk.worker = () => void (desk.books.down = refused())
  const answer = await desk.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(answer.status, 503)
  t.deepEqual(answer.body, { detail: 'Outcome unknown; repeat with the same Idempotency-Key', outcome: 'unknown' })
  t.is(answer.headers.get('checkout-outcome'), 'unknown')
  t.is(answer.headers.get('order-id'), '101')

  desk.books.down = undefined
  desk.books.complete(101)
  const repeat = await desk.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(repeat.status, 200)
  t.is(repeat.body.order_id, 101)
})

test('a PostgreSQL that stands still at the end does not hold the customer', async (t) => {
  const desk = await open(t, { budgetMs: 50, service: (service) => ({ ...service, checkouts: { readOutcome: never, cancel: never } }) })
  desk.worker = () => {}
  const answer = await desk.checkout()
  t.is(answer.headers.get('checkout-outcome'), 'unknown')
})

test('a PostgreSQL that stands still at the intent does not hold the customer, and may have written it', async (t) => {
  const desk = await open(t, {
    budgetMs: 50,
    service: (service) => ({ ...service, intents: { findClaim: never, intend: () => new Promise<Intended>(() => {}) } }),
  })
  for (const headers of [{}, { 'idempotency-key': 'k1' }]) {
    const answer = await desk.checkout({ headers: headers as Record<string, string> })
    t.is(answer.status, 503)
    t.is(answer.headers.get('checkout-outcome'), 'unknown')
  }
})

test('a PostgreSQL that refuses connections before the intent is a plain 503: nothing was begun', async (t) => {
  const desk = await open(t)
  for (const error of [refused(), new Error('outer', { cause: refused() }), Object.assign(new Error('starting up'), { code: '57P03' })]) {
    desk.books.down = error
    const answer = await desk.checkout()
    t.is(answer.status, 503)
    t.is(answer.headers.get('checkout-outcome'), null)
    t.is(answer.body.outcome, undefined)
    t.is(answer.headers.get('retry-after'), '1')
  }
})

test('a connection that breaks in the intent, or a server that goes down in it, leaves the outcome unknown', async (t) => {
  const desk = await open(t)
  for (const error of [broken(), Object.assign(new Error('terminating'), { code: '57P01' })]) {
    desk.books.down = error
    t.is((await desk.checkout()).headers.get('checkout-outcome'), 'unknown')
  }
})

test('with a key, a PostgreSQL that is away says unknown: an order may stand under that key', async (t) => {
  const desk = await open(t)
  t.is((await desk.checkout({ headers: { 'idempotency-key': 'k1' } })).status, 200)
  desk.books.down = refused()
  const answer = await desk.checkout({ headers: { 'idempotency-key': 'k1' } })
  t.is(answer.status, 503)
  t.is(answer.headers.get('checkout-outcome'), 'unknown')
})

test('with a key, also an intent that was certainly not written says unknown: another one may have been let in meanwhile', async (t) => {
  const desk = await open(t, {
    service: (service) => ({ ...service, intents: { ...service.intents, intend: () => Promise.reject(refused()) } }),
  })
  t.is((await desk.checkout()).headers.get('checkout-outcome'), null)
  t.is((await desk.checkout({ headers: { 'idempotency-key': 'k1' } })).headers.get('checkout-outcome'), 'unknown')
})

test('a customer who goes away changes nothing', async (t) => {
  const desk = await open(t)
  const leaving = new AbortController()
  desk.worker = () => leaving.abort()
  await t.throwsAsync(
    fetch(`${desk.url}/order/v1/orders/checkout`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token()}`, 'content-type': 'application/json' },
      body: JSON.stringify(demoAddress),
      signal: leaving.signal,
    }),
  )
  t.is(desk.books.rows.get(101)!.rejection, undefined)
  desk.reply(desk.books.complete(101))
  await until(() => desk.logged.length > 0)
  t.like(JSON.parse(desk.logged[0]!), { status: 200, orderId: 101 })
})
