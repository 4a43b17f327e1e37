import test from 'ava'
import type { ReadMessage } from '../../src/db/inbox.ts'
import { readPaymentMessage } from '../../src/kafka/payment-message.ts'

const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
const read = (value: Buffer | null, key: Buffer | null = null): ReadMessage =>
  readPaymentMessage({ offset: 1n, key, value, headers: [], sentAt: new Date(0) })
const reading = (value: unknown) => read(bytes(value))
const identity = (value: unknown) => {
  const message = reading(value)
  return message.read === 'event' ? message.identity : undefined
}
const flat = { type: 'payment.succeeded', order_id: 7, amount_cents: 25_998, currency: 'USD' }

test('the flat payment message that Payment sends today is read', (t) => {
  t.like(reading(flat), {
    read: 'event',
    event: {
      type: 'payment.succeeded',
      orderId: 7,
      amountCents: 25_998,
      currency: 'USD',
      provider: null,
      paymentId: null,
      details: {},
    },
  })
})

test('the enveloped payment message is read like the flat one', (t) => {
  const { type, order_id: orderId, ...data } = flat
  const envelope = { type, order_id: orderId, user_email: 'ada@example.com', timestamp: '2026-01-01T00:00:00Z', version: 1, data }
  t.deepEqual(reading(envelope), { ...reading(flat), value: bytes(envelope) })
  t.deepEqual(
    identity({ ...envelope, data: { ...data, provider: 'stripe', payment_id: 'pi_1' } }),
    identity({ ...flat, provider: 'stripe', payment_id: 'pi_1' }),
  )
  t.like(reading({ type, data: { ...data, order_id: 7 } }), { event: { orderId: 7 } })
  t.like(reading({ ...flat, data: { type: 'payment.failed' } }), { event: { type: 'payment.succeeded' } })
})

test('a payment message may lack an amount, may have ids as numbers, and its empty ids count as missing', (t) => {
  t.like(reading({ type: 'payment.succeeded', order_id: 1 }), { event: { amountCents: null, currency: null } })
  t.like(reading({ ...flat, amount_cents: 0 }), { event: { amountCents: 0 } })
  t.like(reading({ ...flat, payment_id: 42 }), { event: { paymentId: '42' } })
  t.like(reading({ ...flat, payment_id: '', provider: '' }), { event: { paymentId: null, provider: null } })
  t.like(reading(`\uFEFF${JSON.stringify(flat)}`), { event: { orderId: 7 } })
})

test('repeated messages of one payment have one identity, and another payment has another', (t) => {
  const named = { ...flat, provider: 'stripe', payment_id: 'pi_1' }
  t.is(identity(named), identity({ ...named, amount_cents: 1, order_id: 9, extra: true }))
  t.is(identity(flat), identity({ ...flat, extra: true }))
  const others = [
    flat,
    named,
    { ...flat, order_id: 8 },
    { ...flat, amount_cents: 1 },
    { ...flat, currency: 'EUR' },
    { ...flat, type: 'payment.failed' },
    { ...named, provider: 'paypal' },
    { ...named, payment_id: 'pi_2' },
    { ...named, type: 'payment.failed' },
    { ...named, provider: 'a', payment_id: 'b","c' },
    { ...named, provider: 'a","b', payment_id: 'c' },
  ].map(identity)
  t.is(new Set(others).size, others.length)
  for (const one of others) t.regex(one!, /^[0-9a-f]{64}$/)
})

test('a failed payment is read with its reason and code, cut to what is kept', (t) => {
  const failed = { type: 'payment.failed', order_id: 1, reason: 'declined', code: 51 }
  t.like(reading(failed), { event: { type: 'payment.failed', details: { reason: 'declined', code: '51' } } })
  const long = reading({ ...failed, reason: 'x'.repeat(10_000) })
  t.is(long.read === 'event' ? long.event.details.reason!.length : 0, 500)
})

test('payment messages of other types are ignored, whatever else they contain', (t) => {
  for (const type of ['payment.refunded', 'payment.succeeded.v2', '', 'PAYMENT.SUCCEEDED']) {
    t.is(reading({ type, order_id: 'none of our business' }).read, 'ignored')
    t.is(reading({ type, data: 'neither is this' }).read, 'ignored')
  }
})

