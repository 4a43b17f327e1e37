/**
 * Measures a hang of Catalog: `bin/bench-hang [--seconds 60] [--customers 50]`. Customers arrive at a fixed rate per second. It prints
 * their answers before the hang, in its first 10 s, after that, and for each second after the recovery. It exits with 1 if a bar is
 * missed.
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
/** Each product is sold once beforehand. A product that is new to the service is read first, and a hanging read is no unanswered call. */
const PRODUCTS = 256
const WARM_UP_MS = 5000
/** By then the service must have noticed the hang: two time-outs of a call. */
const NOTICED_MS = 10_000
/** By then customers must be served again. */
const BACK_MS = 5000
/** How long the load continues after the recovery. */
const AFTER_MS = 15_000
const MOST_503_MS = 50
const LEAST_SERVED = 0.99
/** By then every unanswered call must be explained. */
const CLEARED_MS = 60_000

interface Timed extends Answer {
  /** When it was sent, in ms since Catalog began to hang. */
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
  const pending: Promise<unknown>[] = []
  /** Customers arrive at their rate until `endsAt`. */
  async function customersUntil(endsAt: number, hungAt: number): Promise<void> {
    const began = performance.now()
    for (let arrived = 0; performance.now() < endsAt; await sleep(5)) {
      for (; arrived < ((performance.now() - began) / 1000) * PER_SECOND; arrived += 1) {
        const at = performance.now() - hungAt
        pending.push(client.checkout(tokens[sent++ % tokens.length]!).then((answer) => answers.push({ ...answer, at })))
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
  await Promise.all(pending)
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
  line('during the hang, first 10 s', between(0, NOTICED_MS))
  const noticed = between(NOTICED_MS, backAt)
  line('during the hang, after 10 s', noticed)
  for (let second = 0; second < BACK_MS / 1000; second += 1)
    line(`recovered, second ${second + 1}`, between(backAt + 1000 * second, backAt + 1000 * (second + 1)))
  const served = between(backAt + BACK_MS, Number.POSITIVE_INFINITY)
  line('recovered, after 5 s', served)
  const share = served.filter(({ status }) => status === 200).length / served.length
  console.log(`served after 5 s: ${(100 * share).toFixed(2)} %`)
  console.log(`unanswered calls at the recovery: ${left}; all explained after ${clearedS.toFixed(1)} s`)
  const p99 = percentile(
    noticed.filter(({ status }) => status === 503).map(({ ms }) => ms),
    99,
  )
  const isMet = p99 < MOST_503_MS && share > LEAST_SERVED && clearedS < CLEARED_MS / 1000
  console.log(isMet ? 'all bars met' : 'a bar is missed')
  process.exitCode = isMet ? 0 : 1
} finally {
  await endChildren()
  await database.drop()
}
