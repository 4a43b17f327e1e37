/**
 * Takes screenshots of the operators' pages in Chromium, wide and narrow, light and dark: `screenshots.ts [paths]`. In the shop, faults
 * of Catalog block one payment and two checkouts. Exits with 1 if the browser reports an error on a page.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'
import { adminEmail, password } from '../test/support/downstreams/auth.ts'
import { find, install } from '../test/support/services/install.ts'
import { toTerminal } from '../test/support/services/report.ts'
import { checkout as repository } from '../test/support/services/state.ts'
import { openShop, type Shop } from '../test/support/shop.ts'
import { until } from '../test/support/until.ts'

const folder = join(repository, '.dev', 'screenshots')

/** No calls to Google, no graphics card, no sandbox of another user. */
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
flags.push('--disable-component-update', '--disable-sync')

const sizes = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 800 } }
const schemes = ['light', 'dark'] as const

/** Debian's chromium, with fonts, which the package only recommends. */
async function findChromium(): Promise<string> {
  const there = () => find('chromium') ?? find('google-chrome')
  if (!there()) await install(toTerminal, 'Chromium', ['chromium', 'fonts-dejavu-core'])
  const path = there()
  if (!path) throw new Error('Chromium is missing and cannot be installed; put chromium on PATH')
  return path
}

/** @returns the job id of a blocked checkout */
async function blockCheckouts(shop: Shop): Promise<string> {
  const shoes = shop.catalog.product({ stock: 10, price: 12_999, title: 'Air Zoom' })
  const socks = shop.catalog.product({ stock: 50, price: 990, title: 'Wool Socks' })
  const order = async (product_id: number) => {
    const customer = await shop.customer().wants({ product_id, qty: 2 })
    customer.checkout().catch(() => {}) // it waits until the shop closes
  }
  shop.catalog.fault({ fault: 'error', status: 500, detail: 'database is locked', call: 'reserve', productId: shoes })
  shop.catalog.fault({ fault: 'refuse', status: 503, detail: 'maintenance', call: 'reserve', productId: socks })
  await order(shoes)
  await order(socks)
  const jobs = async () =>
    (await shop.query<{ order_id: number }>(`select order_id from order_service.checkouts where attempt >= 5 order by order_id`)).map(
      ({ order_id }) => `checkout-${order_id}`,
    )
  const [stuck] = await until(jobs, (ids) => ids.length === 2, 60_000)
  return stuck!
}

/** @returns the job id of a blocked payment */
async function blockPayment(shop: Shop): Promise<string> {
  const hats = shop.catalog.product({ stock: 5, price: 2_500, title: 'Sun Hat' })
  const customer = await shop.customer().wants({ product_id: hats, qty: 1 })
  const { body } = await customer.checkout()
  shop.catalog.fault({ fault: 'error', status: 500, detail: 'database is locked', call: 'commit', productId: hats })
  await shop.pay(body.order_id)
  const board = `select id from order_service.payment_events where state = 'WAITING' and attempt >= 5`
  const [stuck] = await until(
    () => shop.query<{ id: string }>(board),
    (rows) => rows.length === 1,
    60_000,
  )
  return `payment-${stuck!.id}`
}

async function signIn(page: Page, shop: Shop, typed: string): Promise<void> {
  await page.goto(`${shop.url}/order/admin`)
  await page.getByLabel('Email').fill(adminEmail)
  await page.getByLabel('Password').fill(typed)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForLoadState('networkidle')
}

/** Our policy blocks Bull Board's web fonts, so it uses the system's. The 401 is for the wrong password. */
const expected = /^Loading the stylesheet 'https:\/\/fonts\.googleapis\.com|status of 401/

const fileName = (path: string) => path.replace(/^\/order\/admin\/?/, '').replace(/[^a-z0-9]+/gi, '-') || 'home'

/** @returns the errors that the browser reported */
async function takeScreenshots(browser: Browser, shop: Shop, paths: readonly string[]): Promise<string[]> {
  const errors = new Set<string>()
  for (const [size, viewport] of Object.entries(sizes)) {
    for (const colorScheme of schemes) {
      const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'reduce' })
      const page = await context.newPage()
      page.on('console', (message) => {
        if (message.type() === 'error' && !expected.test(message.text())) errors.add(`${new URL(page.url()).pathname}: ${message.text()}`)
      })
      page.on('pageerror', (error) => errors.add(`${new URL(page.url()).pathname}: ${error.message}`))
      const takeScreenshot = async (name: string) => {
        const file = join(folder, `${name}-${size}-${colorScheme}.png`)
        await page.screenshot({ path: file })
        console.log(file)
      }
      await signIn(page, shop, 'wrong')
      await takeScreenshot('sign-in-refused')
      await signIn(page, shop, password)
      for (const path of paths) {
        await page.goto(shop.url + path, { waitUntil: 'networkidle' })
        await takeScreenshot(fileName(path))
      }
      await context.close()
    }
  }
  return [...errors]
}

const executablePath = await findChromium()
mkdirSync(folder, { recursive: true })
console.log('Starting the order service and its downstream services; Catalog blocks a payment and two checkouts')
const roles = ['web', 'worker', 'relay', 'bridge'] as const
const shop = await openShop({ roles, env: { LOG_LEVEL: process.env.LOG_LEVEL ?? 'silent', CHECKOUT_BUDGET_MS: '3600000' } })
try {
  const payment = await blockPayment(shop)
  const job = await blockCheckouts(shop)
  const requested = process.argv.slice(2)
  const board = '/order/admin/queues'
  const all = [
    '/order/admin/sign-in',
    board,
    `${board}/queue/payment?status=delayed`,
    `${board}/queue/payment/${payment}`,
    `${board}/queue/checkout?status=delayed`,
    `${board}/queue/checkout/${job}`,
    '/order/admin/sign-out',
  ]
  const browser = await chromium.launch({ executablePath, args: flags })
  const errors = await takeScreenshots(browser, shop, requested.length > 0 ? requested : all).finally(() => browser.close())
  for (const error of errors) console.error(`Browser error: ${error}`)
  process.exitCode = errors.length > 0 ? 1 : 0
} finally {
  await shop.close()
}
process.exit() // the blocked customers would wait for an hour
