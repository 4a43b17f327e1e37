/** What an operator reads of products whose books are in doubt, of those sold twice, and of those that leaked before us. */
import test from 'ava'
import { createStockLedger } from '../../src/db/stock-ledger.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { freePort } from '../support/services/ports.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { admin } from './command.ts'

let shop: Shop
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

const run = (...args: string[]) => admin(['ledger', ...args], env)
const withCatalog = (...args: string[]) => admin(['ledger', '--catalog', ...args], { ...env, CATALOG_BASE: shop.catalogBase })

test.serial('where we have met no product it says so', async (t) => {
  t.deepEqual(await run(), { code: 0, out: 'We have met no such product.\n', err: '' })
  t.deepEqual(await run('--doubts'), { code: 0, out: 'No product has extras, doubts or undecided pieces.\n', err: '' })
  t.deepEqual(await run('--json'), { code: 0, out: '[]\n', err: '' })
})

test.serial('a product has a row: what we hold and predict, its drift; those in doubt come first', async (t) => {
  const ledger = createStockLedger(pool)
  for (const [id, stock, reserved] of [
    [1, 10, 3],
    [2, 10, 0],
    [3, 1, 0],
  ] as const) {
    shop.catalog.product({ id, stock, reserved })
    if (id === 3) {
      await shop.query(`with made as (insert into public.orders (user_email, total_cents) values ('c@example.com', 100) returning id)
        insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot) select id, 3, 2, 100, '' from made`)
    }
    await ledger.meet(id, { inStock: stock, reserved })
  }
  await ledger.doubt([{ productId: 2, qty: 4, verb: 'reserve', orderId: 71, attempt: 2 }])
  await ledger.raiseEpoch(3)
  await ledger.cannotHold(3, 2)
  await ledger.settle(2, 1, {
    happened: [],
    unexplainedHold: 0,
    followedStock: 5,
    undecided: { tooMany: 0, tooFew: 2, doubts: (await ledger.read(2)).doubts, taken: [] },
  })

  const { out, code } = await run()
  t.is(code, 0)
  const [heading, ...rows] = out.trimEnd().split('\n')
  t.regex(heading!, /^PRODUCT +HELD +PREDICTED +DRIFT/)
  t.deepEqual(
    rows.map((line) => line.split(/ {2,}/).filter((_, i) => i !== 7)),
    [
      ['2', '0', '15', '0', '0', '0', '1', '2', '-', 'fine'],
      ['3', '2', '1', '0', '-2', '0', '0', '0', '-', 'sold twice'],
      ['1', '0', '10', '3', '0', '0', '0', '0', '-', 'fine'],
    ],
  )
})

test.serial(
  'a product that is named is shown whole: its doubts and undecided pieces, whose orders hold it, and what was mended',
  async (t) => {
    const doubted = (await run('2')).out
    t.regex(doubted, /doubt +reserve 4 for order 71, since 20.*, nobody has looked since\n/)
    t.regex(doubted, /undecided +20.* up to 2 too few; taken to have happened: nothing; of: reserve 4 for order 71\n/)
    t.regex(doubted, /mended +20.* follow 5 seen\n/)
    const sold = (await run('3')).out
    t.regex(sold, /state +sold twice\n/)
    t.regex(sold, /held for +order 1, 2, since 20/)
    t.notRegex(sold, /@/)
    const inDoubt = (await run('--doubts')).out
    t.regex(inDoubt, /product +2\n[^]*\n\nproduct +3\n/)
    t.notRegex(inDoubt, /product +1\n/)
  },
)

test.serial('JSON says all of it', async (t) => {
  const [two] = JSON.parse((await run('2', '--json')).out)
  t.like(two, {
    productId: 2,
    held: 0,
    predictedStock: 15,
    expected: { inStock: 15, reserved: 0 },
    undecided: { tooMany: 0, tooFew: 2 },
  })
  t.like(two.doubts[0], { verb: 'reserve', qty: 4, orderId: 71, attempt: 2, lookedAt: null })
  t.like(two.undecided.stories[0], { why: 'two-stories', tooFew: 2 })
  t.like(two.mendings[0], { verb: 'follow', qty: 5, answer: 'seen' })
  t.false('catalog' in two)
})

test.serial('beside what Catalog says: what differs, and that it does not answer', async (t) => {
  shop.catalog.setInventory(2, { in_stock: 14, reserved: 4 })
  const { out, code } = await withCatalog()
  t.is(code, 0)
  t.regex(out, /^2 .* \+4 held, -1 in stock +fine$/m)
  t.regex(out, /^1 .* agrees +fine$/m)
  t.regex((await withCatalog('2')).out, /Catalog says +reserved 4 \(\+4\), in_stock 14 \(-1\)\n/)
  const [two] = JSON.parse((await withCatalog('2', '--json')).out)
  t.like(two, { catalog: { inStock: 14, reserved: 4 }, difference: { inStock: -1, reserved: 4 } })

  const away = await admin(['ledger', '--catalog', '1'], { ...env, CATALOG_BASE: `http://127.0.0.1:${await freePort()}` })
  t.is(away.code, 1)
  t.regex(away.out, /Catalog says +catalog look: ECONNREFUSED\n/)
  t.regex(away.err, /is CATALOG_BASE right\?/)
})

test.serial('a wrong command line or environment is said, a product that we never met too', async (t) => {
  t.like(await run('shoes'), { code: 64, out: '' })
  t.like(await run('--all'), { code: 64, out: '' })
  const unmet = await run('1', '99')
  t.is(unmet.code, 1)
  t.is(unmet.err, 'No order of ours ever asked for 99\n')
  t.regex(unmet.out, /product +1\n/)
  const wrong = await admin(['ledger', '--catalog'], { ...env, CATALOG_BASE: 'catalog:8000' })
  t.like(wrong, { code: 78, out: '' })
  t.regex(wrong.err, /^CATALOG_BASE is not a URL/)
})

test.serial('the sums of it are metrics', async (t) => {
  const { body } = await shop.get('/order/metrics')
  for (const line of [
    'order_ledger_drift 3',
    'order_ledger_extras{kind="hold"} 2',
    'order_ledger_extras{kind="stock"} 0',
    'order_ledger_undecided 2',
    'order_doubts 1',
  ])
    t.true(body.includes(`${line}\n`), line)
  t.regex(body, /order_doubts_oldest_seconds \d+\.\d+\n/)
  t.regex(body, /order_mending_longest_seconds \d+\.\d+\n/)
})
