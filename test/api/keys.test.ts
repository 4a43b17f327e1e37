import test from 'ava'
import { until } from '../support/until.ts'
import { demoAddress, open, token } from './harness.ts'

const k1 = { 'idempotency-key': 'k1' }

test('a repeat with the same key and body gets the same answer, marked as replayed, even after the cart is cleared', async (t) => {
  const api = await open(t)
  const first = await api.checkout({ headers: k1 })
  api.cart = { cart: 'empty' }
  const again = await api.checkout({ headers: k1 })
  t.is(again.status, 200)
  t.deepEqual(again.body, first.body)
  t.is(again.headers.get('idempotency-replayed'), 'true')
  t.is(again.headers.get('order-id'), '101')
  t.is(api.jobs.length, 1)
})

test('a repeat with the same address written another way is the same body', async (t) => {
  const api = await open(t)
  await api.checkout({ headers: k1 })
  const { address_line2: _, ...rest } = demoAddress
  const again = await api.checkout({ headers: k1, body: { note: 'leave at the door', ...rest, country: 'ie' } })
  t.is(again.headers.get('idempotency-replayed'), 'true')
})

test('a repeat of a key with another body is a 422', async (t) => {
  const api = await open(t)
  await api.checkout({ headers: k1 })
  const other = await api.checkout({ headers: k1, body: { ...demoAddress, city: 'Cork' } })
  t.is(other.status, 422)
  t.is(other.body.detail, 'Idempotency-Key was already used with another body')
  t.is(api.tables.rows.size, 1)
})

test('a repeat of a key with another body is a 422 while the first checkout is still open, too', async (t) => {
  const api = await open(t)
  api.worker = () => {}
  const first = api.checkout({ headers: k1 })
  await until(() => api.jobs.length === 1)
  t.is((await api.checkout({ headers: k1, body: { ...demoAddress, city: 'Cork' } })).status, 422)
  api.reply(api.tables.complete(101))
  t.is((await first).status, 200)
})

test('an idempotency key of one customer means nothing to another customer', async (t) => {
  const api = await open(t)
  const mine = await api.checkout({ headers: k1 })
  const hers = await api.checkout({ headers: { ...k1, authorization: `Bearer ${token({ sub: 'Other@example.com' })}` } })
  t.not(mine.body.order_id, hers.body.order_id)
  t.is(api.tables.intents[1]!.userEmail, 'Other@example.com')
})

test('a repeat joins the open checkout of this process, without asking PostgreSQL for its end', async (t) => {
  let found = 0
  const api = await open(t, {
    service: (service) => ({
      ...service,
      intents: {
        ...service.intents,
        async findClaim(userEmail, idempotencyKey) {
          const claim = await service.intents.findClaim(userEmail, idempotencyKey)
          if (claim) setImmediate(() => (found += 1))
          return claim
        },
      },
    }),
  })
  api.worker = () => {}
  const first = api.checkout({ headers: k1 })
  await until(() => api.jobs.length === 1)
  const second = api.checkout({ headers: k1 })
  await until(() => found === 1)
  api.reply(api.tables.complete(101))
  t.is((await first).status, 200)
  t.deepEqual((await second).body, (await first).body)
  t.is(api.tables.polls, 0)
})

test('a repeat that finds the intent before its own process has heard of it does not keep the job from being added', async (t) => {
  const written = Promise.withResolvers<void>()
  let release = () => {}
  const api = await open(t, {
    service: (service) => ({
      ...service,
      intents: {
        ...service.intents,
        async intend(intent) {
          const intended = await service.intents.intend(intent)
          written.resolve()
          await new Promise<void>((resolve) => (release = resolve)) // PostgreSQL's answer is on its way
          return intended
        },
      },
    }),
  })
  const first = api.checkout({ headers: k1 })
  await written.promise
  const second = api.checkout({ headers: k1 })
  await until(() => api.tables.polls > 0)
  release()
  t.is((await first).status, 200)
  t.deepEqual((await second).body, (await first).body)
  t.is(api.jobs.length, 1)
})

