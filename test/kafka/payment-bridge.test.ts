/** Messages of every kind on their way through the bridge, in one process that does everything. */
import { randomBytes } from 'node:crypto'
import { Kafka, logLevel } from 'kafkajs'
import test from 'ava'
import { removeBefore } from '../support/topic.ts'
import { allPaid, totalsInTheEnd, bridgeTotals, letters, paid, patient, placeOrders } from '../support/payment-totals.ts'
import { type PaymentMessage, paymentOf } from '../support/payments.ts'
import { everything, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let shop: Shop
/** How many messages were published so far. */
let sent = 0
test.beforeEach(async () => {
  shop = await openShop({ roles: everything, env: patient })
  sent = 0
})
test.afterEach.always(() => shop?.close())

async function publish(...messages: PaymentMessage[]): Promise<void> {
  await shop.publish(messages)
  sent += messages.length
}
const flat = (orderId: number, more: object = {}) => paymentOf(orderId, { amount_cents: 1000, currency: 'USD', ...more })
const product = () => shop.catalog.product({ stock: 1000 })

test.serial('a payment makes its order PAID and commits its stock, once', async (t) => {
  const id = product()
  const [order] = await placeOrders(shop, 1, id, 2)

  await shop.pay(order!)

  await allPaid(shop, [order!])
  t.is((await shop.get(`/order/v1/orders/${order}`)).body.status, 'PAID')
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 998, reserved: 0 })
  t.is(shop.catalog.journal({ call: 'commit', productId: id }).length, 1)
  t.deepEqual(await bridgeTotals(shop, { consumed: 1 }), {
    consumed: 1,
    applied: 1,
    duplicate: 0,
    dead: 0,
    waiting: 0,
    ignored: 0,
    lost: 0,
  })
  const { body: ready } = await shop.get('/order/ready')
  t.deepEqual(ready.components.bridge, { state: 'ok', required: false })
  const metrics = await shop.get('/order/metrics')
  t.regex(metrics.body, /order_payment_events_total\{type="payment.succeeded",result="received"\} 1/)
  t.regex(metrics.body, /order_payment_events_total\{type="payment.succeeded",result="paid"\} 1/)
  t.regex(metrics.body, /order_bridge_lag\{partition="0"\} 0/)
})

test.serial('payments that come while the ids of the inbox have run out wait, and none is a dead letter', async (t) => {
  const orders = await placeOrders(shop, 2, product())
  await shop.query(`select setval('order_service.payment_events_id_seq', 9223372036854775807)`)
  const undone = async () => {
    const [row] = await shop.query<{ undone: string }>(
      'select xact_rollback as undone from pg_stat_database where datname = current_database()',
    )
    return Number(row!.undone)
  }
  const before = await undone()
  for (const order of orders) await shop.pay(order)
  await until(undone, (now) => now > before)

  await shop.query(`select setval('order_service.payment_events_id_seq', 100)`)

  await allPaid(shop, orders)
  t.deepEqual(await letters(shop), [])
})

