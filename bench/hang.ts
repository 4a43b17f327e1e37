/**
 * A Catalog that hangs under customers: `bin/bench-hang [--seconds 60] [--customers 50]`. So many customers a second come, whatever
 * they are answered. Printed is what they got while it hung, after the first 10 s of that, and second by second since its return.
 * Ends with 1 where a bar is missed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createDatabase, query } from '../test/support/database.ts'
import { until } from '../test/support/until.ts'
import { endChildren } from './children.ts'
import { type Answer, addCustomers, cartOf, openClient } from './customers.ts'
import { addProducts, control, environment, startDownstreams, startServer } from './shop.ts'
import { percentile } from './statistics.ts'

const { values: options } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, customers: { type: 'string', default: '50' } },
})
const HANGS_MS = Number(options.seconds) * 1000
const PER_SECOND = Number(options.customers)
/** Each is sold once before, one customer after the other: a product that is new to the service is read first, and a read leaves no unanswered call. */
const PRODUCTS = 256
const WARM_UP_MS = 5000
/** By then it has to be noticed that Catalog hangs: two calls' time-outs. */
const NOTICED_MS = 10_000
/** By then customers have to be served again. */
const BACK_MS = 5000
/** The rest of the run lasts so long. */
const AFTER_MS = 15_000
const MOST_503_MS = 50
const LEAST_SERVED = 0.99
/** By then no call may be unanswered. */
const CLEARED_MS = 60_000

interface Timed extends Answer {
  /** When it was asked, in ms from the moment in which Catalog began to hang. */
  at: number
}

const database = await createDatabase()
const unanswered = async () => {
  const [row] = await query<{ n: number }>(
    database.dsn,
    'select count(*)::int as n from order_service.unanswered_calls where found is null',
  )
  return row!.n
}

try {
  const downstreams = await startDownstreams('real')
  await addProducts(downstreams, PRODUCTS)
  const tokens = await addCustomers(
    'bench',
    Array.from({ length: PRODUCTS }, (_, i) => cartOf(1 + i)),
  )
  const service = await startServer(['src/main.ts'], { ...environment(database.dsn, downstreams), LOG_LEVEL: 'error' })
  const client = openClient(service.url)

  const answers: Timed[] = []
  let sent = 0
  const asking: Promise<unknown>[] = []
  /** Customers come at their rate until then. */
  async function customersUntil(endsAt: number, hungAt: number): Promise<void> {
    const began = performance.now()
    for (let come = 0; performance.now() < endsAt; await sleep(5)) {
      for (; come < ((performance.now() - began) / 1000) * PER_SECOND; come += 1) {
        const at = performance.now() - hungAt
        asking.push(client.checkout(tokens[sent++ % tokens.length]!).then((answer) => answers.push({ ...answer, at })))
      }
    }
  }

  for (let i = 0; i < PRODUCTS; i += 1) await client.checkout(tokens[sent++ % tokens.length]!)
  const hungAt = performance.now() + WARM_UP_MS
  await customersUntil(hungAt, hungAt)
  const { id } = (await control(downstreams, 'POST', '/catalog/faults', { fault: 'hang' })) as { id: number }
  await customersUntil(hungAt + HANGS_MS, hungAt)
  await control(downstreams, 'DELETE', `/catalog/faults/${id}`)
  const backAt = performance.now() - hungAt
  const left = await unanswered()
  const cleared = until(unanswered, (count) => count === 0, CLEARED_MS).then(
    () => (performance.now() - hungAt - backAt) / 1000,
    () => Number.POSITIVE_INFINITY,
  )
  await customersUntil(hungAt + backAt + AFTER_MS, hungAt)
  await Promise.all(asking)
  const clearedS = await cleared
  client.close()

  const between = (from: number, to: number) => answers.filter(({ at }) => at >= from && at < to)
  const line = (name: string, some: readonly Timed[]) => {
    for (const [status, those] of [...Map.groupBy(some, (one) => one.status)].sort(([a], [b]) => a - b)) {
      const times = those.map(({ ms }) => ms)
      const shown = [50, 99].map((percent) => `p${percent} ${percentile(times, percent).toFixed(1)} ms`).join('  ')
      console.log(`${name}: ${status === 0 ? 'broken' : status} x ${those.length}  ${shown}  max ${Math.max(...times).toFixed(0)} ms`)
    }
  }
  line('before', between(-WARM_UP_MS, 0))
  line('while it hung, first 10 s', between(0, NOTICED_MS))
  const noticed = between(NOTICED_MS, backAt)
  line('while it hung, after that', noticed)
  for (let second = 0; second < BACK_MS / 1000; second += 1)
    line(`back, second ${second + 1}`, between(backAt + 1000 * second, backAt + 1000 * (second + 1)))
  const served = between(backAt + BACK_MS, Number.POSITIVE_INFINITY)
  line('back, after 5 s', served)
  const share = served.filter(({ status }) => status === 200).length / served.length
  console.log(`served after 5 s: ${(100 * share).toFixed(2)} %`)
  console.log(`calls without an answer at its return: ${left}; none after ${clearedS.toFixed(1)} s`)
  const p99 = percentile(
    noticed.filter(({ status }) => status === 503).map(({ ms }) => ms),
    99,
  )
  const isKept = p99 < MOST_503_MS && share > LEAST_SERVED && clearedS < CLEARED_MS / 1000
  console.log(isKept ? 'all bars are kept' : 'a bar is missed')
  process.exitCode = isKept ? 0 : 1
} finally {
  await endChildren()
  await database.drop()
}