test('a repeat joins the open checkout of another process by polling', async (t) => {
  const api = await open(t)
  await api.checkout({ headers: { 'idempotency-key': 'for-its-hash' } })
  const orderId = api.tables.begin('cust@example.com', 'k1', api.tables.intents[0]!.requestHash)
  const joined = api.checkout({ headers: k1 })
  await until(() => api.tables.polls > 1)
  api.tables.complete(orderId)
  const answer = await joined
  t.is(answer.status, 200)
  t.is(answer.body.order_id, orderId)
  t.is(api.jobs.length, 1)
})

test('a repeat that joins a checkout gets its refusal', async (t) => {
  const api = await open(t)
  await api.checkout({ headers: { 'idempotency-key': 'for-its-hash' } })
  const orderId = api.tables.begin('cust@example.com', 'k1', api.tables.intents[0]!.requestHash)
  const joined = api.checkout({ headers: k1 })
  await until(() => api.tables.polls > 0)
  api.tables.reject(orderId, { status: 409, detail: 'Insufficient stock for product_id 1' })
  const answer = await joined
  t.is(answer.status, 409)
  t.deepEqual(answer.body, { detail: 'Insufficient stock for product_id 1' })
})

test('a repeat that joins an abandoned checkout ends it soon after its deadline', async (t) => {
  const api = await open(t)
  await api.checkout({ headers: { 'idempotency-key': 'for-its-hash' } })
  const orderId = api.tables.begin('cust@example.com', 'k1', api.tables.intents[0]!.requestHash, new Date(Date.now() - 5000))
  t.is((await api.checkout({ headers: k1 })).status, 503)
  t.is(api.tables.rows.get(orderId)!.rejection?.status, 503)
  const afresh = await api.checkout({ headers: k1 })
  t.is(afresh.status, 200)
  t.not(afresh.body.order_id, orderId)
})

test('a key whose checkout was refused begins a new checkout, with a new order id', async (t) => {
  const api = await open(t)
  const completes = api.worker
  api.worker = ({ orderId }) => api.reply(api.tables.reject(orderId, { status: 503, detail: 'Catalog cannot be reached' }))
  t.is((await api.checkout({ headers: k1 })).status, 503)
  api.worker = completes
  const again = await api.checkout({ headers: k1 })
  t.is(again.status, 200)
  t.is(again.body.order_id, 102)
  t.is(again.headers.get('idempotency-replayed'), null)
})

test('a double click without a key joins the open checkout', async (t) => {
  const api = await open(t)
  api.worker = () => {}
  const both = [api.checkout(), api.checkout()]
  await until(() => api.tables.intents.length === 2)
  api.reply(api.tables.complete(101))
  const [first, second] = await Promise.all(both)
  t.deepEqual(first!.body, second!.body)
  t.is(first!.body.order_id, 101)
})

test('a checkout without a key gets one that no customer can send, different for another cart or address', async (t) => {
  const api = await open(t)
  await api.checkout()
  await api.checkout({ body: { ...demoAddress, city: 'Cork' } })
  api.cart = { cart: 'lines', lines: [{ product_id: 1, qty: 3, unit_price_cents: 1, title_snapshot: '' }], totalCents: 3 }
  await api.checkout()
  const keys = api.tables.intents.map((intent) => intent.idempotencyKey)
  t.is(new Set(keys).size, 3)
  for (const key of keys) t.regex(key, /^cart [0-9a-f]{32}$/)
})

test('an idempotency key has 1 to 255 visible characters without spaces', async (t) => {
  const api = await open(t)
  for (const key of ['', 'a b', 'cart 0123', 'ü', 'a\tb', 'x'.repeat(256)]) {
    const answer = await api.checkout({ headers: { 'idempotency-key': key } })
    t.is(answer.status, 422, JSON.stringify(key))
    t.regex(String(answer.body.detail), /Idempotency-Key/)
  }
  for (const key of ['x'.repeat(255), '"quoted"', '!~'])
    t.is((await api.checkout({ headers: { 'idempotency-key': key } })).status, 200, key)
  t.is(api.tables.rows.size, 3)
})
