import { randomUUID } from 'node:crypto'
import test from 'ava'
import { Redis } from 'ioredis'
import { createCarts } from '../../src/clients/cart.ts'
import { readConfig } from '../../src/config.ts'

const url = process.env.REDIS_URL
if (!url) throw new Error('REDIS_URL is not set; run the tests by bin/test')
const redis = new Redis(url, { maxRetriesPerRequest: 1 })
const MAX_LINES = 500
const carts = createCarts(redis, MAX_LINES)

const filled: string[] = []
test.after.always(async () => {
  if (filled.length > 0) await redis.del(filled)
  await redis.quit()
})

/** @returns a customer whose cart has these values, text as it stands and the rest as JSON */
async function customer(...values: unknown[]): Promise<string> {
  const email = `${randomUUID()}@example.com`
  filled.push(`cart:${email}`)
  for (const [field, value] of values.entries()) {
    await redis.hset(`cart:${email}`, `field-${field}`, typeof value === 'string' ? value : JSON.stringify(value))
  }
  return email
}

const item = (more: Record<string, unknown> = {}) => ({ product_id: 1, qty: 2, unit_price_cents: 12_999, title: 'Air Zoom', ...more })
const line = (more: Record<string, unknown> = {}) => ({
  product_id: 1,
  qty: 2,
  unit_price_cents: 12_999,
  title_snapshot: 'Air Zoom',
  ...more,
})

test('a cart is read line by line, in the order of products, with its total', async (t) => {
  const email = await customer(item({ product_id: 7, qty: 1 }), item({ product_id: 1, note: 'ignored' }))
  t.deepEqual(await carts.read(email), { cart: 'lines', lines: [line(), line({ product_id: 7, qty: 1 })], totalCents: 3 * 12_999 })
})

test('two lines of one product stay two, in the same order for each reader; the product id inside the value counts, not the name of the field', async (t) => {
  const email = await customer(item({ qty: 5, unit_price_cents: 2 }), item({ qty: 1, unit_price_cents: 3 }))
  t.deepEqual(await carts.read(email), {
    cart: 'lines',
    lines: [line({ qty: 1, unit_price_cents: 3 }), line({ qty: 5, unit_price_cents: 2 })],
    totalCents: 13,
  })
})

test('a customer without a cart has an empty one, and names differ by their letters', async (t) => {
  const email = await customer(item())
  t.deepEqual(await carts.read(email.toUpperCase()), { cart: 'empty' })
})

test('a cart may have the largest ids, free products and totals beyond 32 bits', async (t) => {
  const email = await customer(
    item({ product_id: 2_147_483_647, qty: 2_147_483_647, unit_price_cents: 4_000_000 }),
    item({ product_id: 5, unit_price_cents: 0, title: '' }),
  )
  const cart = await carts.read(email)
  t.like(cart, { cart: 'lines', totalCents: 2_147_483_647 * 4_000_000 })
})

test('a product title is cut to 255 characters as PostgreSQL counts them, never refused, never cut through a character', async (t) => {
  const email = await customer(item({ title: 'x'.repeat(400) }), item({ title: '👟'.repeat(300) }), item({ title: '👟'.repeat(255) }))
  const cart = await carts.read(email)
  if (cart.cart !== 'lines') return t.fail(cart.cart)
  t.deepEqual(
    cart.lines.map(({ title_snapshot }) => title_snapshot),
    ['x'.repeat(255), '👟'.repeat(255), '👟'.repeat(255)], // one of them has been cut
  )
})

const malformed: [string, unknown][] = [
  ['no JSON', '{"product_id": 1'],
  ['empty text', ''],
  ['null', 'null'],
  ['a list', []],
  ['no product', item({ product_id: undefined })],
  ['product 0', item({ product_id: 0 })],
  ['product beyond integer', item({ product_id: 2_147_483_648 })],
  ['a product that is text', item({ product_id: '1' })],
  ['quantity 0', item({ qty: 0 })],
  ['a negative quantity', item({ qty: -1 })],
  ['half a unit', item({ qty: 1.5 })],
  ['a quantity beyond integer', item({ qty: 2_147_483_648 })],
  ['no price', item({ unit_price_cents: undefined })],
  ['a negative price', item({ unit_price_cents: -1 })],
  ['a price in fractions', item({ unit_price_cents: 0.5 })],
  ['a price that cannot be counted exactly', '{"product_id":1,"qty":1,"unit_price_cents":9007199254740993,"title":"x"}'],
  ['no title', item({ title: undefined })],
  ['a title that is no text', item({ title: 7 })],
  ['a NUL in a title', item({ title: 'a\0b' })],
  ['half of a surrogate pair in a title', item({ title: 'a\ud83d' })],
]

