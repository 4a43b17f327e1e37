/**
 * Takes screenshots of the operators' pages in Chromium, wide and on a phone, light and dark: `screenshots.ts [--docs] [names of pages]`.
 * They show a shop with real faults: test/support/troubled.ts. `--docs` stores them in docs/images/ in place of .dev/screenshots/. Exits
 * with 1 if the browser reports an error on a page.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { errorsOf, openBrowser, schemes, signIn, type Viewport, viewports } from '../test/support/browser.ts'
import { checkout as repository } from '../test/support/services/state.ts'
import { openTroubled, type TroubledShop } from '../test/support/troubled.ts'

const { values, positionals: wanted } = parseArgs({ allowPositionals: true, options: { docs: { type: 'boolean', default: false } } })
const folder = values.docs ? join(repository, 'docs', 'images') : join(repository, '.dev', 'screenshots')

/** What is further down is cut off. In pixels. */
const TALLEST = { wide: 1000, phone: 1600 }

/** The 404 is of the page that does not exist. */
const expected = /status of 404/

async function takeScreenshot(page: Page, name: string, tallest: number): Promise<void> {
  const viewport = page.viewportSize()!
  const tall = await page.evaluate<number>('document.documentElement.scrollHeight')
  const height = Math.max(viewport.height, Math.min(tall, tallest))
  const clip = { x: 0, y: 0, width: viewport.width, height, scale: 1 }
  // WebP: as PNG, the pictures of all pages would be 8 MB.
  const session = await page.context().newCDPSession(page)
  const options = { format: 'webp', quality: 75, captureBeyondViewport: true, clip } as const
  const { data } = await session.send('Page.captureScreenshot', options)
  await session.detach()
  const file = join(folder, `${name}.webp`)
  writeFileSync(file, Buffer.from(data, 'base64'))
  console.log(file)
}

/** The form of a dead letter, filled, with what would change. */
async function editLetter(page: Page): Promise<void> {
  const edit = page.locator('textarea[name="text"]')
  const sent = await edit.inputValue()
  await edit.fill(sent.replace(/"amount_cents":\s*250\b/, '"amount_cents":2500').replace('"EUR"', '"USD"'))
  await page.getByRole('button', { name: 'Show the difference' }).click()
  await page.locator('.diff-new').first().waitFor()
}

/** @returns the errors that the browser reported */
async function takeScreenshots(browser: Browser, { shop, pages }: TroubledShop): Promise<string[]> {
  const all: Record<string, string> = {
    'sign-in': '/order/admin/sign-in',
    ...pages,
    'dead-letter-edit': pages['dead-letter']!,
    queues: '/order/admin/queues',
  }
  const chosen = Object.entries(all).filter(([name]) => wanted.length === 0 || wanted.includes(name))
  const errors: string[] = []
  for (const [size, viewport] of Object.entries(viewports)) {
    for (const colorScheme of schemes) {
      const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'reduce' })
      const page = await context.newPage()
      const reported = errorsOf(page, expected)
      for (const [name, path] of chosen) {
        if (name === 'sign-in') await page.goto(shop.url + path)
        else if ((await context.cookies()).length === 0) await signIn(page, shop)
        if (name !== 'sign-in') await page.goto(shop.url + path)
        if (name === 'queues') await page.waitForLoadState('networkidle')
        if (name === 'dead-letter-edit') await editLetter(page)
        await takeScreenshot(page, `${name}-${size}-${colorScheme}`, TALLEST[size as Viewport])
      }
      await context.close()
      errors.push(...reported)
    }
  }
  return [...new Set(errors)]
}

mkdirSync(folder, { recursive: true })
console.log('Starting the order service and its downstream services, and breaking them')
const troubled = await openTroubled()
const browser = await openBrowser()
const errors = await takeScreenshots(browser, troubled).finally(() => browser.close())
for (const error of errors) console.error(`Browser error: ${error}`)
process.exitCode = errors.length > 0 ? 1 : 0
troubled.recover()
await troubled.close()
process.exit() // the blocked customer would wait for ten minutes
