/**
 * Compares payments, from their topic to PAID in one process, with bare BullMQ: jobs added in hundreds and an empty processor, with the
 * same concurrency and Redis. Runs alternate; it prints medians and ratios:
 *
 *     bin/bench-payments [--products 5000] [--payments 5000] [--rounds 3] [--downstreams instant|real] [--beside]
 *
 * `--products 5000,1` measures payments of 5,000 products and of one. `--beside` measures checkouts of other products meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { createDatabase, query } from '../test/support/database.ts'
import { openPayments, paymentOf } from '../test/support/payments.ts'
import { until } from '../test/support/until.ts'
import { endChildren } from './children.ts'
import { type Answer, addCustomers, cartOf, openClient } from './customers.ts'
import { addProducts, downstreamKinds, environment, numbers, oneOf, paymentTopic, startDownstreams, startServer } from './shop.ts'
import { median, percentile, ratioLine } from './statistics.ts'

const { values: options } = parseArgs({
  options: {
    products: { type: 'string', default: '5000' },
    payments: { type: 'string', default: '5000' },
    rounds: { type: 'string', default: '3' },
    downstreams: { type: 'string', default: 'instant' },
    beside: { type: 'boolean', default: false },
  },
})
const kind = oneOf('downstreams', options.downstreams, downstreamKinds)
const productCounts = numbers('products', options.products)
const [payments, rounds] = [...numbers('payments', options.payments), ...numbers('rounds', options.rounds)] as [number, number]
const CONCURRENCY = 512
const AT_ONCE = 100
const PAY_TIMEOUT_MS = 120_000
/** Customers who check out during the payments, each with his own product. One starts every 20 ms, without waiting for answers. */
const OTHERS = 256
const OTHERS_EVERY_MS = 20
/** How long their usual latency is measured without payments. */
const USUAL_MS = 4000

/** The service runs at half its speed in its first seconds. */
const WARM_UP_MS = 8000

/** The orders of one run, with consecutive ids. */
interface Lot {
  first: number
  count: number
}

const most = Math.max(...productCounts)
const database = await createDatabase()

/**
 * Adds orders of one unit each, for products 1, 2, … in turn. They exist before the service starts, like the predecessor's, with their
 * holds at Catalog. So the service reads each product once and corrects nothing.
 */
async function addOrders(count: number, products: number): Promise<Lot> {
  const [row] = await query<{ first: number }>(
    database.dsn,
    `with made as (
       insert into public.orders (user_email, total_cents) select 'bench@example.com', 1000 from generate_series(1, $1) returning id
     ), items as (
       insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
       select id, 1 + id % $2, 1, 1000, 'Air Zoom' from made)
     select min(id) as first from made`,
    [count, products],
  )
  return { first: row!.first, count }
}

/** Units in orders by product. */
async function unitsOrdered(): Promise<Map<number, number>> {
  const rows = await query<{ id: number; units: number }>(
    database.dsn,
    'select product_id as id, sum(qty)::int as units from public.order_items group by product_id',
  )
  return new Map(rows.map(({ id, units }) => [id, units]))
}

/** @returns payments a second */
async function pay({ first, count }: Lot): Promise<number> {
  const messages = Array.from({ length: count }, (_, i) =>
    paymentOf(first + i, { amount_cents: 1000, currency: 'USD', provider: 'bench', payment_id: `pi_${first + i}` }),
  )
  const began = performance.now()
  await publisher.publish(messages)
  await until(
    () =>
      query<{ unpaid: number }>(
        database.dsn,
        `select count(*)::int as unpaid from public.orders where status = 'CREATED' and id >= $1 and id < $1 + $2`,
        [first, count],
      ),
    ([row]) => row!.unpaid === 0,
    PAY_TIMEOUT_MS,
  )
  return count / ((performance.now() - began) / 1000)
}

/** @returns jobs a second */
async function bareBullMQ(): Promise<number> {
  const connection = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const ofWorker = connection.duplicate()
  const prefix = `{bare-${process.pid}}`
  const queue = new Queue('bare', { connection, prefix, streams: { events: { maxLen: 100 } } })
  let done = 0
  const worker = new Worker('bare', async () => void (done += 1), { connection: ofWorker, prefix, concurrency: CONCURRENCY })
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()])
  const began = performance.now()
  for (let first = 0; first < payments; first += AT_ONCE) {
    await queue.addBulk(
      Array.from({ length: AT_ONCE }, (_, i) => ({
        name: 'pay',
        data: { eventId: first + i, orderId: first + i, attempt: 1 },
        opts: { jobId: `bare-${first + i}`, removeOnComplete: true },
      })),
    )
  }
  await until(
    () => done,
    (count) => count >= payments,
  )
  const rate = payments / ((performance.now() - began) / 1000)
  await worker.close()
  await queue.close()
  ofWorker.disconnect()
  connection.disconnect()
  return rate
}

