/** `order-admin drain`: what customers and operators see of it, how it waits, and how it ends. */
import test from 'ava'
import { patient } from '../support/payment-totals.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { admin, startAdmin } from './command.ts'

let shop: Shop
let env: Record<string, string>
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'], env: patient })
  env = { POSTGRES_DSN: shop.dsn, REDIS_URL: process.env.REDIS_URL! }
})
test.afterEach.always(async () => {
  await shop.query('delete from order_service.drain')
  await shop.query('update order_service.outbox set sent_at = now()') // no relay is running
})
test.after.always(() => shop?.close())

const run = (...args: string[]) => admin(['drain', ...args], env)
const buyer = () => shop.customer().wants({ product_id: shop.catalog.product({ stock: 10 }), qty: 1 })
const drained = async () => (await shop.get('/order/metrics')).body.match(/^order_drained \d$/m)[0]
const intake = async () => (await shop.get('/order/ready')).body.components.intake

test.serial('drain ends at once where nothing is under way, and customers get a 503 until the drain is undone', async (t) => {
  const known = await buyer()
  const before = await known.checkout({ key: 'k1' })
  t.is(before.status, 200)
  await shop.query('update order_service.outbox set sent_at = now()')
  t.is(await drained(), 'order_drained 0')

  const said = await run()

  t.is(said.code, 0, said.err)
  t.regex(said.out, /^All open work is finished\.\n/)
  const refused = await (await buyer()).checkout()
  t.is(refused.status, 503)
  t.deepEqual(refused.body, { detail: 'New orders are not taken at the moment' })
  t.is(refused.headers.get('retry-after'), '30')
  t.is(refused.headers.get('checkout-outcome'), null)
  const keyed = await (await buyer()).checkout({ key: 'k2' })
  t.like(keyed.body, { detail: 'New orders are not taken at the moment', outcome: 'unknown' })
  t.is(keyed.headers.get('retry-after'), '30')
  t.like(await known.checkout({ key: 'k1' }), { status: 200, body: before.body }, 'the same answer again')
  t.is((await shop.get(`/order/v1/orders/${before.body.order_id}`)).status, 200)
  await until(drained, (line) => line === 'order_drained 1') // all who ask within 5 s get one text
  t.regex((await intake()).state, /^drained since \d{4}-.*order-admin drain --undo/)
  t.is((await shop.get('/order/ready')).status, 200)

  t.deepEqual(await run('--undo'), { code: 0, out: 'New orders and payments are accepted again.\n', err: '' })

  t.is((await (await buyer()).checkout()).status, 200)
  await until(drained, (line) => line === 'order_drained 0')
  t.deepEqual(await intake(), { state: 'ok', required: false })
  t.is((await run('--undo')).out, 'The service was not drained; nothing was changed.\n')
})

test.serial('drain prints its progress while checkouts under way go on', async (t) => {
  const customer = await buyer()
  const down = shop.shipping.fault({ call: 'create', fault: 'error' })
  const answer = customer.checkout()
  await until(down.fired, (fired) => fired > 0)

  const command = startAdmin(['drain', '--json'], env)
  await until(() => command.err().includes('Open work: 1 checkout'))
  down.remove()
  t.is((await answer).status, 200)
  await until(() => command.err().includes('Open work: 1 event'))
  await shop.query('update order_service.outbox set sent_at = now() where sent_at is null')

  const { code, out, err } = await command.said
  t.is(code, 0, err)
  t.deepEqual(JSON.parse(out), {
    drained: true,
    empty: true,
    open: { transactions: 0, checkouts: 0, payments: 0, events: 0, products: 0 },
    notWaitedFor: { deadLetters: 0, undeliverable: 0, oversold: 0, lateCalls: 0 },
  })
})

test.serial('drain exits with 1 when somebody undoes it meanwhile', async (t) => {
  t.is((await (await buyer()).checkout()).status, 200)
  const command = startAdmin(['drain'], env)
  await until(() => command.err().includes('Open work: 1 event'))
  t.is((await run('--undo')).code, 0)
  const { code, out, err } = await command.said
  t.is(code, 1)
  t.is(out, '')
  t.regex(err, /^The drain was undone by another operator/m)
})

test.serial('drain that times out prints what is left and what to do, and exits with 75', async (t) => {
  t.is((await (await buyer()).checkout()).status, 200)
  await shop.query(`
    with waiting as (
      insert into order_service.payment_events (identity, type, order_id, topic, partition, kafka_offset, value, headers, sent_at, touched_at)
      values ('x', 'payment.succeeded', 999999, 'payments', 0, 1, '', '[]', now(), now() + interval '1 day')
    ), letter as (
      insert into order_service.dead_letters (topic, partition, kafka_offset, bytes_hash, headers, sent_at, fault, reason)
      values ('payments', 0, 2, '', '[]', now(), 'unreadable', 'so it was')
    )
    insert into order_service.products (product_id, expected_stock, foreign_holds, reconciling_since)
    values (900001, 1, -1, now())`)

  const said = await run('--timeout', '0')
  const json = await run('--timeout', '0.1', '--json')

  t.is(said.code, 75)
  t.is(said.out, '')
  t.regex(said.err, /^Open work is not finished after 0 s; new orders and payments are still not accepted\.$/m)
  t.regex(said.err, /^ {2}1 payment: received but not applied; check that a worker is running/m)
  t.regex(said.err, /^ {2}1 event: not acknowledged by Kafka; check that a relay is running/m)
  t.is(json.code, 75)
  t.like(JSON.parse(json.out), {
    drained: true,
    empty: false,
    open: { payments: 1, events: 1, products: 0 },
    notWaitedFor: { deadLetters: 1, oversold: 1 },
  })

  await shop.query(`update order_service.payment_events set state = 'APPLIED', result = 'recorded'`)
  await shop.query('update order_service.outbox set sent_at = now()')
  const done = await run()
  t.is(done.code, 0)
  t.regex(done.out, /^Not waited for: dead letters, 1 \(order-admin dead-letters list\)$/m)
  t.regex(done.out, /^Not waited for: oversold products, 1 /m)
})

test.serial('drain with a wrong command line changes nothing', async (t) => {
  for (const args of [['now'], ['--undo', '--timeout', '5'], ['--timeout', 'soon'], ['--timeout', '3601'], ['--wait', '1']]) {
    t.is((await run(...args)).code, 64, args.join(' '))
  }
  t.deepEqual(await shop.query('select from order_service.drain'), [])
})
