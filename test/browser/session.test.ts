/** Operators' sessions in a real browser: how they end, and what other sites can do with them. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import type { Browser } from 'playwright-core'
import { openBrowser, openPage, signIn } from '../support/browser.ts'
import { adminEmail } from '../support/downstreams/auth.ts'
import { openShop, type Shop } from '../support/shop.ts'

let browser: Browser
let shop: Shop
test.before(async () => {
  ;[browser, shop] = await Promise.all([openBrowser(), openShop({ roles: ['web'] })])
})
test.after.always(() => Promise.all([browser?.close(), shop?.close()]))

/** Another site, with one page. */
async function openSite(t: ExecutionContext, page: string): Promise<string> {
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(page))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => void server.close())
  return `http://localhost:${(server.address() as AddressInfo).port}`
}

test('an operator who signs out is asked to sign in at the next page, and is brought back to it', async (t) => {
  const page = await openPage(t, browser)
  await signIn(page, shop)
  await page.getByRole('link', { name: 'Sign out' }).click()
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.waitForURL('**/sign-in')
  t.deepEqual(await page.context().cookies(), [])

  await page.goBack()
  t.is(await page.getByRole('button', { name: 'Sign out' }).count(), 0, 'no page is shown from the cache')
  await signIn(page, shop, adminEmail, '/order/admin/orders?state=PAID')
  t.true(page.url().endsWith('/order/admin/orders?state=PAID'))
})

test('a session that has expired leads to the sign-in', async (t) => {
  const page = await openPage(t, browser)
  await signIn(page, shop)
  const [cookie] = await page.context().cookies()
  const expired = shop.auth.token({ sub: adminEmail, role: 'admin', expiresInS: -1 })
  await page.context().addCookies([{ ...cookie!, value: expired }])
  await page.goto(`${shop.url}/order/admin`)
  await page.getByRole('button', { name: 'Sign in' }).waitFor()
  t.true(page.url().includes('/sign-in?next='))
})

test('a page of another site cannot show the pages in a frame', async (t) => {
  const page = await openPage(t, browser, { expected: /frame-ancestors/ })
  await signIn(page, shop)
  await page.goto(await openSite(t, `<iframe src="${shop.url}/order/admin" title="framed"></iframe>`))
  await page.waitForLoadState('networkidle')
  const [framed] = page.mainFrame().childFrames()
  t.is(framed!.url(), 'chrome-error://chromewebdata/')
})

test('a form of another site changes nothing, though the operator is signed in', async (t) => {
  const page = await openPage(t, browser, { expected: /status of 403/ })
  await signIn(page, shop)
  const fields = { verb: 'accept-work', reason: 'forged' }
  const inputs = Object.entries(fields).map(([name, value]) => `<input name="${name}" value="${value}">`)
  await page.goto(
    await openSite(t, `<form method="post" action="${shop.url}/order/admin/actions">${inputs.join('')}<button>Win</button></form>`),
  )
  const [answer] = await Promise.all([page.waitForResponse('**/order/admin/actions'), page.getByRole('button').click()])
  t.is(answer.status(), 403)
  t.deepEqual(await shop.query('select from order_service.operator_actions'), [])
})
