import test from 'ava'
import type { Base } from '../../src/service/connect.ts'
import { startReports } from '../../src/service/report.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { hostClock } from '../support/clock.ts'
import { everything, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let shop: Shop
test.before(async () => {
  shop = await openShop({ roles: everything })
})
test.after.always(() => shop?.close())

interface Reported extends Record<string, unknown> {
  roles: string[]
  ended: boolean
  services: { service: string; lastAnswerAt: number | null; failingSince: number | null; calls: number }[]
}
const reports = () =>
  shop.query<Reported>(
    `select roles, ended_at is not null as ended, status -> 'services' as services from order_service.processes order by started_at`,
  )

test.serial('a process reports its roles, and the services that it has called', async (t) => {
  const product = shop.catalog.product({ stock: 10 })
  t.is((await (await shop.customer().wants({ product_id: product, qty: 1 })).checkout()).status, 200)
  const [report] = await until(reports, ([one]) => one?.services.find(({ service }) => service === 'shipping')?.lastAnswerAt != null)
  t.deepEqual(report!.roles.toSorted(), [...everything].toSorted())
  for (const name of ['catalog', 'shipping', 'kafka'])
    t.like(
      report!.services.find(({ service }) => service === name),
      { failingSince: null },
    )
})

test.serial('what processes do is added up in a row a minute', async (t) => {
  const product = shop.catalog.product({ stock: 10 })
  const { body } = await (await shop.customer().wants({ product_id: product, qty: 1 })).checkout()
  await shop.pay(body.order_id)
  const sums = () =>
    shop.query<{ created: number; paid: number; answers: number; payments: number }>(`
      select sum(created)::int as created, sum(paid)::int as paid, sum((select sum(n) from unnest(answers) as n))::int as answers,
        sum((select sum(n) from unnest(payments) as n))::int as payments from order_service.minutes`)
  const [row] = await until(sums, ([one]) => one?.paid === 1)
  t.deepEqual(row, { created: 2, paid: 1, answers: 2, payments: 1 })
})

test.serial('a service that fails is reported as failing while nobody calls it, until it answers again', async (t) => {
  const failingSince = async () => (await reports())[0]!.services.find(({ service }) => service === 'shipping')!.failingSince
  const customer = await shop.customer().wants({ product_id: shop.catalog.product({ stock: 10 }), qty: 1 })
  const refuses = shop.shipping.fault({ fault: 'refuse', status: 401, detail: 'no' }) // which opens no breaker
  t.is((await customer.checkout()).status, 502)
  const since = await until(failingSince)
  const asked = refuses.fired()

  await until(refuses.fired, (times) => times >= asked + 4)
  t.true(Math.abs((await failingSince())! - since!) < 100, 'the time is reckoned anew from this host’s clock in each report')
  refuses.remove()
  await until(failingSince, (time) => time === null)
})

test.serial('a process that ends in order says so', async (t) => {
  const second = await shop.start(['worker'])
  await until(reports, (all) => all.length === 2)
  await second.stop()
  t.deepEqual(
    (await reports()).map(({ ended }) => ended),
    [false, true],
  )
})

test('a process goes on reporting every few seconds while Kafka hangs', async (t) => {
  const times: number[] = []
  const query = async ({ sql: text }: { sql: string }) => {
    if (/processes/.test(text)) times.push(performance.now())
    return { rowCount: 1, rows: [] }
  }
  const hangs = () => new Promise<never>(() => {})
  const base = {
    pool: { query },
    clock: hostClock,
    logger: createLogger('silent'),
    metrics: createMetrics(),
    kafka: { reach: hangs },
    report: { lag: hangs, committed: () => 0 },
  } as unknown as Base
  const stop = startReports(base, new Set(['bridge', 'relay']), [])
  await until(
    () => times.length,
    (count) => count >= 4,
    20_000,
  )
  await stop()
  const pauses = times.slice(1, 4).map((time, i) => time - times[i]!)
  t.true(Math.max(...pauses) < 4500, `${pauses.map(Math.round).join(', ')} ms`)
})
