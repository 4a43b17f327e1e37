/** What a cancelled checkout held is given back in one call: a release, or a reserve of less than nothing; in two where Catalog takes neither. */
import test, { type ExecutionContext } from 'ava'
import { shopTotals } from '../support/shop-totals.ts'
import { openShop, type Shop } from '../support/shop.ts'

async function open(t: ExecutionContext, behaviour: Parameters<Shop['catalog']['behave']>[0]): Promise<Shop> {
  const shop = await openShop()
  t.teardown(shop.close)
  shop.catalog.behave(behaviour)
  return shop
}

/** A checkout that holds two units and that Shipping refuses. */
async function givesUp(t: ExecutionContext, shop: Shop): Promise<number> {
  const product = shop.catalog.product({ stock: 5 })
  shop.shipping.fault({ fault: 'refuse', times: 1 })
  const customer = await shop.customer().wants({ product_id: product, qty: 2 })
  t.is((await customer.checkout()).status, 502)
  t.deepEqual(await shopTotals(shop, [product]), { orders: 0, sold: 0, held: 0, misshipped: [] })
  t.deepEqual(shop.catalog.inventory(product), { in_stock: 5, reserved: 0 })
  return product
}

const asked = (shop: Shop, productId: number) =>
  shop.catalog
    .journal({ productId })
    .filter(({ call }) => call !== 'read')
    .map(({ call, applied }) => (applied ? call : `${call} in vain`))

test('a hold is given back by a release, which has a key of its own', async (t) => {
  const shop = await open(t, { release: true })
  const product = await givesUp(t, shop)
  t.deepEqual(asked(shop, product), ['reserve', 'release'])
  t.regex(shop.catalog.journal({ call: 'release' })[0]!.idempotencyKey ?? '', /^stock-call:\d+$/)
  const rows = await shop.query('select verb, qty::int, result, reason from order_service.reconciliations where product_id = $1', [product])
  t.deepEqual(rows, [{ verb: 'release', qty: 2, result: 'done', reason: 'held-for-nobody' }])
  t.regex((await shop.get('/order/metrics')).body, /order_reconciled_units_total\{verb="release"\} 2/)
})

test('a hold is given back by a negative reserve, and a Catalog without a release is asked for one once', async (t) => {
  const shop = await open(t, { release: false, negativeReserve: 'takes' })
  t.deepEqual(asked(shop, await givesUp(t, shop)), ['reserve', 'release in vain', 'reserve'])
  t.deepEqual(asked(shop, await givesUp(t, shop)), ['reserve', 'reserve'])
})

test('a hold is given back by commit and restock where Catalog takes neither release nor negative reserve', async (t) => {
  const shop = await open(t, { release: false, negativeReserve: 'refuses' })
  t.deepEqual(asked(shop, await givesUp(t, shop)), ['reserve', 'release in vain', 'reserve in vain', 'commit', 'restock'])
  t.deepEqual(asked(shop, await givesUp(t, shop)), ['reserve', 'commit', 'restock'])
})

test('a hold is given back by commit and restock where Catalog answers a negative reserve with 200 and changes nothing', async (t) => {
  const shop = await open(t, { release: false, negativeReserve: 'ignores' })
  t.deepEqual(asked(shop, await givesUp(t, shop)), ['reserve', 'release in vain', 'reserve in vain', 'commit', 'restock'])
  t.deepEqual(asked(shop, await givesUp(t, shop)), ['reserve', 'commit', 'restock'])
})

test('a release without an answer that happened is known by what Catalog says', async (t) => {
  const shop = await openShop({ env: { CALL_TIMEOUT_MS: '1000' } })
  t.teardown(shop.close)
  shop.catalog.behave({ release: true })
  shop.catalog.fault({ call: 'release', fault: 'drop', times: 1 })
  const product = await givesUp(t, shop)
  t.deepEqual(asked(shop, product), ['reserve', 'release'])
})
