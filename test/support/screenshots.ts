/**
 * Pictures of the operators' pages, wide and narrow, light and dark, as a person sees them who signs in: `screenshots.ts [paths]`.
 * The shop on show has a payment and two checkouts that Catalog holds up, and products with unanswered calls. Exits 1 where a browser complains about a page.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'
import { adminEmail, password } from './downstreams/auth.ts'
import { find, install } from './services/install.ts'
import { toTerminal } from './services/report.ts'
import { checkout as repository } from './services/state.ts'
import { openShop, type Shop } from './shop.ts'
import { until } from './until.ts'

const folder = join(repository, '.dev', 'screenshots')

/** Nothing that calls home, and nothing that needs a graphics card or another user's rights. */
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
flags.push('--disable-component-update', '--disable-sync')

const sizes = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 800 } }
const schemes = ['light', 'dark'] as const

/** Debian's chromium; its fonts are only recommended by the package, and without any there is no text. */
async function findChromium(): Promise<string> {
  const there = () => find('chromium') ?? find('google-chrome')
  if (!there()) await install(toTerminal, 'Chromium', ['chromium', 'fonts-dejavu-core'])
  const path = there()
  if (!path) throw new Error('Chromium is missing and cannot be installed here: put chromium on PATH')
  return path
}

/** @returns the id of the checkout's job that is on show */
async function holdUpCheckouts(shop: Shop): Promise<string> {
  const shoes = shop.catalog.product({ stock: 10, price: 12_999, title: 'Air Zoom' })
  const socks = shop.catalog.product({ stock: 50, price: 990, title: 'Wool Socks' })
  const order = async (product_id: number) => {
    const customer = await shop.customer().wants({ product_id, qty: 2 })
    customer.checkout().catch(() => {}) // it waits for as long as the shop is open
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

/** @returns the id of the payment's job that is on show */
async function holdUpPayment(shop: Shop): Promise<string> {
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

/** Bull Board would have its fonts from there; our policy says no, and it takes the system's. The 401 is the wrong password's. */
const expected = /^Loading the stylesheet 'https:\/\/fonts\.googleapis\.com|status of 401/

const fileName = (path: string) => path.replace(/^\/order\/admin\/?/, '').replace(/[^a-z0-9]+/gi, '-') || 'home'

/** @returns what the browser complained about */
async function takePictures(browser: Browser, shop: Shop, paths: readonly string[]): Promise<string[]> {
  const complaints = new Set<string>()
  for (const [size, viewport] of Object.entries(sizes)) {
    for (const colorScheme of schemes) {
      const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'reduce' })
      const page = await context.newPage()
      page.on('console', (message) => {
        if (message.type() === 'error' && !expected.test(message.text()))
          complaints.add(`${new URL(page.url()).pathname}: ${message.text()}`)
      })
      page.on('pageerror', (error) => complaints.add(`${new URL(page.url()).pathname}: ${error.message}`))
      const take = async (name: string) => {
        const file = join(folder, `${name}-${size}-${colorScheme}.png`)
        await page.screenshot({ path: file })
        console.log(file)
      }
      await signIn(page, shop, 'a wrong one')
      await take('sign-in-refused')
      await signIn(page, shop, password)
      for (const path of paths) {
        await page.goto(shop.url + path, { waitUntil: 'networkidle' })
        await take(fileName(path))
      }
      await context.close()
    }
  }
  return [...complaints]
}

const executablePath = await findChromium()
mkdirSync(folder, { recursive: true })
console.log('The order service and its downstreams start, and Catalog holds up a payment and two checkouts')
const roles = ['web', 'worker', 'relay', 'bridge'] as const
const shop = await openShop({ roles, env: { LOG_LEVEL: process.env.LOG_LEVEL ?? 'silent', CHECKOUT_BUDGET_MS: '3600000' } })
try {
  const payment = await holdUpPayment(shop)
  const job = await holdUpCheckouts(shop)
  const asked = process.argv.slice(2)
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
  const complaints = await takePictures(browser, shop, asked.length > 0 ? asked : all).finally(() => browser.close())
  for (const complaint of complaints) console.error(`The browser complains: ${complaint}`)
  process.exitCode = complaints.length > 0 ? 1 : 0
} finally {
  await shop.close()
}
process.exit() // the customers would wait for an hour