const poison: [string, Buffer | null][] = [
  ['no value', null],
  ['an empty value', bytes('')],
  ['random bytes', Buffer.from([0, 159, 146, 150, 255])],
  ['UTF-8 that breaks off', bytes(JSON.stringify(flat)).subarray(0, 20)],
  ['invalid UTF-8 in a string', Buffer.concat([bytes('{"type":"'), Buffer.from([0xc3, 0x28]), bytes('","order_id":1}')])],
  ['JSON null', bytes('null')],
  ['a JSON number', bytes('1')],
  ['a JSON string', bytes('"payment.succeeded"')],
  ['a JSON array', bytes([flat])],
  ['an object without a type', bytes({ order_id: 1 })],
  ['a type that is a number', bytes({ ...flat, type: 1 })],
  ['a type that is null', bytes({ ...flat, type: null })],
  ['data that is a list', bytes({ ...flat, data: [] })],
  ...[undefined, null, '7', 1.5, 0, -1, 2 ** 31, 1e300, true, {}, [7]].map((id): [string, Buffer] => [
    `order_id ${JSON.stringify(id)}`,
    bytes({ ...flat, order_id: id }),
  ]),
  ...[1.5, -1, 2 ** 53, '25998', true, {}].map((amount): [string, Buffer] => [
    `amount ${JSON.stringify(amount)}`,
    bytes({ ...flat, amount_cents: amount }),
  ]),
  ['a currency that is a number', bytes({ ...flat, currency: 840 })],
  ['a currency that is too long', bytes({ ...flat, currency: 'x'.repeat(17) })],
  ['a NUL in the payment id', bytes({ ...flat, payment_id: 'a\0b' })],
  ['half a surrogate pair in the payment id', bytes('{"type":"payment.succeeded","order_id":1,"payment_id":"\\ud83d"}')],
  ['a payment id that is too long', bytes({ ...flat, payment_id: 'x'.repeat(256) })],
  ['a payment id beyond 2^53', bytes('{"type":"payment.succeeded","order_id":1,"payment_id":12345678901234567890}')],
  ['a payment id that is an object', bytes({ ...flat, payment_id: { id: 1 } })],
  ['a provider that is a list', bytes({ ...flat, provider: ['stripe'] })],
  ['a NUL in the reason', bytes({ ...flat, type: 'payment.failed', reason: '\0' })],
  ['a megabyte of text', bytes('x'.repeat(1_000_000))],
  ['deep nesting', bytes('['.repeat(500_000))],
]
for (const [what, value] of poison) {
  test(`${what} is an unreadable payment message, and the reason quotes nothing of it`, (t) => {
    const message = read(value)
    if (message.read !== 'unreadable') return t.fail(JSON.stringify(message.read))
    t.true(message.reason.length > 5 && message.reason.length < 100)
    t.notRegex(message.reason, /25998|stripe|surrogatex|12345678901234567890/)
    t.is(message.value, value)
    t.regex(message.bytesHash, /^[0-9a-f]{64}$/)
    return undefined
  })
}

test('deep nesting inside a readable payment message does no harm', (t) => {
  const nested = `{"type":"payment.succeeded","order_id":7,"more":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
  t.true(['event', 'unreadable'].includes(reading(nested).read))
})

const event = '"type":"payment.succeeded"'
const ambiguous: [string, string][] = [
  ['one order id outside and another in data', `{${event},"order_id":7,"data":{"order_id":8}}`],
  ['the key order_id twice', `{${event},"order_id":7,"order_id":8}`],
  ['the key order_id twice in data', `{${event},"data":{"order_id" : 7, "order_id"\n:\t8}}`],
  ['data twice, each with an order id', `{${event},"data":{"order_id":7},"data":{"order_id":8}}`],
  ['an order id in data that comes before another data', `{${event},"order_id":8,"data":{"order_id":7},"data":{}}`],
  ['the key order_id once in plain letters and once escaped', `{${event},"order\\u005fid":7,"order_id":8}`],
  ['an order id of a number and one of a string', `{${event},"order_id":7,"data":{"order_id":"7"}}`],
  ['two order ids behind quotes and backslashes', `{${event},"a":"\\"\\\\","order_id":7,"b":"\\\\\\"","order_id":8}`],
  ['two types', `{"type":"payment.failed","order_id":7,"type":"payment.succeeded"}`],
  ['two types, of which the last is another', `{"type":"payment.succeeded","order_id":7,"type":"payment.refunded"}`],
]
for (const [what, value] of ambiguous) {
  test(`a message with ${what} is ambiguous`, (t) => {
    t.notThrows(() => JSON.parse(value))
    t.is(reading(value).read, 'ambiguous')
  })
}

const unambiguous: [string, string][] = [
  ['the same order id outside and in data', `{${event},"order_id":7,"data":{"order_id":7}}`],
  ['the same order id twice', `{${event},"order_id":7,"order_id":7}`],
  ['an order id in data and null outside', `{${event},"order_id":null,"data":{"order_id":7}}`],
  ['other order ids deeper inside', `{${event},"order_id":7,"data":{"more":{"order_id":8}},"list":[{"order_id":9,"order_id":10}]}`],
  ['a text that looks like a second order id', `{${event},"order_id":7,"note":"\\"order_id\\":8,\\u0022order_id\\u0022:9"}`],
  ['keys that only resemble it', `{${event},"order_id":7,"order\\nid":8,"1 order_id":9,"order_id ":10,"data":null}`],
  ['a type in data', `{${event},"order_id":7,"data":{"type":"payment.failed"}}`],
]
for (const [what, value] of unambiguous) {
  test(`a message with ${what} is a payment of order 7`, (t) => {
    t.like(reading(value), { read: 'event', event: { orderId: 7, type: 'payment.succeeded' } })
  })
}

test('two order ids in a message of another type, or in a megabyte of escapes, do no harm', (t) => {
  t.is(reading('{"type":"payment.refunded","order_id":7,"data":{"order_id":8}}').read, 'ignored')
  const long = JSON.stringify({ ...flat, note: '"\\\n\u0001'.repeat(150_000), more: { order_id: 8 } })
  t.like(reading(long), { read: 'event', event: { orderId: 7 } })
})

test('a currency in small letters is the same as in capitals', (t) => {
  t.like(reading({ ...flat, currency: 'usd' }), { event: { currency: 'USD' } })
  t.is(identity({ ...flat, currency: 'usd' }), identity(flat))
})

test('the hash of a message tells its key from its value, and a missing value from an empty one', (t) => {
  const none = Buffer.alloc(0)
  const some = bytes('x')
  const hashes = [read(null, null), read(none, null), read(null, none), read(none, none), read(some, none), read(none, some)].map(
    (message) => (message.read === 'unreadable' ? message.bytesHash : ''),
  )
  t.is(new Set(hashes).size, 6)
})
