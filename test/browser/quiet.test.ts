/** Under ordinary load no problem is shown, ever: a page that cries wolf is not read at three in the morning. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { operatorOf, type ShownProblem } from '../support/operator.ts'
import { everything, openShop } from '../support/shop.ts'
import { totalsInTheEnd } from '../support/payment-totals.ts'

/** Ten minutes by hand: QUIET_S=600 bin/test test/browser/quiet.test.ts */
const QUIET_S = Number(process.env.QUIET_S ?? 60)
/** Customers and payments a second. */
const EVERY_MS = 100

test('a minute of ordinary load shows no problem', async (t) => {
  t.timeout((QUIET_S + 60) * 1000)
  const shop = await openShop({ roles: everything })
  t.teardown(shop.close)
  const operator = operatorOf(shop)
  const products = Array.from({ length: 20 }, () => shop.catalog.product({ stock: 1_000_000 }))
  const shown: ShownProblem[] = []
  const ended: Promise<unknown>[] = []
  let [polls, bought] = [0, 0]

  async function buyAndPay(productId: number): Promise<void> {
    const customer = await shop.customer().wants({ product_id: productId, qty: 1 })
    const { status, body } = await customer.checkout()
    t.is(status, 200)
    await shop.pay(body.order_id)
    bought += 1
  }
  const end = Date.now() + QUIET_S * 1000
  const polling = (async () => {
    while (Date.now() < end) {
      const problems = await operator.problems()
      if (problems) polls += 1
      shown.push(...(problems ?? []))
      await sleep(500)
    }
  })()
  for (let i = 0; Date.now() < end; i++) {
    ended.push(buyAndPay(products[i % products.length]!))
    await sleep(EVERY_MS)
  }
  await Promise.all([polling, ...ended])
  await totalsInTheEnd(shop, products[0]!)

  t.log(`${bought} orders were placed and paid in ${QUIET_S} s; the first page was read ${polls} times`)
  t.true(polls > QUIET_S)
  t.deepEqual(shown, [])
})
