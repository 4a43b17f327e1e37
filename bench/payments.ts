/**
 * Payments from their topic to PAID, everything in one process, beside what BullMQ does alone: jobs added in hundreds and an empty
 * processor, with the same concurrency on the same Redis. Runs alternate, and medians are printed: `bin/bench-payments [--rounds 3] [--payments 5000]`.
 */
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { createDatabase, query } from '../test/support/database.ts'
import { openPayments, paymentOf } from '../test/support/payments.ts'
import { freePort } from '../test/support/services/ports.ts'
import { until } from '../test/support/until.ts'
import { endChildren, startChild } from './children.ts'

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, payments: { type: 'string', default: '5000' } },
})
const rounds = Number(options.rounds)
const payments = Number(options.payments)
const PRODUCTS = 5000
const CONCURRENCY = 512
const AT_ONCE = 100

const database = await createDatabase()
const topic = `bench.payments.${process.pid}`

async function startService(catalogBase: string): Promise<void> {
  const port = String(await freePort())
  const env = {
    POSTGRES_DSN: database.dsn,
    CATALOG_BASE: catalogBase,
    TOPIC_ORDER_EVENTS: `bench.orders.${process.pid}`,
    TOPIC_PAYMENT_EVENTS: topic,
    TOPIC_PAYMENT_EVENTS_DLQ: `${topic}.dlq`,
    KAFKA_GROUP: topic,
    REDIS_PREFIX: `{bench-${process.pid}}`,
    WORKER_CONCURRENCY: String(CONCURRENCY),
    HOST: '127.0.0.1',
    PORT: port,
    LOG_LEVEL: 'warn',
  }
  startChild(['src/main.ts'], env).stdout!.pipe(process.stderr)
  await until(
    () =>
      fetch(`http://127.0.0.1:${port}/order/ready`).then(
        async (response) => ((await response.json()) as { parts: { bridge?: { state: string } } }).parts.bridge?.state,
        () => 'away',
      ),
    (state) => state === 'ok',
  )
}

/** Orders of one piece each, of products that are known. @returns the first id */
async function prepareOrders(): Promise<number> {
  const [row] = await query<{ first: number }>(
    database.dsn,
    `with made as (
       insert into public.orders (user_email, total_cents) select 'bench@example.com', 1000 from generate_series(1, $1) returning id
     ), items as (
       insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
       select id, 1 + id % $2, 1, 1000, 'Air Zoom' from made)
     select min(id) as first from made`,
    [payments, PRODUCTS],
  )
  return row!.first
}

const announcer = openPayments(process.env.KAFKA_BOOTSTRAP!, topic)

/** @returns payments a second */
async function pay(): Promise<number> {
  const first = await prepareOrders()
  const messages = Array.from({ length: payments }, (_, i) =>
    paymentOf(first + i, { amount_cents: 1000, currency: 'USD', provider: 'bench', payment_id: `pi_${first + i}` }),
  )
  const began = performance.now()
  await announcer.publish(messages)
  await until(
    () => query<{ n: number }>(database.dsn, `select count(*)::int as n from public.orders where status = 'CREATED'`),
    ([row]) => row!.n === 0,
    120_000,
  )
  return payments / ((performance.now() - began) / 1000)
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

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

try {
  const neighbours = startChild(['test/support/neighbours/main.ts', '--instant'])
  const { value: line } = await createInterface({ input: neighbours.stdout! })[Symbol.asyncIterator]().next()
  const bases = JSON.parse(String(line)) as { catalog: string; control: string }
  for (let id = 1; id <= PRODUCTS; id += 1) {
    await fetch(`${bases.control}/catalog/products`, { method: 'POST', body: JSON.stringify({ id, stock: 1_000_000_000 }) })
  }
  await query(
    database.dsn,
    'insert into order_service.products (product_id, drift, predicted_stock) select id, 0, 1000000000 from generate_series(1, $1) id',
    [PRODUCTS],
  )
  await startService(bases.catalog)
  process.stderr.write('warming up\n')
  await pay()
  await bare()
  const rates = { bare: [] as number[], payments: [] as number[] }
  for (let round = 0; round < rounds; round += 1) {
    rates.bare.push(await bare())
    rates.payments.push(await pay())
  }
  for (const [name, all] of Object.entries(rates)) {
    console.log(`${name.padEnd(8)} ${median(all).toFixed(0).padStart(6)}/s   (${all.map((rate) => rate.toFixed(0)).join(', ')})`)
  }
  console.log(`payments/bare ${(median(rates.payments) / median(rates.bare)).toFixed(2)}`)
} finally {
  await announcer.close()
  await endChildren()
  await database.drop()
}