test.serial('unreadable messages of every kind stop nothing and lose no byte: payments around them are applied', async (t) => {
  const id = product()
  const orders = await placeOrders(shop, 40, id)
  const good = orders.map((order) => ({ ...flat(order), partition: 0 }))
  const poison: Omit<PaymentMessage, 'partition'>[] = [
    { key: '1', value: randomBytes(300) },
    { key: '2', value: Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d]) },
    { key: '3', value: null },
    { key: '4', value: '' },
    { key: null, value: '' },
    { key: '', value: '' },
    { key: null, value: null },
    { key: randomBytes(20), value: 'null' },
    { key: '5', value: '17' },
    { key: '5', value: '"payment.succeeded"' },
    { key: '5', value: '[{"type":"payment.succeeded","order_id":1}]' },
    { key: '5', value: '{"order_id":1}' },
    { key: '5', value: '{"type":{"type":"payment.succeeded"},"order_id":1}' },
    ...[null, '"1"', 1.5, 0, -1, 2_147_483_648, 1e300].map((orderId) => ({
      key: '5',
      value: `{"type":"payment.succeeded","order_id":${orderId}}`,
    })),
    ...[1.5, -1, '9007199254740993'].map((cents) => ({
      key: '5',
      value: `{"type":"payment.succeeded","order_id":${orders[0]},"amount_cents":${cents},"currency":"USD"}`,
    })),
    { key: '6', value: 'x'.repeat(1_000_000) },
    { key: '7', value: '['.repeat(300_000) },
    { key: '8', value: `{"type":"payment.succeeded","order_id":${orders[0]},"payment_id":"a\\u0000b"}` },
    { key: '8', value: `{"type":"payment.succeeded","order_id":${orders[0]},"payment_id":"\\ud800"}` },
    { key: '9', value: 'not JSON', headers: { trace: ['1', randomBytes(8)], '': 'no name' } },
    { key: '9', value: 'named like what every object has', headers: { constructor: 'a', toString: ['b', 'c'], valueOf: 'd' } },
  ]
  for (const [i, message] of poison.entries()) await publish(good[i]!, { ...message, partition: 0 })
  await publish(...good.slice(poison.length))

  await allPaid(shop, orders)
  const totals = await bridgeTotals(shop, { consumed: sent })
  t.like(totals, { consumed: sent, applied: 40, dead: poison.length, duplicate: 0 })
  const dead = await letters(shop)
  t.true(dead.every(({ fault }) => fault === 'unreadable'))
  const asBytes = (text: string | Buffer | null | undefined) => (text === null || text === undefined ? null : Buffer.from(text))
  t.deepEqual(
    dead.map(({ key, value }) => ({ key, value })),
    poison.map(({ key, value }) => ({ key: asBytes(key), value: asBytes(value) })),
  )
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 960, reserved: 0 })
})

test.serial('a payment without a key, with a strange date or in a compressed batch is one like any other', async (t) => {
  const orders = await placeOrders(shop, 4, product())
  const dates = ['-1', '0', '9223372036854775807', String(Date.now())]
  // A broker refuses dates far ahead, unless a topic allows them.
  await publish({ key: null, value: '{"type":"other"}' })
  const admin = new Kafka({ brokers: [process.env.KAFKA_BOOTSTRAP!], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const configEntries = [{ name: 'message.timestamp.after.max.ms', value: '9223372036854775807' }]
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: shop.paymentTopic, configEntries }] })
  await admin.disconnect()
  for (const [i, order] of orders.entries()) {
    const messages = [
      { ...flat(order), key: null, partition: 0, timestamp: dates[i]! },
      { key: null, value: 'poison', partition: 0, timestamp: dates[i]! },
    ]
    // The broker answers before the setting holds, on one partition before another: on one, both are taken or none. It refuses a whole batch for one date.
    const isTaken = () =>
      publish(...messages).then(
        () => true,
        () => false,
      )
    await until(isTaken)
  }

  await allPaid(shop, orders)
  t.like(await bridgeTotals(shop, { consumed: sent }), { applied: 4, dead: 4, ignored: 1 })
})

test.serial('repeated payments before, during and after the commit are counted and change nothing', async (t) => {
  const id = product()
  const [order] = await placeOrders(shop, 1, id)
  const slow = shop.catalog.fault({ call: 'commit', fault: 'slow', ms: 300 })
  await publish(flat(order!), flat(order!))
  await until(slow.fired, (times) => times > 0)
  await publish(flat(order!), flat(order!, { envelope: true }))
  await allPaid(shop, [order!])
  await publish(flat(order!), flat(order!, { envelope: true }))

  t.like(await bridgeTotals(shop, { consumed: sent }), { consumed: 6, applied: 1, duplicate: 5, dead: 0 })
  t.is(shop.catalog.journal({ call: 'commit' }).length, 1)
  t.deepEqual(await totalsInTheEnd(shop, id), { in_stock: 999, reserved: 0 })
})

test.serial('the whole topic read again from its beginning changes no order and asks Catalog nothing', async (t) => {
  const id = product()
  const orders = await placeOrders(shop, 30, id)
  await publish(...orders.map((order, i) => flat(order, { envelope: i % 2 === 0 })), { key: null, value: 'poison' })
  await allPaid(shop, orders)
  await bridgeTotals(shop, { consumed: sent })
  const before = await shop.query('select * from public.orders order by id')
  shop.catalog.forget()

  const again = await shop.start(['bridge'], { KAFKA_GROUP: `${shop.group}-again` })
  const totals = await bridgeTotals(shop, { consumed: 2 * sent })
  await again.stop()

  t.like(totals, { consumed: 62, applied: 30, duplicate: 31, dead: 1 })
  t.deepEqual(await shop.query('select * from public.orders order by id'), before)
  t.deepEqual(shop.catalog.journal(), [])
})

