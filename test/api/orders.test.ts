import test from 'ava'
import type { OrderView } from '../../src/db/orders.ts'
import { open, shoes } from './harness.ts'

const order = (id: number, more: Partial<OrderView> = {}): OrderView => ({
  id,
  status: 'CREATED',
  totalCents: 25_998,
  currency: 'USD',
  items: [shoes],
  ...more,
})
const having = (readOrder: (id: number) => Promise<OrderView | undefined>) => ({
  service: <S>(service: S) => ({ ...service, readOrder }),
})

test('an order reads back with its items, open to all', async (t) => {
  const api = await open(
    t,
    having(async (id) => order(id)),
  )
  const answer = await api.get('/order/v1/orders/123')
  t.is(answer.status, 200)
  t.deepEqual(answer.body, {
    id: 123,
    status: 'CREATED',
    total_cents: 25_998,
    currency: 'USD',
    items: [{ product_id: 1, qty: 2, unit_price_cents: 12_999, title_snapshot: 'Air Zoom' }],
  })
})

test('an open checkout is PENDING, one that ended otherwise is CANCELLED and says why', async (t) => {
  const api = await open(
    t,
    having(async (id) =>
      id === 1 ? order(1, { status: 'PENDING' }) : order(2, { status: 'CANCELLED', reason: 'Insufficient stock for product_id 1' }),
    ),
  )
  const pending = await api.get('/order/v1/orders/1')
  t.is(pending.body.status, 'PENDING')
  t.false('reason' in pending.body)
  t.like((await api.get('/order/v1/orders/2')).body, { status: 'CANCELLED', reason: 'Insufficient stock for product_id 1' })
})

test('an unknown order, or an id that cannot exist, is a 404', async (t) => {
  const asked: number[] = []
  const api = await open(
    t,
    having(async (id) => void asked.push(id) as undefined),
  )
  for (const id of ['5', '2147483647', '0', '-1', '2147483648', '9'.repeat(400)]) {
    const answer = await api.get(`/order/v1/orders/${id}`)
    t.is(answer.status, 404, id)
    t.deepEqual(answer.body, { detail: 'Order not found' })
  }
  t.deepEqual(asked, [5, 2_147_483_647])
})

test('an order id that is no integer is a 422', async (t) => {
  const api = await open(t)
  for (const id of ['abc', '1.5', '1e3', '0x10', '%00', '1%2F2', '%FF', 'NaN', '१', 'checkout']) {
    const answer = await api.get(`/order/v1/orders/${id}`)
    t.is(answer.status, 422, id)
    t.is(typeof answer.body.detail, 'string')
  }
})

test('an order read from a hanging PostgreSQL is a 503 after two seconds', async (t) => {
  const api = await open(
    t,
    having(() => new Promise(() => {})),
  )
  const began = performance.now()
  const answer = await api.get('/order/v1/orders/1')
  t.is(answer.status, 503)
  t.is(answer.headers.get('retry-after'), '1')
  t.true(performance.now() - began < 4000)
})

test('an order read while PostgreSQL is away is a 503', async (t) => {
  const api = await open(t)
  api.tables.down = new Error('connect ECONNREFUSED')
  const answer = await api.get('/order/v1/orders/1')
  t.is(answer.status, 503)
  t.is(answer.headers.get('retry-after'), '1')
})
