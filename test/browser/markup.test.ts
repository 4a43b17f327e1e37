/** Markup in whatever comes from outside is shown as text: no element comes of it, and no script runs, on any page. */
import test from 'ava'
import type { Browser } from 'playwright-core'
import { openBrowser, openPage, signIn } from '../support/browser.ts'
import { openTroubled, type TroubledShop } from '../support/troubled.ts'

/** Would be an element anywhere in a page's text, and a script; breaks out of attributes of both kinds, and of comments, titles and scripts. */
const markup = (place: string) =>
  `${place}"'--></title></script></textarea><img data-xss=${place} src=x onerror=xss=1><script data-xss=${place}>xss=1</script>`

let browser: Browser
let troubled: TroubledShop
test.before(async () => {
  const texts = {
    title: markup('title'),
    customer: markup('email'),
    detail: markup('detail'),
    message: markup('message'),
    header: markup('header'),
    reason: markup('reason'),
  }
  ;[browser, troubled] = await Promise.all([openBrowser(), openTroubled(texts)])
})
test.after.always(() => Promise.all([browser?.close(), troubled?.close()]))

/** What the page shows as text, in its fields too. */
const everyText = `document.body.textContent + [...document.querySelectorAll('textarea, input')].map((field) => field.value).join()`

/** The pages on which each text must be read as it stands. */
const places: Record<string, readonly string[]> = {
  title: ['order'],
  email: ['orders', 'refused-order'],
  detail: ['refused-order'],
  message: ['dead-letter-text'],
  header: ['dead-letter-text'],
  reason: ['actions', 'action'],
}
const fromUrls = (home: string) => [
  `${home}/orders?q=${encodeURIComponent(markup('query'))}`,
  `${home}/orders?state=${encodeURIComponent(markup('state'))}&cause=${encodeURIComponent(markup('cause'))}&after=${encodeURIComponent(markup('after'))}`,
  `${home}/problems/${encodeURIComponent(markup('path'))}`,
  `${home}/problems/downstream-error?service=${encodeURIComponent(markup('service'))}`,
  `${home}/actions/new?verb=${encodeURIComponent(markup('verb'))}&item=${encodeURIComponent(markup('item'))}`,
  `${home}/inventory/${encodeURIComponent(markup('product'))}`,
  `${home}/dead-letters/${encodeURIComponent(markup('letter'))}`,
  `${home}/sign-in?next=${encodeURIComponent(`/order/admin/${markup('next')}`)}`,
]

test('markup from customers, services, messages and operators is text on every page', async (t) => {
  const page = await openPage(t, browser, { expected: /status of 4\d\d/ })
  const injected = () => page.evaluate<string[]>(`[...document.querySelectorAll('[data-xss]')].map((one) => one.outerHTML)`)
  const ran = () => page.evaluate(() => 'xss' in globalThis)
  await signIn(page, troubled.shop)
  for (const [name, path] of Object.entries(troubled.pages)) {
    await page.goto(troubled.shop.url + path)
    t.deepEqual(await injected(), [], name)
    t.false(await ran(), name)
    const text = await page.evaluate<string>(everyText)
    for (const [place, pages] of Object.entries(places))
      if (pages.includes(name)) t.true(text.includes(`<img data-xss=${place}`), `${place} is not shown on ${name}: ${text.slice(0, 3000)}`)
  }
  for (const path of fromUrls('/order/admin')) {
    await page.goto(troubled.shop.url + path)
    t.deepEqual(await injected(), [], path)
    t.false(await ran(), path)
  }
  for (const path of ['/queues/queue/payment?status=delayed', `/queues/queue/checkout?status=delayed`]) {
    await page.goto(`${troubled.shop.url}/order/admin${path}`, { waitUntil: 'networkidle' })
    t.deepEqual(await injected(), [], path)
    t.false(await ran(), path)
  }
})
