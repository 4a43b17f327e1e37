import test from 'ava'
import { purchasesOf } from './purchases.ts'
import { fullCounts, kinds, planOf } from './plan.ts'

const full = { lastsMs: 36_000, counts: fullCounts }
const shopping = { checkouts: 500, lastsMs: 36_000 }

test('the same seed gives the same schedule and the same customers', (t) => {
  t.deepEqual(planOf(7, full), planOf(7, full))
  t.deepEqual(purchasesOf(7, shopping), purchasesOf(7, shopping))
  t.notDeepEqual(planOf(7, full), planOf(8, full))
  t.notDeepEqual(purchasesOf(7, shopping), purchasesOf(8, shopping))
})

test('twenty seeds have more than 300 kills, every kind of strike more than 50 times, and stops beyond a lease', (t) => {
  const strikes = Array.from({ length: 20 }, (_, i) => planOf(i + 1, full)).flat()
  const times = (kind: string) => strikes.filter((strike) => strike.kind === kind).length
  t.true(times('kill') >= 300)
  for (const kind of kinds) t.true(times(kind) > 50, kind)
  t.true(strikes.filter((strike) => strike.kind === 'stop' && strike.lastsMs > 3500).length > 20)
  for (const name of ['web', 'worker', 'bridge', 'relay']) {
    t.true(strikes.filter((strike) => strike.kind === 'kill' && strike.process.startsWith(name)).length > 30, name)
  }
})

test('a customer’s keys are not used twice, two products are in two of five carts, and some payments are told of twice or wrong', (t) => {
  const purchases = purchasesOf(1, shopping)
  t.is(new Set(purchases.map(({ email, key }) => `${email} ${key}`)).size, 500)
  t.true(purchases.filter(({ lines }) => lines.some(({ product_id: id }) => id <= 2)).length > 200)
  for (const payment of ['none', 'once', 'twice', 'by-two', 'wrong-amount'])
    t.true(
      purchases.some((purchase) => purchase.payment === payment),
      payment,
    )
})
