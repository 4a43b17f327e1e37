/** What a cancelled checkout held is given back in one call where Catalog has a release, in two where it has none. */
import test, { type ExecutionContext } from 'ava'
import { dayBook } from '../support/books.ts'
import { openShop, type Shop } from '../support/shop.ts'

async function open(t: ExecutionContext, { release }: { release: boolean }): Promise<Shop> {
  const shop = await openShop()
  t.teardown(shop.close)
  shop.catalog.behave({ release })
  return shop
}

/** A checkout that holds two pieces and that Shipping refuses. */
async function givesUp(t: ExecutionContext, shop: Shop): Promise<number> {
  const product = shop.catalog.product({ stock: 5 })
  shop.shipping.fault({ fault: 'refuse', times: 1 })
  const customer = await shop.customer().wants({ product_id: product, qty: 2 })
  t.is((await customer.checkout()).status, 502)
  t.deepEqual(await dayBook(shop, [product]), { orders: 0, sold: 0, held: 0, misshipped: [] })
  t.deepEqual(shop.catalog.books(product), { in_stock: 5, reserved: 0 })
  return product
}

const asked = (shop: Shop, productId: number) =>
  shop.catalog
    .journal({ productId })
    .filter(({ call }) => call !== 'look')
    .map(({ call, applied }) => (applied ? call : `${call} in vain`))

test('by a release, which has a key of its own', async (t) => {
  const shop = await open(t, { release: true })
  const product = await givesUp(t, shop)
  t.deepEqual(asked(shop, product), ['reserve', 'release'])
  t.regex(shop.catalog.journal({ call: 'release' })[0]!.idempotencyKey ?? '', /^mending:\d+$/)
  const rows = await shop.query('select verb, qty::int, answer, why from order_service.mendings where product_id = $1', [product])
  t.deepEqual(rows, [{ verb: 'release', qty: 2, answer: 'done', why: 'hold-of-nobody' }])
  t.regex((await shop.get('/order/metrics')).body, /order_mended_pieces_total\{verb="release"\} 2/)
})

test('by commit and restock, and a Catalog without a release is asked for one once', async (t) => {
  const shop = await open(t, { release: false })
  t.deepEqual(asked(shop, await givesUp(t, shop)), ['reserve', 'release in vain', 'commit', 'restock'])
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
