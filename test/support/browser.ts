/** The operators' pages in a real headless Chromium. What the browser reports as an error fails the test. */
import axe from 'axe-core'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { adminEmail, password } from './downstreams/auth.ts'
import { findChromium } from './services/chromium.ts'

/** No calls to Google, no graphics card, no sandbox of another user. */
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
flags.push('--disable-component-update', '--disable-sync', '--disable-dev-shm-usage')

export const viewports = { wide: { width: 1280, height: 800 }, phone: { width: 390, height: 800 } }
export type Viewport = keyof typeof viewports
export const schemes = ['light', 'dark'] as const

/** How long one step may take: the pages share two cores with servers and other tests. */
const STEP_MS = 20_000

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: await findChromium(), args: flags })
}

export interface PageOptions extends Pick<BrowserContextOptions, 'colorScheme' | 'javaScriptEnabled'> {
  viewport?: Viewport
  /** Errors that the test expects, such as a 403 that it asks for. */
  expected?: RegExp
}

/** Our policy blocks Bull Board's web fonts, so it uses the system's. */
const alwaysExpected = /fonts\.googleapis\.com/

/** Collects what the browser reports as an error: failed resources, violations of the policy, exceptions, dialogs. */
export function errorsOf(page: Page, expected?: RegExp): string[] {
  const errors: string[] = []
  const report = (text: string) => {
    if (alwaysExpected.test(text) || expected?.test(text)) return
    const path = URL.canParse(page.url()) ? new URL(page.url()).pathname : page.url()
    errors.push(`${path}: ${text}`)
  }
  page.on('console', (message) => {
    if (message.type() === 'error') report(message.text())
  })
  page.on('pageerror', (error) => report(error.message))
  page.on('dialog', (dialog) => {
    report(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  return errors
}

/** A page with cookies of its own. It closes with the test, which fails where the browser reported an error. */
export async function openPage(
  t: { teardown(end: () => Promise<unknown>): void },
  browser: Browser,
  { viewport = 'wide', expected, ...options }: PageOptions = {},
): Promise<Page> {
  const context = await browser.newContext({ viewport: viewports[viewport], reducedMotion: 'reduce', ...options })
  context.setDefaultTimeout(STEP_MS)
  const page = await context.newPage()
  const errors = errorsOf(page, expected)
  t.teardown(async () => {
    await context.close()
    if (errors.length > 0) throw new Error(`The browser reported:\n${errors.join('\n')}`)
  })
  return page
}

/** Opens the path, is sent to the sign-in, and signs in. */
export async function signIn(page: Page, shop: { url: string }, email = adminEmail, path = '/order/admin'): Promise<void> {
  await page.goto(shop.url + path)
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForURL((url) => !url.pathname.endsWith('/sign-in'))
}

/** What axe finds on the page as it stands. Evaluated by the debugger, so the page keeps its policy. */
export async function accessibilityFindings(page: Page): Promise<string[]> {
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run())
  return violations.map(
    ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`,
  )
}
