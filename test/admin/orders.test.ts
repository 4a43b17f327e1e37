/** `order-admin orders` and `order-admin order`: the same searches and the same life as on the pages. */
import test from 'ava'
import { openShop, type Shop } from '../support/shop.ts'
import { freePort } from '../support/services/ports.ts'
import { admin } from './command.ts'

let shop: Shop
let env: Record<string, string>
let orderId: number
let email: string
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'] })
  env = { POSTGRES_DSN: shop.dsn, REDIS_URL: process.env.REDIS_URL!, REDIS_PREFIX: shop.prefix, TOPIC_ORDER_EVENTS: shop.topic }
  const customer = await shop.customer('ada').wants({ product_id: shop.catalog.product({ stock: 10 }), qty: 1 })
  email = customer.email
  orderId = (await customer.checkout({ key: 'a-key' })).body.order_id
})
test.after.always(() => shop?.close())

test.serial('orders lists what matches all conditions, as a table or as JSON', async (t) => {
  const { code, out, err } = await admin(['orders', '--q', 'a-key', '--state', 'CREATED'], env)
  t.deepEqual([code, err], [0, ''])
  const [heading, line] = out.trimEnd().split('\n')
  t.regex(heading!, /^ORDER +STATE +CREATED +TOTAL/)
  t.regex(line!, new RegExp(`^${orderId} +CREATED +20.*Z +\\d+\\.\\d\\d USD +- +- +${email}$`))
  t.like(JSON.parse((await admin(['orders', '--q', email, '--json'], env)).out), { rows: [{ orderId }], next: null })
  t.is((await admin(['orders', '--state', 'REJECTED'], env)).out, 'No order matches.\n')
  t.deepEqual(await admin(['orders', '--older-than', '3600', '--product', '1'], env), { code: 0, out: 'No order matches.\n', err: '' })
})

test.serial('order shows where an order stands, and its life', async (t) => {
  const { code, out } = await admin(['order', String(orderId)], env)
  t.is(code, 0)
  t.regex(out, /summary +Created, and not paid: it waits for its payment\.\n/)
  t.regex(out, /20.*Z +Checkout requested; /)
  t.regex(out, /20.*Z +Order created\n/)
  t.like(JSON.parse((await admin(['order', String(orderId), '--json'], env)).out), { orderId, state: 'CREATED', actions: [] })
})

test.serial('order shows an open checkout also while Redis is away', async (t) => {
  const [open] = await shop.query<{ order_id: number }>(
    `insert into order_service.checkouts (order_id, user_email, idempotency_key, request_hash, lines, address, total_cents, deadline_at, cause, service)
     values (1000000, 'bob@example.com', 'k', '', '[]', '{}', 1, now() + interval '1 hour', 'downstream-timeout', 'catalog') returning order_id`,
  )
  const noRedis = { ...env, REDIS_URL: `redis://127.0.0.1:${await freePort()}` }
  const { code, out } = await admin(['order', String(open!.order_id)], noRedis)
  t.is(code, 0)
  t.regex(out, /summary +Open and retried, because Catalog does not answer in time .* at an unknown time, because Redis does not answer/)
  t.regex(out, /can help +cancel-checkouts 1000000\n/)
})

test.serial('an unknown order exits with 1, and a wrong command line with 64', async (t) => {
  t.deepEqual(await admin(['order', '2147483647'], env), {
    code: 1,
    out: '',
    err: 'There is no order 2147483647, and no checkout of this number.\n',
  })
  const nowhere = { POSTGRES_DSN: 'postgresql://127.0.0.1:1/none', REDIS_URL: 'redis://127.0.0.1:1' }
  for (const args of [
    ['order'],
    ['order', 'x'],
    ['order', '1', '2'],
    ['orders', '7'],
    ['orders', '--state', 'LOST'],
    ['orders', '--cause', 'x'],
  ])
    t.is((await admin(args, nowhere)).code, 64, args.join(' '))
})
