import test from 'ava'
import { until } from '../until.ts'
import { ask, callShipment, gone, noAnswer } from './caller.ts'
import { type DownstreamsOptions, startDownstreams } from './index.ts'

async function open(t: { teardown(end: () => Promise<void>): void }, options: DownstreamsOptions = {}) {
  const { shipping, shippingBase, stop } = await startDownstreams({ seed: 1, ...options })
  t.teardown(stop)
  return { shipping, base: shippingBase, list: (query: string) => ask(`${shippingBase}/shipping/v1/shipments${query}`) }
}

test('a shipment is made as it was asked for, and found by its order', async (t) => {
  const { shipping, base, list } = await open(t)
  const shipment = {
    id: 1,
    order_id: 123,
    user_email: 'cust@example.com',
    address_line1: '1 Demo Street',
    address_line2: '',
    city: 'Dublin',
    country: 'IE',
    postcode: 'D01XYZ',
    carrier: '',
    tracking_number: '',
    status: 'PENDING_PAYMENT',
  }
  t.deepEqual(await callShipment(base), { status: 201, body: shipment })
  t.deepEqual(await list('?order_id=123'), { status: 200, body: [shipment] })
  t.deepEqual(await list('?order_id=124'), { status: 200, body: [] })
  t.is((await list('?order_id=shoes')).status, 422)
  t.is((await list('')).status, 422)
  t.deepEqual(shipping.shipments(123), [shipment])
})

test('Shipping makes a second shipment when asked twice', async (t) => {
  const { shipping, base, list } = await open(t)
  for (let n = 0; n < 2; n++) t.is((await callShipment(base, {}, { headers: { 'idempotency-key': 'a' } })).status, 201)
  t.is(shipping.count(123), 2)
  t.is(((await list('?order_id=123')).body as unknown[]).length, 2)
})

const refused: Record<string, unknown>[] = [
  ...['x@shop.local', 'x@shop.test', 'x@test', 'x@shop.invalid', 'x@localhost', 'x@LOCALHOST', 'x@sub.localhost'].map((user_email) => ({
    user_email,
  })),
  ...['', 'cust', '@example.com', 'a b@example.com', 'a..b@example.com', 'x@example', 'x@-a.com', 'x@example.123', null].map(
    (user_email) => ({ user_email }),
  ),
  ...['I', 'IRL', 'I1', '', 'ÄÖ', null].map((country) => ({ country })),
  ...['123', 1.5, null, 2 ** 31].map((order_id) => ({ order_id })),
  { address_line1: 'x'.repeat(256) },
  { address_line2: 'x'.repeat(256) },
  { address_line2: null },
  { city: 'x'.repeat(129) },
  { postcode: 'x'.repeat(33) },
  { city: undefined },
]

test('Shipping refuses every malformed field', async (t) => {
  const { shipping, base } = await open(t, { instant: true })
  for (const change of refused) {
    const { status, body } = await callShipment(base, change)
    t.is(status, 422, JSON.stringify(change))
    t.truthy((body as { detail: unknown }).detail)
  }
  for (const body of ['', '{', '[]', 'null']) t.is((await ask(`${base}/shipping/v1/shipments`, { method: 'POST', body })).status, 422, body)
  t.deepEqual(shipping.shipments(), [])
})

test('Shipping accepts any script, the longest values it has room for, and deliverable emails', async (t) => {
  const { base } = await open(t, { instant: true })
  const taken = [
    { user_email: 'o’brien'.replace('’', "'") + '+shop@mail.example.co.uk' },
    { user_email: 'jörg@bücher.example' },
    { city: 'ダブリン', address_line1: '🏠'.repeat(255) },
    { country: 'ie' },
    { address_line2: undefined },
  ]
  for (const change of taken) t.is((await callShipment(base, change)).status, 201, JSON.stringify(change))
})

test('Shipping answers text that its database cannot keep with a 500', async (t) => {
  const { shipping, base } = await open(t)
  t.is((await callShipment(base, { city: 'Dub\0lin' })).status, 500)
  t.is((await callShipment(base, { city: '\ud800' })).status, 500)
  t.is(shipping.count(123), 0)
})

test('Shipping serves sixteen calls at a time', async (t) => {
  const { shipping, base } = await open(t)
  const since = performance.now()
  const answers = await Promise.all(Array.from({ length: 16 }, (_, n) => callShipment(base, { order_id: n })))
  t.true(performance.now() - since > 40, 'one after the other')
  t.true(answers.every(({ status }) => status === 201))
  t.true(shipping.inFlightMost() <= 16 && shipping.inFlightMost() > 1)
  t.false(shipping.broke())
})

