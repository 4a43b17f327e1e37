/** Every way in which Catalog fails a payment, down to its inventory. */
import test from 'ava'
import type { CatalogFault } from '../support/downstreams/index.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { openHarness, paymentOf, type Harness } from './harness.ts'

// One after the other: ten faults at one moment would open the breaker for all.
let shop: Shop
let harness: Harness
test.before(async () => {
  // A short time-out, so that a Catalog that hangs does not hang the tests.
  shop = await openShop({ roles: ['web', 'worker'], env: { CALL_TIMEOUT_MS: '400' } })
  harness = await openHarness(shop)
})
test.after.always(async () => {
  await harness?.close()
  await shop?.close()
})

/**
 * An order of two products: of one it has all that is held, of the other somebody else holds three.
 * @param others units of the first one that somebody else holds all the same: at 0 a late commit would hide (test/stock/unanswered)
 */
async function ordered(others = 0) {
  const [alone, shared] = [shop.catalog.product({ stock: 10 }), shop.catalog.product({ stock: 10 })]
  await harness.buys({ product_id: shared, qty: 3 })
  if (others > 0) await harness.buys({ product_id: alone, qty: others })
  return { alone, shared, order: await harness.buys({ product_id: alone, qty: 2 }, { product_id: shared, qty: 1 }) }
}

const passing: [string, Omit<CatalogFault, 'call' | 'productId'>, number | undefined][] = [
  ['answers 500 before it acts', { fault: 'error' }, 1],
  ['answers 500 after it acted', { fault: 'error', actFirst: true }, 1],
  ['answers 503', { fault: 'error', status: 503 }, 1],
  ['answers 401', { fault: 'refuse', status: 401 }, 1],
  ['answers 429', { fault: 'refuse', status: 429 }, 1],
  ['hangs', { fault: 'hang' }, 1],
  ['acts and drops its answer', { fault: 'drop' }, 1],
  ['resets the connection', { fault: 'reset' }, 1],
  ['acts after we gave the call up', { fault: 'late', ms: 500 }, undefined], // before or after it is found out about
  ['acts long after we gave the call up', { fault: 'late', ms: 3000 }, 2],
  ['answers only after we gave the call up', { fault: 'slow', ms: 600, actFirst: true }, 1],
  ['is slow, and still in time', { fault: 'slow', ms: 50 }, 1],
]
for (const [what, fault, applied] of passing) {
  test.serial(`a Catalog that ${what} costs time: the order is PAID once, and its units are taken once`, async (t) => {
    const others = fault.fault === 'late' ? 2 : 0
    const { alone, shared, order } = await ordered(others)
    const injected = shop.catalog.fault({ call: 'commit', productId: alone, times: 1, ...fault })

    const eventId = await harness.paid(paymentOf(order))

    t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid', fault: null })
    t.is(injected.fired(), 1)
    const commits = () => shop.catalog.journal({ call: 'commit', productId: alone }).filter((one) => one.applied && one.items.length === 2)
    await until(commits, ({ length }) => length >= (applied ?? 1))
    await harness.totalsAre(alone, { in_stock: 8, reserved: others })
    await harness.totalsAre(shared, { in_stock: 9, reserved: 3 })
    if (applied !== undefined) t.is(commits().length, applied)
    t.is(harness.commits(alone, 2).net, 1)
    t.is(harness.commits(shared, 1).net, 1)
    t.is(shop.catalog.inFlightMost(alone), 1)
  })
}

test.serial('a Catalog that fails five times in a row, after it acted, costs more time', async (t) => {
  const { alone, shared, order } = await ordered()
  shop.catalog.fault({ call: 'commit', productId: alone, times: 5, fault: 'error', actFirst: true })
  t.like(await harness.ended(await harness.paid(paymentOf(order))), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(alone, { in_stock: 8, reserved: 0 })
  await harness.totalsAre(shared, { in_stock: 9, reserved: 3 })
})

for (const status of [404, 409, 422]) {
  test.serial(`a Catalog that refuses the commit with ${status} leaves a dead letter, and the order as it is`, async (t) => {
    const { alone, shared, order } = await ordered()
    const detail = `Inventory missing for product_id ${alone}`
    shop.catalog.fault({ call: 'commit', productId: alone, fault: 'refuse', status, detail })

    const row = await harness.ended(await harness.paid(paymentOf(order)))

    t.like(row, { state: 'DEAD', fault: 'catalog-refused', reason: `catalog commit: ${detail} (${status})` })
    t.is(await harness.statusOf(order), 'CREATED')
    await harness.totalsAre(alone, { in_stock: 10, reserved: 2 })
    await harness.totalsAre(shared, { in_stock: 10, reserved: 4 })
  })
}

test.serial('while our key is refused the payment is repeated, with the reason at hand, and goes through once it is right', async (t) => {
  const { alone, order } = await ordered()
  const injected = shop.catalog.fault({ call: 'commit', productId: alone, fault: 'refuse', status: 401, detail: 'Invalid internal key' })
  const eventId = await harness.paid(paymentOf(order))
  // On a busy machine, a try may also get no answer in time.
  await until(
    () => harness.event(eventId),
    (row) => row.last_error === 'catalog commit: Invalid internal key (401)',
  )
  t.is(await harness.statusOf(order), 'CREATED')
  injected.remove()
  t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(alone, { in_stock: 8, reserved: 0 })
})

test.serial('a Catalog that is away is waited for', async (t) => {
  const { alone, shared, order } = await ordered()
  await shop.catalog.down()
  const eventId = await harness.paid(paymentOf(order))
  await harness.tried(eventId)
  await shop.catalog.up()
  t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  await harness.totalsAre(alone, { in_stock: 8, reserved: 0 })
  await harness.totalsAre(shared, { in_stock: 9, reserved: 3 })
  t.deepEqual(harness.commits(alone, 2), { applied: 1, net: 1 })
})
