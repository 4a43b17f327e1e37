/** Somebody sets the group back to the beginning of the topic, months later: what had an effect has it once, though its bytes are pruned. */
import test from 'ava'
import { listLetters } from '../../src/db/dead-letters.ts'
import { discardLetters } from '../../src/db/handle-letters.ts'
import { connectPool } from '../../src/db/pool.ts'
import { createReaper } from '../../src/processors/reaper.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { allPaid, totalsInTheEnd, bridgeTotals, patient, placeOrders } from '../support/payment-totals.ts'
import { paymentOf } from '../support/payments.ts'
import { everything, openShop } from '../support/shop.ts'

const DAY_MS = 86_400_000

test('the whole topic read again after everything was pruned changes nothing', async (t) => {
  const shop = await openShop({ roles: everything, env: patient })
  t.teardown(shop.close)
  const logger = createLogger('silent')
  const pool = await connectPool(shop.dsn, { size: 2, logger })
  t.teardown(() => pool.end())
  const product = shop.catalog.product({ stock: 100 })
  const orders = await placeOrders(shop, 3, product)
  const flat = (orderId: number, more: object = {}) => paymentOf(orderId, { amount_cents: 1000, currency: 'USD', ...more })
  await shop.publish([
    ...orders.map((order) => flat(order, { provider: 'card', payment_id: `p-${order}` })),
    flat(orders[0]!, { provider: 'card', payment_id: `p-${orders[0]}`, amount_cents: 7 }), // other content under a known identity
    flat(orders[1]!, { provider: 'card', payment_id: 'a second one' }),
    flat(orders[2]!, { type: 'payment.failed', reason: 'card declined' }),
    { key: '9', value: 'not JSON' },
  ])
  await allPaid(shop, orders)
  const first = await bridgeTotals(shop, { consumed: 7 })
  const letters = await listLetters(pool, { all: true, limit: 10 })
  await pool.transaction((tx) =>
    discardLetters(
      tx,
      letters.map(({ id }) => id),
      'refunded',
    ),
  )
  await shop.query(`update order_service.dead_letters set published_at = now(), last_at = now() - interval '1 year'`)
  await shop.query(`update order_service.payment_events set received_at = now() - interval '1 year'`)
  await shop.query(`update order_service.checkouts set created_at = now() - interval '1 year'`)
  await shop.query(`update order_service.outbox set sent_at = now() - interval '1 year'`)
  const retention = { outboxMs: DAY_MS, checkoutMs: DAY_MS, inboxMs: DAY_MS, reconciliationsMs: DAY_MS }
  const pruned = await createReaper({ pool, retention, logger, metrics: createMetrics() })()
  t.deepEqual(pruned, {
    outbox: 3,
    checkouts: 3,
    payment_events: 4,
    dead_letters: 3,
    reconciliations: 0,
    ambiguities: 0,
    unanswered_calls: 0,
    operator_actions: 0,
    operator_action_items: 0,
    minutes: 0,
    processes: 0,
  })
  const dump = async () => ({
    events: await shop.query('select id, identity, state, result, pruned_at from order_service.payment_events order by id'),
    letters: await shop.query('select id, state, fault, times, pruned_at from order_service.dead_letters order by id'),
    orders: await shop.query('select id, status, updated_at from public.orders order by id'),
    outbox: await shop.query('select id from order_service.outbox'),
  })
  const before = await dump()
  t.is(before.letters.length, 3)

  await shop.start(['bridge'], { PORT: '0', KAFKA_GROUP: `${shop.group}-from-the-beginning` })

  const again = await bridgeTotals(shop, { consumed: 14 })
  t.deepEqual(again, { ...first, consumed: 14, duplicate: first.duplicate + 7 })
  t.deepEqual(await dump(), before)
  t.deepEqual(await totalsInTheEnd(shop, product), { in_stock: 97, reserved: 0 })
  const committed = shop.catalog.journal({ call: 'commit', productId: product }).flatMap(({ items }) => items)
  t.is(
    committed.reduce((sum, { qty }) => sum + qty, 0),
    3,
  )
})
