/** What an ordinary checkout asks of everybody, question by question: whatever is added to it shows here, and is paid for with every checkout. */
import test from 'ava'
import { startProcess } from '../support/service-process.ts'
import { everything, openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { openWire, type Question } from '../support/wire/index.ts'
import { addsJob, finishesJob, takesJob } from './dying.ts'

const TRIES = 10

/** What the process asks by itself, checkouts or none: pings and polls of the relays and of the rescuer, its clock, its report, Kafka's consumer. */
const byItself = new Set(
  [
    ['select 1', 'read-unsent', 'unpublished-letters'],
    ['overdue-checkouts', 'stranded-checkouts', 'stranded-payments', 'products-to-reconcile', 'read-time'],
    ['lowest-unsent', 'lowest-open', 'lowest-waiting', 'numbers-left'],
    ['report-process', 'add-to-minute', 'outbox-lag'],
    ['fetch', 'heartbeat', 'metadata'],
  ].flat(),
)

const scripts = { addsJob: addsJob('checkout'), finishesJob: finishesJob('checkout') }

/** undefined: what the process asks by itself */
function nameOf(question: Question): string | undefined {
  const { to, asks } = question
  if (to !== 'redis') return byItself.has(asks) ? undefined : `${to}: ${asks}`
  // BullMQ waits for jobs and checks for stalled ones. The service reads now and then how long the oldest job waits, and whether the queue
  // is paused.
  const polls = [/^bzpopmin /, /^script (moveStalledJobsToWait|getJobs) /, /^hexists \S+:checkout:meta paused$/]
  if (polls.some((poll) => poll.test(asks))) return undefined
  if (['checkout', 'payment', 'stock'].some((queue) => takesJob(queue)(question))) return undefined
  const [script] = Object.entries(scripts).find(([, is]) => is(question)) ?? []
  return `redis: ${script ?? /^(script )?\S+/.exec(asks)?.[0]}`
}

test('an ordinary checkout asks Catalog once, Shipping once, PostgreSQL twice, Redis three times, and its event three times more', async (t) => {
  const shop = await openShop({ roles: [], downstreams: { instant: true } })
  t.teardown(shop.close)
  const wire = await openWire(shop.env)
  t.teardown(wire.close)
  const service = await startProcess(t, everything, wire.env)
  await service.logged('started')
  await until(
    async () => (await fetch(`${service.url}/order/ready`)).json() as Promise<{ components: { bridge?: { state: string } } }>,
    ({ components }) => components.bridge?.state === 'ok',
  )
  const product = shop.catalog.product({ stock: 1000 })

  const lists: string[][] = []
  const fetches: number[] = []
  for (let i = 0; i < TRIES; i++) {
    const customer = await shop.customer().wants({ product_id: product, qty: 1 })
    const from = wire.asked.length
    t.is((await customer.checkout({ url: service.url })).status, 200)
    await until(
      () => shop.query('select from order_service.outbox where sent_at is null'),
      (rows) => rows.length === 0,
    )
    const asked = wire.asked.slice(from)
    const untilReserve = asked.slice(
      asked.findIndex(scripts.addsJob),
      asked.findIndex(({ to }) => to === 'catalog'),
    )
    fetches.push(untilReserve.filter(takesJob('checkout')).length)
    const names = asked.map(nameOf)
    lists.push(names.filter((name) => name !== undefined).sort())
  }

  // The first ones meet the product and Kafka; on a busy machine a record may go on its own.
  const [ordinary] = lists.sort((a, b) => a.length - b.length)
  t.deepEqual(ordinary, [
    'catalog: POST /catalog/v1/inventory/reserve',
    'kafka: produce',
    'postgres: complete',
    'postgres: intend',
    'postgres: mark-sent',
    'redis: addsJob',
    'redis: finishesJob',
    'redis: hvals',
    'shipping: POST /shipping/v1/shipments',
  ])
  t.is(Math.min(...fetches), 1, 'the worker fetches jobs once before the job begins')
})
