/**
 * Payments from their topic to PAID, everything in one process, beside what BullMQ does alone: jobs added in hundreds and an empty
 * processor, with the same concurrency on the same Redis. Runs take turns; medians are printed, and then the ratios:
 *
 *     bin/bench-payments [--products 5000] [--payments 5000] [--rounds 3] [--downstreams instant|real] [--beside]
 *
 * `--products 5000,1` measures payments of 5,000 products and of one. `--beside`: how long checkouts of other products take meanwhile.
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
const PAID_WITHIN_MS = 120_000
/** Others who shop beside the payments: so many, each with a product of his own, one every few ms whether the others have their answers or not. */
const OTHERS = 256
const OTHERS_EVERY_MS = 20
/** How long their usual times are taken, without payments. */
const USUAL_MS = 4000

/** The service is at half its speed in its first seconds. */
const WARM_UP_MS = 8000

/** The first order of as many as there are payments in a run. */
interface Lot {
  first: number
  count: number
}

const most = Math.max(...productCounts)
const database = await createDatabase()

/**
 * Orders of one unit each, of the products from 1 on in turn. All are made before the service first comes, as the predecessor's would be,
 * with their holds at Catalog: it meets each product once, and finds nothing to put right.
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

/** How many units of each product are in orders. */
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
  await announcer.publish(messages)
  await until(
    () =>
      query<{ unpaid: number }>(
        database.dsn,
        `select count(*)::int as unpaid from public.orders where status = 'CREATED' and id >= $1 and id < $1 + $2`,
        [first, count],
      ),
    ([row]) => row!.unpaid === 0,
    PAID_WITHIN_MS,
  )
  return count / ((performance.now() - began) / 1000)
}

/** @returns jobs a second */
async function bare(): Promise<number> {
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

/** Has the others shop for as long as something takes. @returns what came of it, and their p95 in ms */
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

const announcer = openPayments(process.env.KAFKA_BOOTSTRAP!, paymentTopic)

try {
  // Of each product one, so that the service has met them all.
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
  await beside(checkout, () => Promise.all([pay(first), bare(), sleep(WARM_UP_MS)]))

  const rates = { bare: [] as number[], payments: productCounts.map(() => [] as number[]) }
  const p95 = { usual: [] as number[], payments: productCounts.map(() => [] as number[]) }
  for (let round = 0; round < rounds; round += 1) {
    rates.bare.push(await bare())
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
  show('BullMQ alone', rates.bare, 'jobs/s')
  for (const [i, products] of productCounts.entries()) show(`payments of ${named(products)}`, rates.payments[i]!, 'payments/s')
  if (options.beside) {
    show('p95 of checkouts, usual', p95.usual, 'ms')
    for (const [i, products] of productCounts.entries()) show(`p95 beside payments of ${named(products)}`, p95.payments[i]!, 'ms')
  }
  for (const [i, products] of productCounts.entries()) {
    console.log(ratioLine(`payments of ${named(products)}/BullMQ alone`, rates.payments[i]!, rates.bare))
    if (options.beside)
      console.log(ratioLine(`p95 of other checkouts beside payments of ${named(products)}/usual`, p95.payments[i]!, p95.usual))
  }
  for (const [i, products] of productCounts.entries()) {
    if (i > 0) console.log(ratioLine(`payments ${named(products)}/${named(productCounts[0]!)}`, rates.payments[i]!, rates.payments[0]!))
  }
} finally {
  await announcer.close()
  await endChildren()
  await database.drop()
}