test.serial('a payment with the identity of another one and other content is a dead letter, and the first one counts', async (t) => {
  const [order, other] = await placeOrders(shop, 2, product())
  const named = { provider: 'stripe', payment_id: 'pi_1' }
  await publish({ ...flat(order!, named), partition: 0 }, { ...flat(other!, named), partition: 0 })
  await publish({ ...flat(order!, { ...named, amount_cents: 999 }), partition: 0 })

  t.like(await bridgeTotals(shop, { consumed: sent }), { applied: 1, dead: 2 })
  t.deepEqual(await paid(shop, [order!, other!]), [order!])
  t.deepEqual(
    (await letters(shop)).map(({ fault }) => fault),
    ['other-content', 'other-content'],
  )
})

test.serial('a message that PostgreSQL refuses becomes a dead letter alone, in a crowd and by itself', async (t) => {
  const orders = await placeOrders(shop, 11, product())
  // What it might refuse is refused before; this stands for what was forgotten.
  await shop.query(`create function refuse() returns trigger language plpgsql as $$
    begin
      if new.provider = 'refused' then raise exception 'no' using errcode = '22023'; end if;
      if new.provider = 'unreadable' then perform new.payment_id::int; end if;
      return new;
    end $$`)
  await shop.query('create trigger refuse before insert on order_service.payment_events for each row execute function refuse()')
  const messages = orders.slice(0, 10).map((order, i) => ({ ...flat(order, i === 4 ? { provider: 'refused' } : {}), partition: 1 }))
  await publish(...messages)
  await bridgeTotals(shop, { consumed: 10 })
  await publish({ ...flat(orders[10]!, { provider: 'unreadable', payment_id: 'none' }), partition: 1 })

  t.like(await bridgeTotals(shop, { consumed: 11 }), { consumed: 11, applied: 9, dead: 2 })
  t.deepEqual(
    (await letters(shop)).map(({ fault, reason, value }) => ({ fault, reason, order: JSON.parse(String(value)).order_id })),
    [
      { fault: 'unreadable', reason: 'PostgreSQL refuses it: 22023', order: orders[4]! },
      { fault: 'unreadable', reason: 'PostgreSQL refuses it: 22P02', order: orders[10]! },
    ],
  )
})

test.serial('payments that were removed from the topic before the bridge came for them are counted as lost', async (t) => {
  const orders = await placeOrders(shop, 4, product())
  const [first, removed, alsoRemoved, last] = orders.map((order) => ({ ...flat(order), partition: 0 }))
  await publish(first!)
  await bridgeTotals(shop, { consumed: 1 })
  await shop.service.stop()
  await publish(removed!, alsoRemoved!)
  await removeBefore(process.env.KAFKA_BOOTSTRAP!, shop.paymentTopic, 3)
  await publish(last!)

  const service = await shop.start(everything)
  await allPaid(shop, [orders[0]!, orders[3]!])
  t.like(await bridgeTotals(shop, { consumed: 2 }), { consumed: 2, applied: 2, lost: 2 })
  const metrics = await (await fetch(`http://127.0.0.1:${service.port}/order/metrics`)).text()
  t.regex(metrics, /order_bridge_totals\{entry="lost"\} 2/)
  t.deepEqual((await paid(shop, orders)).toSorted(), [orders[0]!, orders[3]!].toSorted())
})

test.serial('a message with two order ids pays neither of them', async (t) => {
  const orders = await placeOrders(shop, 2, product())
  const [one, other] = orders
  await publish({
    key: null,
    value: `{"type":"payment.succeeded","order_id":${one},"amount_cents":1000,"currency":"USD","order_id":${other}}`,
  })

  t.like(await bridgeTotals(shop, { consumed: 1 }), { applied: 0, dead: 1 })
  t.like((await letters(shop))[0], { fault: 'ambiguous', reason: 'it has two order ids' })
  t.deepEqual(await paid(shop, orders), [])
})

test.serial('a currency in small letters pays an order', async (t) => {
  const orders = await placeOrders(shop, 1, product())
  await publish(flat(orders[0]!, { currency: 'usd' }))
  await allPaid(shop, orders)
  t.pass()
})
