/** PostgreSQL, Redis and Kafka of this file's own are killed while payments stream in: each is applied once, none is lost. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { allPaid, totalsInTheEnd, bridgeTotals, patient, placeOrders } from '../support/payment-totals.ts'
import { paymentOf } from '../support/payments.ts'
import { type Kafka, type OwnServers, type Postgres, type Redis, startServers } from '../support/services/index.ts'
import { everything, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let servers: OwnServers
let postgres: Postgres
let redis: Redis
let kafka: Kafka
let shop: Shop
/** Payments announced so far, each at least once. */
let sent = 0
test.before(async () => {
  servers = await startServers('test-payment-outages')
  ;({ postgres, redis, kafka } = servers)
  Object.assign(process.env, { POSTGRES_DSN: postgres.dsn, REDIS_URL: redis.url, KAFKA_BOOTSTRAP: kafka.bootstrap })
  shop = await openShop({ roles: everything, env: { ...patient, CALL_TIMEOUT_MS: '1000' } })
})
test.after.always(async () => {
  await shop?.close()
  await servers?.stop()
})

/** Announces one payment after the other; a send that fails is repeated, as Payment does it. */
async function stream(orders: readonly number[]): Promise<void> {
  for (const order of orders) {
    const message = paymentOf(order, { amount_cents: 1000, currency: 'USD' })
    while (
      !(await shop.publish([message]).then(
        () => true,
        () => false,
      ))
    )
      await sleep(100)
    sent += 1
  }
}

async function ordersOf(count: number): Promise<{ id: number; orders: number[] }> {
  const id = shop.catalog.product({ stock: 1000 })
  return { id, orders: await placeOrders(shop, count, id) }
}

const received = (orders: readonly number[]) =>
  until(
    () => shop.query('select from order_service.payment_events where order_id = any($1)', [orders]).catch(() => []),
    (rows) => rows.length > 0,
  )

for (const [name, server] of [
  ['PostgreSQL', () => postgres],
  ['Kafka', () => kafka],
] as const) {
  test.serial(`${name} killed and restarted in the middle: every payment is applied once`, async (t) => {
    const { id, orders } = await ordersOf(60)
    const streaming = stream(orders)
    await received(orders)
    await server().kill()
    if (name !== 'Kafka') await streaming
    await server().restart()
    await streaming

    await allPaid(shop, orders, 90_000)
    await until(
      () => totalsInTheEnd(shop, id),
      (totals) => totals?.in_stock === 940 && totals.reserved === 0,
      90_000,
    )
    const totals = await bridgeTotals(shop, { consumed: sent })
    t.is(totals.dead, 0)
    t.is(totals.applied, sent)
    t.is((await shop.get('/order/ready')).body.components.bridge.state, 'ok')
  })
}

test.serial('Redis killed and back empty in the middle: every payment is applied once', async (t) => {
  const { id, orders } = await ordersOf(60)
  const streaming = stream(orders)
  await received(orders)
  await redis.kill()
  await streaming
  await redis.restart()
  // Jobs that were lost with it are found again by what nobody has touched for 40 s; a worker checks when it starts.
  await until(
    () => shop.query('select from order_service.payment_events where order_id = any($1)', [orders]),
    (rows) => rows.length === 60,
  )
  await shop.query(`update order_service.payment_events set touched_at = touched_at - interval '2 minutes' where state = 'WAITING'`)
  await shop.start(['worker'])

  await allPaid(shop, orders, 90_000)
  await until(
    () => totalsInTheEnd(shop, id),
    (totals) => totals?.in_stock === 940 && totals.reserved === 0,
    90_000,
  )
  const totals = await bridgeTotals(shop, { consumed: sent })
  t.like(totals, { applied: sent, dead: 0 })
})