test('Shipping serves sixteen calls at a time at the real pace too', async (t) => {
  const { shipping, base, list } = await open(t, { real: true })
  const since = performance.now()
  const answers = await Promise.all(Array.from({ length: 16 }, (_, n) => callShipment(base, { order_id: n })))
  t.true(performance.now() - since > 35, '16 calls at 240 a second')
  t.true(answers.every(({ status }) => status === 201))
  t.is(((await list('?order_id=1')).body as unknown[]).length, 1)
  t.false(shipping.broke())
})

test('Shipping breaks above a hundred calls at a time: 500s, resets and hangs, until fewer than fifty are left', async (t) => {
  const { shipping, base } = await open(t)
  shipping.fault({ fault: 'hang', times: 101 })
  const arrived = () => shipping.journal().length
  const left = () => shipping.journal().filter(({ ms }) => ms > 0).length
  /** Calls that have arrived, and the end of those of them that nobody answers. */
  async function call(calls: number): Promise<() => Promise<void>> {
    const [caller, before] = [new AbortController(), arrived()]
    const outcomes = Array.from({ length: calls }, (_, n) =>
      noAnswer(callShipment(base, { order_id: before + n }, { signal: caller.signal })),
    )
    await until(() => arrived() === before + calls)
    return async () => {
      caller.abort()
      await Promise.all(outcomes)
    }
  }

  const hung = [await call(49), await call(1), await call(50)]
  t.false(shipping.broke())
  hung.push(await call(1))
  t.true(shipping.broke())

  const goAway = await call(40)
  await until(() => shipping.journal().every(({ fault }) => fault !== undefined))
  t.deepEqual([...new Set(shipping.journal().map(({ fault }) => fault))].sort(), ['drop', 'error', 'hang', 'reset'])
  await goAway()

  for (const go of hung.slice(2)) await go()
  await until(() => left() === 40 + 51)
  await (await call(1))()
  await until(() => left() === 40 + 51 + 1)
  t.truthy(shipping.journal().at(-1)?.fault, 'fifty are left')

  await hung[1]?.()
  await until(() => left() === 40 + 51 + 1 + 1)
  t.is((await callShipment(base, { order_id: 1_000 })).status, 201)
  shipping.forget()
  t.false(shipping.broke())
  await hung[0]?.()
})

test('faults strike one order, one customer, or lists alone', async (t) => {
  const { shipping, base, list } = await open(t)
  shipping.fault({ call: 'create', orderId: 7, fault: 'error', status: 503 })
  shipping.fault({ call: 'create', email: 'unlucky@example.com', fault: 'drop' })
  shipping.fault({ call: 'list', fault: 'garbage', times: 1 })

  t.is((await callShipment(base, { order_id: 7 })).status, 503)
  t.is(await noAnswer(callShipment(base, { order_id: 8, user_email: 'unlucky@example.com' })), 'UND_ERR_SOCKET')
  t.is((await callShipment(base, { order_id: 9 })).status, 201)
  t.is((await list('?order_id=9')).body, '<html>It works!')
  t.is(((await list('?order_id=9')).body as unknown[]).length, 1)
  t.deepEqual([shipping.count(7), shipping.count(8), shipping.count(9)], [0, 1, 1])
  t.deepEqual(
    shipping.journal({ call: 'create' }).map(({ orderId, email, answer, applied }) => [orderId, email, answer, applied]),
    [
      [7, 'cust@example.com', 503, false],
      [8, 'unlucky@example.com', 'none', true],
      [9, 'cust@example.com', 201, true],
    ],
  )
})

test('a shipment may come to be after its caller gave up', async (t) => {
  const { shipping, base } = await open(t)
  shipping.fault({ call: 'create', fault: 'late', ms: 150 })
  const outcome = await gone(
    (signal) => callShipment(base, {}, { signal }),
    () => shipping.journal().length === 1,
  )
  t.is(outcome, 'AbortError')
  t.is(shipping.count(123), 0)
  await until(() => shipping.count(123) === 1)
})

test('a Shipping that is taken down refuses connections, and is back with its shipments', async (t) => {
  const { shipping, base } = await open(t)
  await callShipment(base)
  await shipping.down()
  t.is(await noAnswer(callShipment(base)), 'ECONNREFUSED')
  await shipping.up()
  await callShipment(base)
  t.is(shipping.count(123), 2)
})