/** Sends other checkouts while something runs. @returns its result and the p95 of the checkouts in ms */
async function beside<Result>(
  checkout: () => Promise<Answer>,
  something: () => Promise<Result>,
): Promise<{ result: Result; p95Ms: number }> {
  const answers: Promise<Answer>[] = []
  const clock = setInterval(() => answers.push(checkout()), OTHERS_EVERY_MS)
  const result = await something().finally(() => clearInterval(clock))
  const all = await Promise.all(answers)
  const refused = all.filter(({ status }) => status !== 200)
  if (refused.length > 0) console.log(`${refused.length} of ${all.length} checkouts were refused: ${refused[0]!.detail}`)
  return {
    result,
    p95Ms: percentile(
      all.map(({ ms }) => ms),
      95,
    ),
  }
}

const publisher = openPayments(process.env.KAFKA_BOOTSTRAP!, paymentTopic)

try {
  // One order of each product, so that the service has read all products.
  const first = await addOrders(most, most)
  const lots = productCounts.map(() => [] as Lot[])
  for (let round = 0; round < rounds; round += 1) {
    for (const [i, products] of productCounts.entries()) lots[i]!.push(await addOrders(payments, products))
  }
  await query(database.dsn, 'analyze public.orders, public.order_items')
  const downstreams = await startDownstreams(kind)
  const units = await unitsOrdered()
  await addProducts(downstreams, most + OTHERS, (id) => units.get(id) ?? 0)
  const tokens = await addCustomers(
    'bench',
    Array.from({ length: OTHERS }, (_, i) => cartOf(most + 1 + i)),
  )
  const env = { ...environment(database.dsn, downstreams), WORKER_CONCURRENCY: String(CONCURRENCY), LOG_LEVEL: 'warn' }
  const client = openClient((await startServer(['src/main.ts'], env)).url)
  let next = 0
  const checkout = () => client.checkout(tokens[(next = (next + 1) % OTHERS)]!)

  process.stderr.write('warming up\n')
  await beside(checkout, () => Promise.all([pay(first), bareBullMQ(), sleep(WARM_UP_MS)]))

  const rates = { bare: [] as number[], payments: productCounts.map(() => [] as number[]) }
  const p95 = { usual: [] as number[], payments: productCounts.map(() => [] as number[]) }
  for (let round = 0; round < rounds; round += 1) {
    rates.bare.push(await bareBullMQ())
    if (options.beside) p95.usual.push((await beside(checkout, () => sleep(USUAL_MS))).p95Ms)
    for (const i of productCounts.keys()) {
      const run = () => pay(lots[i]![round]!)
      const { result, p95Ms } = options.beside ? await beside(checkout, run) : { result: await run(), p95Ms: Number.NaN }
      rates.payments[i]!.push(result)
      p95.payments[i]!.push(p95Ms)
    }
  }
  client.close()

  const named = (products: number) => (products === 1 ? 'one product' : `${products} products`)
  const show = (name: string, all: number[], unit: string) =>
    console.log(`${name.padEnd(40)} ${median(all).toFixed(0).padStart(6)} ${unit}   (${all.map((one) => one.toFixed(0)).join(', ')})`)
  show('bare BullMQ', rates.bare, 'jobs/s')
  for (const [i, products] of productCounts.entries()) show(`payments of ${named(products)}`, rates.payments[i]!, 'payments/s')
  if (options.beside) {
    show('p95 of checkouts, usual', p95.usual, 'ms')
    for (const [i, products] of productCounts.entries()) show(`p95 beside payments of ${named(products)}`, p95.payments[i]!, 'ms')
  }
  for (const [i, products] of productCounts.entries()) {
    console.log(ratioLine(`payments of ${named(products)}/bare BullMQ`, rates.payments[i]!, rates.bare))
    if (options.beside)
      console.log(ratioLine(`p95 of other checkouts beside payments of ${named(products)}/usual`, p95.payments[i]!, p95.usual))
  }
  for (const [i, products] of productCounts.entries()) {
    if (i > 0) console.log(ratioLine(`payments ${named(products)}/${named(productCounts[0]!)}`, rates.payments[i]!, rates.payments[0]!))
  }
} finally {
  await publisher.close()
  await endChildren()
  await database.drop()
}
