/** The campaign in short: bin/torture does the same for longer (docs/reliability.md). */
import test from 'ava'
import { type OwnServers, startServers } from '../support/services/index.ts'
import { purchasesOf } from './purchases.ts'
import { type Counts, MOST_LATE_MS, planOf, type Strike } from './plan.ts'
import { runSeed } from './seed.ts'
import { carryOut } from './strikes.ts'

let servers: OwnServers
test.before(async () => {
  servers = await startServers('test-torture')
})
test.after.always(() => servers?.stop())

const counts: Counts = {
  kill: 7,
  stop: 2,
  deploy: 2,
  'postgres-restart': 1,
  'postgres-cut': 1,
  'redis-restart': 0,
  flush: 0,
  'kafka-restart': 1,
  refuse: 1,
  hang: 2,
  error: 3,
  slow: 2,
  drop: 3,
  late: 3,
  'lock-row': 2,
  'wrong-clock': 1,
  others: 2,
}
const lastsMs = 7000
/** Redis loses everything before the first payment: one whose job is lost is found after 40 s, which is too long for a test. */
const lost: Strike[] = [
  { atMs: 800, kind: 'flush' },
  { atMs: 1500, kind: 'redis-restart', crash: true },
]
const PAYMENTS_BEGIN_MS = 3000

test('after seven seconds of kills, stops, restarts and faulty downstreams the inventories of all agree', async (t) => {
  const seed = 20
  const plan = [...lost, ...planOf(seed, { lastsMs, counts })]
  const purchases = purchasesOf(seed, { checkouts: 80, lastsMs }).map((purchase) => ({
    ...purchase,
    paysAfterMs: purchase.paysAfterMs + PAYMENTS_BEGIN_MS,
  }))

  const result = await runSeed(servers, { seed, purchases, latestMs: MOST_LATE_MS, strike: (field) => carryOut(plan, field) })

  t.log(result.struck, `${result.orders} orders, finished after ${Math.round(result.finishedMs)} ms`)
  t.deepEqual(result.violations, [])
  t.deepEqual(result.faults, [], 'no process ended by itself')
  t.true(result.orders > 40)
  t.is(result.struck.kill, 7)
})
