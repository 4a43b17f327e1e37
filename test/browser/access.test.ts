/** For everybody: axe finds nothing on any page, and the way from a problem to its end needs neither a mouse nor JavaScript. */
import test from 'ava'
import type { Browser, Page } from 'playwright-core'
import { accessibilityFindings, openBrowser, openPage, schemes, signIn, viewports, type Viewport } from '../support/browser.ts'
import { adminEmail, password } from '../support/downstreams/auth.ts'
import { openTroubled, type TroubledShop } from '../support/troubled.ts'

let browser: Browser
let troubled: TroubledShop
test.before(async () => {
  ;[browser, troubled] = await Promise.all([openBrowser(), openTroubled()])
})
test.after.always(() => Promise.all([browser?.close(), troubled?.close()]))

/** The 404 is that of the page that does not exist. */
const expected = /status of 404/

for (const viewport of Object.keys(viewports) as Viewport[])
  for (const colorScheme of schemes)
    test(`axe finds nothing on any page, ${viewport} and ${colorScheme}`, async (t) => {
      const page = await openPage(t, browser, { viewport, colorScheme, expected })
      await page.goto(`${troubled.shop.url}/order/admin/sign-in`)
      t.deepEqual(await accessibilityFindings(page), [], 'sign-in')
      await signIn(page, troubled.shop)
      for (const [name, path] of Object.entries(troubled.pages)) {
        await page.goto(troubled.shop.url + path)
        t.deepEqual(await accessibilityFindings(page), [], name)
        const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        t.true(overflow <= 0, `${name} is ${overflow} px wider than the screen`)
      }
    })

/** Presses Tab until the element has the focus, as somebody without a mouse does. */
async function tabTo(page: Page, selector: string): Promise<void> {
  for (let presses = 0; presses < 200; presses++) {
    await page.keyboard.press('Tab')
    if (await page.evaluate<boolean>(`document.activeElement.matches(${JSON.stringify(selector)})`)) return
  }
  throw new Error(`200 times Tab do not reach ${selector}`)
}

test.serial('an operator without a mouse signs in, goes to a problem, acts and sees the result', async (t) => {
  const page = await openPage(t, browser)
  await page.goto(`${troubled.shop.url}/order/admin`)
  await page.locator('[name="email"]:focus').waitFor()
  await page.keyboard.type(adminEmail)
  await page.keyboard.press('Tab')
  await page.keyboard.type(password)
  await page.keyboard.press('Enter')
  await page.waitForURL('**/order/admin')
  await tabTo(page, '.problem a[href*="verb=reconcile-products"]')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/actions/new**')
  await tabTo(page, '[name="reason"]')
  await page.keyboard.type('Without a mouse')
  await tabTo(page, 'main button')
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/actions\/\d+/)
  t.regex(await page.locator('main').innerText(), /Without a mouse/)
})

test.serial('an operator without JavaScript signs in, goes to a problem, acts and sees the result', async (t) => {
  const page = await openPage(t, browser, { javaScriptEnabled: false })
  await signIn(page, troubled.shop)
  await page.locator('.problem a[href*="verb=reconcile-products"]').first().click()
  await page.getByLabel('Reason').fill('Without JavaScript')
  await page.locator('main').getByRole('button').first().click()
  await page.waitForURL(/\/actions\/\d+/)
  t.regex(await page.locator('main').innerText(), /Without JavaScript/)
  await page.goto(`${troubled.shop.url}/order/admin/orders`)
  await page.locator('main input[name="q"]').fill(String(troubled.ids.paidOrder))
  await page.keyboard.press('Enter')
  await page.getByText('PAID').first().waitFor()
})
