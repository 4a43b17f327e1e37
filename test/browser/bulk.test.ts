/** A bulk retry of 5,000 payments, seen in the browser: its worker dies in the middle, and no payment is lost or applied twice. */
import test from 'ava'
import type { Browser } from 'playwright-core'
import { openBrowser, openPage, signIn } from '../support/browser.ts'
import { allPaid, placeOrders, totalsInTheEnd } from '../support/payment-totals.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { startProcess } from '../support/service-process.ts'
import { until } from '../support/until.ts'

/** Fewer by hand: BULK=500 bin/test test/browser/bulk.test.ts */
const PAYMENTS = Number(process.env.BULK ?? 5000)
const PER_SECOND = 250

let browser: Browser
let shop: Shop
test.before(async () => {
  const env = { CHECKOUT_BUDGET_MS: '120000' }
  ;[browser, shop] = await Promise.all([openBrowser(), openShop({ roles: ['web', 'relay', 'bridge'], env, downstreams: { real: true } })])
})
test.after.always(() => Promise.all([browser?.close(), shop?.close()]))

test('a bulk retry of thousands of payments outlives its worker, and each is applied once', async (t) => {
  t.timeout(300_000)
  const first = await startProcess(t, ['worker'], shop.env)
  await first.logged('started')
  const products = Array.from({ length: 10 }, () => shop.catalog.product({ stock: PAYMENTS }))
  const orders = (await Promise.all(products.map((product) => placeOrders(shop, PAYMENTS / products.length, product)))).flat()
  const broken = shop.catalog.fault({ call: 'commit', fault: 'error', status: 503, detail: 'maintenance' })
  for (let i = 0; i < orders.length; i += 500) await Promise.all(orders.slice(i, i + 500).map((order) => shop.pay(order)))
  const stuck = `select count(*)::int as n from order_service.payment_events where state = 'WAITING' and cause = 'downstream-error'`
  await until(
    () => shop.query<{ n: number }>(stuck),
    ([row]) => row!.n > orders.length / 5, // those that come when calls have stopped are not tried before Catalog is back
    120_000,
  )
  const page = await openPage(t, browser)
  await signIn(page, shop)
  await page.locator('.problem a[href*="verb=retry-payments"]').first().click()
  await page.getByLabel('Reason').fill('Catalog is back')
  await page.getByLabel(/second/).fill(String(PER_SECOND))
  broken.remove()
  await page.locator('main').getByRole('button').first().click()
  await page.waitForURL(/\/actions\/\d+/)
  const id = Number(/\d+$/.exec(new URL(page.url()).pathname)![0])

  const progress = async () => {
    const [row] = await shop.query<{ done: number; items: number; state: string }>(
      'select done, items, state from order_service.operator_actions where id = $1',
      [id],
    )
    return row!
  }
  await until(progress, ({ done, items }) => done > items / 10, 60_000)
  process.kill(first.pid, 'SIGKILL')
  const { done, items } = await progress()
  t.true(done < items, `${done} were done when the worker died`)
  const second = await startProcess(t, ['worker'], shop.env)
  await second.logged('started')
  const seen = new Set<string>()
  await until(
    async () => {
      seen.add(
        await page
          .locator('main')
          .innerText()
          .catch(() => ''),
      )
      return progress()
    },
    ({ state }) => state === 'DONE',
    150_000,
  )
  t.true(seen.size > 3, 'the page showed the progress by itself')
  await page
    .getByText(new RegExp(`${items.toLocaleString('en')} of ${items.toLocaleString('en')}`))
    .first()
    .waitFor()

  await allPaid(shop, orders, 60_000)
  for (const product of products)
    t.deepEqual(await totalsInTheEnd(shop, product), { in_stock: PAYMENTS - PAYMENTS / products.length, reserved: 0 })
  const results = await shop.query<{ n: number; items: number }>(
    'select count(*)::int as n, count(distinct item)::int as items from order_service.operator_action_items where action_id = $1 and result is not null',
    [id],
  )
  t.deepEqual(results, [{ n: items, items }])
  t.log(`${done} of ${items} were done when the worker died`)
})
