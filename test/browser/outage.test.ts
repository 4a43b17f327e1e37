/** The night of an outage, as the person on call sees it: Catalog is away, paid orders wait, and one action frees all of them. */
import test from 'ava'
import type { Browser, Page } from 'playwright-core'
import { openBrowser, openPage, signIn } from '../support/browser.ts'
import { secondsSince } from '../support/operator.ts'
import { allPaid, paid, patient, placeOrders } from '../support/payment-totals.ts'
import { everything, openShop, type Shop } from '../support/shop.ts'
import { sentenceOf } from './faults.ts'

const ORDERS = 30
/** From the fault to the page that names it, without a reload. In ms. */
const BAR_MS = 10_000

let browser: Browser
let shop: Shop
test.before(async () => {
  ;[browser, shop] = await Promise.all([openBrowser(), openShop({ roles: everything, env: patient })])
})
test.after.always(() => Promise.all([browser?.close(), shop?.close()]))

const problem = (page: Page, sentence: string) => page.locator('.problem', { hasText: sentence })

test('after an outage of Catalog the first page names it within 10 s, and one action frees all paid orders', async (t) => {
  const sentence = sentenceOf('downstream-unreachable', 'catalog')
  const orders = await placeOrders(shop, ORDERS, shop.catalog.product({ stock: 1000 }))
  const page = await openPage(t, browser)
  await signIn(page, shop)
  await page.getByRole('heading', { name: 'All well' }).waitFor()

  const brokenAt = performance.now()
  await shop.catalog.down()
  for (const order of orders) await shop.pay(order)
  await problem(page, sentence).waitFor({ timeout: BAR_MS })
  t.log(`The first page named the outage ${secondsSince(brokenAt)} s after it began, without a reload`)
  const named = problem(page, sentence)
  await named.filter({ hasText: `${ORDERS} payments` }).waitFor({ timeout: BAR_MS })
  t.log(`It counted all ${ORDERS} payments ${secondsSince(brokenAt)} s after the outage began`)
  t.regex(await named.innerText(), /Payments are retried within 10 s after Catalog works again/)

  await named.locator('a[href*="verb=retry-payments"]').click()
  await page.getByLabel('Reason').fill('Catalog is back')
  t.regex(await page.locator('main').innerText(), /\b\d+ payments\b/)
  await shop.catalog.up()
  const backAt = performance.now()
  await page.locator('main').getByRole('button', { name: 'Retry now' }).click()
  await page.waitForURL(/\/actions\/\d+/)
  await allPaid(shop, orders, BAR_MS)
  t.log(`All ${ORDERS} orders were PAID ${secondsSince(backAt)} s after Catalog was back`)
  await page.goto(`${shop.url}/order/admin`)
  await page.getByRole('heading', { name: 'All well' }).waitFor({ timeout: BAR_MS })
  t.log(`The first page said "All well" ${secondsSince(backAt)} s after Catalog was back`)
  t.is((await paid(shop, orders)).length, ORDERS)

  const [action] = await shop.query<{ operator: string; reason: string; items: number; changed: number }>(
    'select operator, reason, items, changed from order_service.operator_actions',
  )
  t.like(action, { operator: 'admin@example.com', reason: 'Catalog is back' })
  t.true(action!.items > 0)
})