for (const [what, value] of malformed) {
  test(`a cart line with ${what} makes the cart malformed`, async (t) => {
    const cart = await carts.read(await customer(item(), value))
    t.is(cart.cart, 'malformed')
    t.regex((cart as { detail: string }).detail, /^Cart is malformed: /)
  })
}

test('a cart whose total cannot be computed or stored is malformed', async (t) => {
  const many = item({ qty: 2_147_483_647, unit_price_cents: 1 })
  t.is((await carts.read(await customer(many, many))).cart, 'malformed')
  const dear = item({ qty: 2, unit_price_cents: Number.MAX_SAFE_INTEGER })
  t.is((await carts.read(await customer(dear))).cart, 'malformed')
  const half = item({ qty: 1, unit_price_cents: 2 ** 52 })
  t.is((await carts.read(await customer(half, half))).cart, 'malformed')
})

test('a cart key that is not a Redis hash is malformed', async (t) => {
  const email = await customer()
  await redis.set(`cart:${email}`, 'text')
  t.is((await carts.read(email)).cart, 'malformed')
})

const lines = (count: number) =>
  Object.fromEntries(
    Array.from({ length: count }, (_, i) => [String(i), JSON.stringify(item({ product_id: 2_147_483_647 - i, qty: 100_000 }))]),
  )

test('a cart has as many lines as one checkout may hold products, and is refused beyond', async (t) => {
  const email = await customer()
  await redis.hset(`cart:${email}`, lines(MAX_LINES))
  t.like(await carts.read(email), { cart: 'lines' })
  await redis.hset(`cart:${email}`, lines(MAX_LINES + 1))
  t.deepEqual(await carts.read(email), { cart: 'malformed', detail: 'Cart has more than 500 lines' })
})

test('the event of the longest cart that can be allowed fits into a message', async (t) => {
  const most = 10_000
  t.throws(() => readConfig({ MAX_CART_LINES: String(most + 1) }))
  const { MAX_CART_LINES: maxLines } = readConfig({ MAX_CART_LINES: String(most) })
  const email = await customer()
  await redis.hset(`cart:${email}`, lines(most))
  const cart = await createCarts(redis, maxLines).read(email)
  if (cart.cart !== 'lines') return t.fail(cart.cart)
  // As PostgreSQL prints the items of an event: with a space after each colon and comma.
  const items = JSON.stringify(cart.lines, ['product_id', 'qty', 'unit_price_cents']).replaceAll(/[:,]/g, '$& ')
  t.true(items.length < 1_000_000)
})

for (const currency of ['USD', 'usd', null]) {
  test(`a cart line whose currency is ${currency} is sold`, async (t) => {
    t.deepEqual(await carts.read(await customer(item({ currency }))), { cart: 'lines', lines: [line()], totalCents: 25_998 })
  })
}

for (const currency of ['EUR', 'US', '', 840, { code: 'USD' }]) {
  test(`a cart line whose currency is ${JSON.stringify(currency)} is never sold as USD`, async (t) => {
    const cart = await carts.read(await customer(item(), item({ currency })))
    t.deepEqual(cart, { cart: 'malformed', detail: 'Cart is malformed: a line is not in USD' })
  })
}

test('a cart whose titles are too long altogether is refused', async (t) => {
  t.deepEqual(await carts.read(await customer(item({ title: 'x'.repeat(2_200_000) }))), { cart: 'malformed', detail: 'Cart is too large' })
})

test('reading a cart throws when Redis cannot be asked', async (t) => {
  const away = new Redis({ port: 1, host: '127.0.0.1', maxRetriesPerRequest: 1, enableOfflineQueue: false, retryStrategy: () => null })
  away.on('error', () => {})
  await t.throwsAsync(createCarts(away, MAX_LINES).read('cust@example.com'))
  away.disconnect()
})
