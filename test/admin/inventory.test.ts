/** What an operator reads of products: their counters, calls without an answer, what is oversold, and what a take-over would meet. */
import test from 'ava'
import { sql } from 'slonik'
import { connectPool, nothing, type Pool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { freePort } from '../support/services/ports.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { admin } from './command.ts'

let shop: Shop
/** Its sessions count for themselves, as those of the service do; those of `shop.query` are counted by triggers, as the predecessor's. */
let pool: Pool
let env: Record<string, string>
test.before(async () => {
  shop = await openShop({ roles: ['web'] })
  pool = await connectPool(shop.dsn, { size: 2, logger: createLogger('silent') })
  env = { POSTGRES_DSN: shop.dsn, REDIS_URL: process.env.REDIS_URL! }
})
test.after.always(async () => {
  await pool?.end()
  await shop?.close()
})

const run = (...args: string[]) => admin(['inventory', ...args], env)
const withCatalog = (...args: string[]) => admin(['inventory', '--catalog', ...args], { ...env, CATALOG_BASE: shop.catalogBase })
const cells = (line: string) => line.split(/ {2,}/)

/** @returns the order's id */
async function predecessorSells(productId: number, qty: number): Promise<number> {
  const [made] = await shop.query<{ order_id: number }>(
    `with made as (insert into public.orders (user_email, total_cents) values ('c@example.com', 100) returning id)
     insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
     select id, $1, $2, 100, '' from made returning order_id`,
    [productId, qty],
  )
  return made!.order_id
}

/** An order that no counter knows of. */
async function orderUncounted(productId: number, qty: number): Promise<void> {
  await pool.query(sql.type(nothing)`
    with made as (insert into public.orders (user_email, total_cents) values ('c@example.com', 100) returning id)
    insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
    select id, ${productId}, ${qty}, 100, '' from made`)
}

test.serial('the inventory command says so where there are no products', async (t) => {
  t.deepEqual(await run(), { code: 0, out: 'There are no products yet.\n', err: '' })
  t.deepEqual(await run('--open'), {
    code: 0,
    out: 'No product has corrections, unanswered calls or ambiguous units.\n',
    err: '',
  })
  t.deepEqual(await run('--json'), { code: 0, out: '[]\n', err: '' })
  t.deepEqual(await run('--check'), {
    code: 0,
    out: 'The counter of each product equals what its orders and open checkouts hold.\n',
    err: '',
  })
})

test.serial('the inventory command prints a line for each product, those that need attention first', async (t) => {
  for (const [id, stock, reserved] of [
    [1, 10, 3],
    [2, 15, 0],
    [3, 1, 0],
  ] as const)
    shop.catalog.product({ id, stock, reserved })
  await orderUncounted(3, 2)
  await shop.query(`
    with products as (
      insert into order_service.products (product_id, held, expected_stock, foreign_holds, call_id, call_verb, call_qty, call_expires_at, reconciling_since)
      values (1, 0, 10, 3, 1000, 'commit', 1, now() + interval '7 s', null), (2, 0, 15, 0, null, null, null, null, null),
        (3, 2, 1, -2, null, null, null, null, now()), (4, 0, null, 0, null, null, null, null, null)
    ), calls as (
      insert into order_service.unanswered_calls (call_id, product_id, verb, qty) values (1001, 2, 'reserve', 4)
    ), history as (
      insert into order_service.reconciliations (product_id, verb, qty, result, reason, call_id)
      values (2, 'follow', 5, 'seen', null, null), (2, 'release', 1, 'done', 'held-for-nobody', 1002)
    )
    insert into order_service.ambiguities (product_id, too_many, too_few, explanation)
    values (2, 0, 2, 'others took 2, or our commit of 2 acted late')`)

  const { out, code } = await run()
  t.is(code, 0)
  const [heading, ...rows] = out.trimEnd().split('\n')
  t.deepEqual(
    cells(heading!),
    'PRODUCT HELD EXPECTED_STOCK FOREIGN_HOLDS HOLD_CORRECTION STOCK_CORRECTION CALL UNANSWERED OLDEST AMBIGUOUS CATALOG STATE'.split(' '),
  )
  const time = /20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ/
  t.deepEqual(
    rows.map((line) => cells(line.replace(time, 'THEN'))),
    [
      ['2', '0', '15', '0', '0', '0', '-', '1', 'THEN', '2', '-', 'ok'],
      ['3', '2', '1', '-2', '0', '0', '-', '0', '-', '0', '-', 'oversold by 2, reconciling since THEN'],
      ['1', '0', '10', '3', '0', '0', 'commit 1', '0', '-', '0', '-', 'ok'],
      ['4', '0', '-', '0', '0', '0', '-', '0', '-', '0', '-', 'Catalog not read yet'],
    ],
  )
})

test.serial('the inventory command shows a named product whole: calls, ambiguities, history, and who holds oversold units', async (t) => {
  const unanswered = (await run('2')).out
  t.regex(unanswered, /unanswered call +reserve 4 \(call 1001\), since 20.*, Catalog not read since\n/)
  t.regex(unanswered, /ambiguous +20.* up to 2 too few: others took 2, or our commit of 2 acted late\n/)
  t.regex(unanswered, /history +20.* follow 5 seen\n/)
  t.regex(unanswered, /history +20.* release 1 done held-for-nobody\n/)
  t.regex((await run('1')).out, /call in flight +commit 1 \(call 1000\), its lease ends 20/)
  const oversold = (await run('3')).out
  t.regex(oversold, /state +oversold by 2, reconciling since 20/)
  t.regex(oversold, /held for +order 1: 2, since 20/)
  t.notRegex(oversold, /@/)
})

test.serial('inventory --open shows the products that need attention, each whole', async (t) => {
  const { out } = await run('--open')
  t.regex(out, /product +2\n[^]*\n\nproduct +3\n/)
  t.notRegex(out, /product +[14]\n/)
})

test.serial('inventory --json prints all of a product', async (t) => {
  const [two, three] = JSON.parse((await run('2', '3', '--json')).out)
  t.like(two, {
    productId: 2,
    held: 0,
    expectedStock: 15,
    oversold: 0,
    expected: { inStock: 15, reserved: 0 },
    call: null,
    ambiguous: { tooMany: 0, tooFew: 2 },
  })
  t.like(two.unanswered[0], { callId: 1001, verb: 'reserve', qty: 4, checkedAt: null })
  t.like(two.ambiguities[0], { tooFew: 2, explanation: 'others took 2, or our commit of 2 acted late' })
  t.like(two.reconciliations[1], { verb: 'follow', qty: 5, result: 'seen', reason: null })
  t.false('catalog' in two)
  t.like(three, { productId: 3, oversold: 2, holders: [{ orderId: 1, qty: 2 }] })
})

test.serial('inventory --catalog shows what Catalog says and what differs, or that it did not answer', async (t) => {
  shop.catalog.setInventory(2, { in_stock: 14, reserved: 4 })
  const { out, code } = await withCatalog()
  t.is(code, 0)
  t.regex(out, /^2 .* \+4 reserved, -1 in_stock +ok$/m)
  t.regex(out, /^1 .* agrees +ok$/m)
  t.regex(out, /^4 .* reserved 0, in_stock 0 +Catalog not read yet$/m)
  t.regex((await withCatalog('2')).out, /Catalog has +reserved 4 \(\+4\), in_stock 14 \(-1\)\n/)
  const [two] = JSON.parse((await withCatalog('2', '--json')).out)
  t.like(two, { catalog: { inStock: 14, reserved: 4 }, difference: { inStock: -1, reserved: 4 } })

  const away = await admin(['inventory', '--catalog', '1'], { ...env, CATALOG_BASE: `http://127.0.0.1:${await freePort()}` })
  t.is(away.code, 1)
  t.regex(away.out, /Catalog has +catalog read: ECONNREFUSED\n/)
  t.regex(away.err, /check CATALOG_BASE/)
})

test.serial('an order that the predecessor makes is held at once, whether the product has a row or not', async (t) => {
  await predecessorSells(2, 1)
  await predecessorSells(5, 2)
  t.like(JSON.parse((await run('2', '--json')).out)[0], { held: 1, holdCorrection: -1, oversold: 1 })
  t.is((await run('--check')).code, 0)
})

test.serial('inventory --check lists the products whose counter is wrong, and --repair corrects them', async (t) => {
  await orderUncounted(1, 2)
  await orderUncounted(6, 3)
  const { out, code } = await run('--check')
  t.is(code, 1)
  t.deepEqual(out.trimEnd().split('\n').map(cells), [
    ['PRODUCT', 'COUNTER', 'ORDERS_HOLD'],
    ['1', '0', '2'],
    ['6', '0', '3'],
    ['The counters of 2 products are wrong; --check --repair repairs them.'],
  ])
  const json = JSON.parse((await run('--check', '--json')).out)
  t.deepEqual(json, {
    counters: [
      { productId: 1, counted: 0, held: 2 },
      { productId: 6, counted: 0, held: 3 },
    ],
    repaired: false,
  })

  const repaired = await run('--check', '--repair')
  t.is(repaired.code, 0)
  t.regex(repaired.out, /^Repaired the counters of 2 products\.$/m)
  t.like(await run('--check'), { code: 0 })
  t.like(JSON.parse((await run('1', '--json')).out)[0], { held: 2, foreignHolds: 3, holdCorrection: -2 })
})

test.serial(
  'inventory --check --catalog lists the holds that Catalog lost, how many stay oversold, and the orders concerned',
  async (t) => {
    const [five, six] = [await predecessorSells(5, 1), await predecessorSells(6, 1)] // 3 of product 5, 4 of product 6 in all
    shop.catalog.product({ id: 5, stock: 3, reserved: 2 })
    shop.catalog.product({ id: 6, stock: 3, reserved: 2 })
    shop.catalog.setInventory(2, { in_stock: 14, reserved: 1 })
    shop.catalog.setInventory(3, { in_stock: 2, reserved: 2 })
    const { out, code } = await withCatalog('--check')
    t.is(code, 1)
    const [counters, holds] = out.trimEnd().split('\n\n')
    t.regex(counters!, /^The counter of each product/)
    t.deepEqual(holds!.split('\n').map(cells), [
      ['PRODUCT', 'ORDERS_HOLD', 'CATALOG_HOLDS', 'MISSING', 'FREE', 'OVERSOLD', 'ORDERS'],
      ['5', '3', '2', '1', '1', '0', `${five} (1), 3 (2)`],
      ['6', '4', '2', '2', '1', '1', `${six} (1), 5 (3)`],
      ['Catalog holds too few units of 2 of 5 products. The service reserves free units by itself.'],
      ['For oversold units, raise the stock at Catalog or cancel orders.'],
    ])
    const json = JSON.parse((await withCatalog('--check', '--json')).out)
    t.like(json.holds.missing[1], { productId: 6, held: 4, reserved: 2, missing: 2, free: 1, oversold: 1 })
    t.like(json.holds.missing[1].orders[0], { orderId: six, qty: 1 })
  },
)

test.serial('units of a commit that is under way do not count as missing', async (t) => {
  shop.catalog.setInventory(6, { in_stock: 4, reserved: 4 })
  shop.catalog.setInventory(5, { in_stock: 2, reserved: 2 })
  const commit = (set: string) => shop.query(`update order_service.products set ${set} where product_id = 5`)
  await shop.query('insert into order_service.products (product_id) values (5)')
  await commit(`call_id = 1003, call_verb = 'commit', call_qty = 1, call_expires_at = now() + interval '7 s'`)
  const { out, code } = await withCatalog('--check')
  t.is(code, 0)
  t.regex(out, /^Catalog holds what our orders hold, for all 5 products that were read\.$/m)
  await commit('call_id = null, call_verb = null, call_qty = null, call_expires_at = null')
  t.is((await withCatalog('--check')).code, 1)
})

test.serial('inventory --check --catalog fails where Catalog does not answer, and says for how many products', async (t) => {
  const away = await admin(['inventory', '--check', '--catalog'], { ...env, CATALOG_BASE: `http://127.0.0.1:${await freePort()}` })
  t.is(away.code, 1)
  t.is(away.err, 'Catalog did not answer for 5 of 5 products; check CATALOG_BASE\n')
})

test.serial('the inventory command refuses a wrong command line or environment, and names an unknown product', async (t) => {
  for (const args of [['shoes'], ['--all'], ['--repair'], ['--check', '1'], ['--check', '--open']])
    t.like(await run(...args), { code: 64, out: '' }, args.join(' '))
  const unknown = await run('1', '99')
  t.is(unknown.code, 1)
  t.is(unknown.err, 'Product 99 is unknown: no checkout has contained it yet.\n')
  t.regex(unknown.out, /product +1\n/)
  const wrong = await admin(['inventory', '--catalog'], { ...env, CATALOG_BASE: 'catalog:8000' })
  t.like(wrong, { code: 78, out: '' })
  t.regex(wrong.err, /^CATALOG_BASE: the value is not an HTTP URL/)
})

test.serial('the sums of the inventory are metrics', async (t) => {
  const { body } = await shop.get('/order/metrics')
  for (const line of [
    'order_products_unreconciled 1',
    'order_units_oversold 2',
    'order_foreign_holds 3',
    'order_corrections{kind="hold"} 0',
    'order_corrections{kind="stock"} 0',
    'order_ambiguous_units 2',
    'order_unanswered_calls 1',
  ])
    t.true(body.includes(`${line}\n`), line)
  t.regex(body, /order_unanswered_calls_oldest_seconds \d+\.\d+\n/)
  t.regex(body, /order_reconciling_longest_seconds \d+\.\d+\n/)
})
