/** Deadlines are PostgreSQL's: a service whose own clock is an hour off serves as usual. */
import test from 'ava'
import { shopTotals } from '../support/shop-totals.ts'
import { startProcess } from '../support/service-process.ts'
import { openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const HOUR_MS = 3_600_000

/** What Node imports before the service: another Date. */
const skewed = (ms: number) =>
  `--import "data:text/javascript,${encodeURIComponent(
    `const Real = Date; globalThis.Date = class extends Real {
      constructor(...given) { if (given.length > 0) super(...given); else super(Real.now() + ${ms}) }
      static now() { return Real.now() + ${ms} } }`,
  )}"`

for (const [what, ms] of [
  ['ahead of', HOUR_MS],
  ['behind', -HOUR_MS],
] as const) {
  test.serial(`a service whose clock is an hour ${what} PostgreSQL’s serves checkouts and repeats as usual`, async (t) => {
    const shop = await openShop({ roles: [] })
    t.teardown(shop.close)
    const service = await startProcess(t, ['web', 'worker'], { ...shop.env, NODE_OPTIONS: skewed(ms) })
    const product = shop.catalog.product({ stock: 100 })
    shop.catalog.fault({ call: 'reserve', fault: 'error', times: 1 })
    const buy = async () => {
      const customer = await shop.customer().wants({ product_id: product, qty: 1 })
      const token = shop.auth.token({ sub: customer.email })
      return customer.checkout({ url: service.url, token })
    }
    await until(
      () =>
        fetch(`${service.url}/order/ready`).then(
          ({ status }) => status,
          () => 0,
        ),
      (status) => status === 200,
    )
    const answers = [await buy(), ...(await Promise.all(Array.from({ length: 10 }, buy)))]
    t.deepEqual(
      answers.filter((answer) => answer.status !== 200).map((answer) => answer.body),
      [],
    )
    t.deepEqual(await shopTotals(shop, [product]), { orders: 11, sold: 11, held: 11, misshipped: [] })
  })
}
