/** PostgreSQL and Redis of this file's own hang under customers: they keep their connections and answer nothing. */
import test from 'ava'
import { Client } from 'pg'
import { shopTotals, settled } from '../support/shop-totals.ts'
import { type Postgres, type Redis, startPostgres, startRedis } from '../support/services/index.ts'
import { type Answer, type Customer, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const BUDGET_MS = 3000
/** The budget, 2 s in which PostgreSQL may say what became of it, and what a busy machine adds. */
const ANSWERED_MS = BUDGET_MS + 2000 + 1500

let postgres: Postgres
let redis: Redis
let shop: Shop
test.before(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres({ name: 'test-stalled' }), startRedis({ name: 'test-stalled' })])
  Object.assign(process.env, { POSTGRES_DSN: postgres.dsn, REDIS_URL: redis.url })
  shop = await openShop({ env: { CALL_TIMEOUT_MS: '1000', CHECKOUT_BUDGET_MS: String(BUDGET_MS) } })
})
test.after.always(async () => {
  postgres?.thaw()
  redis?.thaw()
  await shop?.close()
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const product = () => shop.catalog.product({ stock: 1000 })

const crowd = (count: number, productIds: readonly number[]): Promise<Customer[]> =>
  Promise.all(Array.from({ length: count }, (_, i) => shop.customer().wants({ product_id: productIds[i % productIds.length]!, qty: 1 })))

const ordersOf = async (customers: readonly Customer[]) => {
  const emails = customers.map(({ email }) => email)
  return (await shop.query<{ user_email: string }>('select user_email from public.orders where user_email = any($1)', [emails])).map(
    ({ user_email }) => user_email,
  )
}

const isUnknown = ({ headers }: Answer) => headers.get('checkout-outcome') === 'unknown'

/** What each answer said is true: a 200 is an order, a 503 is none, unless it said that it does not know. */
async function holdsTrue(
  t: { deepEqual(a: unknown, b: unknown): unknown; true(a: boolean, m?: string): unknown },
  customers: Customer[],
  answers: Answer[],
) {
  t.deepEqual(
    answers.filter(({ status }) => status !== 200 && status !== 503),
    [],
  )
  for (const { ms, status } of answers) t.true(ms < ANSWERED_MS, `${status} after ${ms} ms`)
  await settled(shop)
  const ordered = await ordersOf(customers)
  for (const [i, answer] of answers.entries()) {
    if (!isUnknown(answer)) t.deepEqual(ordered.includes(customers[i]!.email), answer.status === 200)
  }
}

test.serial('an order read from a hanging PostgreSQL is a 503 after two seconds', async (t) => {
  const [customer] = await crowd(1, [product()])
  const { body } = await customer!.checkout()
  postgres.freeze()
  const during = await shop.get(`/order/v1/orders/${body.order_id}`)
  postgres.thaw()
  t.is(during.status, 503)
  t.true(during.ms < 3500, `${during.ms} ms`)
  await until(
    () => shop.get(`/order/v1/orders/${body.order_id}`),
    ({ status }) => status === 200,
  )
})

test.serial('customers of a PostgreSQL that hangs are answered in time, and a repeat with the key settles the outcome', async (t) => {
  const ids = [product(), product(), product()]
  const customers = await crowd(18, ids)
  const newcomers = await crowd(3, ids)
  const slow = shop.shipping.fault({ call: 'create', fault: 'slow', ms: 150 })

  const asked = Promise.all(customers.map((customer) => customer.checkout({ key: 'k' })))
  await until(slow.fired, (times) => times > 4)
  postgres.freeze()
  const answers = await Promise.all([asked, Promise.all(newcomers.map((customer) => customer.checkout({ key: 'k' })))])
  postgres.thaw()
  slow.remove()

  const all = [...customers, ...newcomers]
  t.true(answers[1].every(isUnknown))
  await until(
    async () => (await Promise.all(all.map((customer) => customer.checkout({ key: 'k' })))).map(({ status }) => status),
    (statuses) => statuses.every((status) => status === 200),
  )
  for (const [i, answer] of answers[0].entries()) {
    if (answer.status === 200) t.deepEqual((await customers[i]!.checkout({ key: 'k' })).body, answer.body)
    t.true(answer.ms < ANSWERED_MS, `${answer.status} after ${answer.ms} ms`)
  }
  t.deepEqual(await shopTotals(shop, ids), { orders: all.length, sold: all.length, held: all.length, misshipped: [] })
})

test.serial('answers given while PostgreSQL hung are still true when it goes on', async (t) => {
  const ids = Array.from({ length: 6 }, () => product()) // those of one product travel in one call
  const customers = await crowd(12, ids)
  const slow = shop.catalog.fault({ call: 'reserve', fault: 'slow', ms: 100 })
  const asked = Promise.all(customers.map((customer) => customer.checkout()))
  await until(slow.fired, (times) => times > 2)
  postgres.freeze()
  const answers = await asked
  postgres.thaw()
  slow.remove()
  await holdsTrue(t, customers, answers)
  const ordered = (await ordersOf(customers)).length
  t.deepEqual(await shopTotals(shop, ids), { orders: ordered, sold: ordered, held: ordered, misshipped: [] })
})

test.serial('customers of a Redis that hangs are answered in time, and a 503 ordered nothing, also when Redis goes on', async (t) => {
  const ids = Array.from({ length: 6 }, () => product()) // those of one product travel in one call
  const customers = await crowd(12, ids)
  const late = await crowd(4, ids)
  const slow = shop.catalog.fault({ call: 'reserve', fault: 'slow', ms: 100 })
  const asked = Promise.all(customers.map((customer) => customer.checkout()))
  await until(slow.fired, (times) => times > 2)
  redis.freeze()
  const answers = [...(await asked), ...(await Promise.all(late.map((customer) => customer.checkout())))]
  redis.thaw()
  slow.remove()
  t.true(
    answers.slice(12).every(({ status }) => status === 503),
    'there is no cart to read',
  )
  await holdsTrue(t, [...customers, ...late], answers)
  const sold = answers.filter(({ status }) => status === 200).length
  t.deepEqual(await shopTotals(shop, ids), { orders: sold, sold, held: sold, misshipped: [] })
  await until(
    async () => (await crowd(1, ids))[0]!.checkout(),
    ({ status }) => status === 200,
  )
})

test.serial('a job that Redis takes only after its customer was refused orders nothing, and asks nobody for anything', async (t) => {
  const id = product()
  const customers = await crowd(3, [id])
  const session = new Client({ connectionString: shop.dsn })
  await session.connect()
  await session.query('begin; lock table order_service.checkouts in share mode')

  const asked = Promise.all(customers.map((customer) => customer.checkout()))
  const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
  await until(
    () => shop.query(waiting),
    (rows) => rows.length > 0,
  )
  redis.freeze() // between the cart and the job
  await session.query('rollback')
  await session.end()
  const answers = await asked
  redis.thaw()

  t.deepEqual(
    answers.map(({ status, body }) => [status, body.detail]),
    customers.map(() => [503, 'The checkout could not be started; nothing was ordered']),
  )
  // The jobs were under way to Redis, and are driven now.
  await until(
    () =>
      shop.query('select from order_service.checkouts where lines @> $1 and last_error is not null', [
        JSON.stringify([{ product_id: id }]),
      ]),
    (rows) => rows.length === customers.length,
  )
  t.deepEqual(shop.catalog.journal({ productId: id }), [])
  await holdsTrue(t, customers, answers)
  t.deepEqual(await shopTotals(shop, [id]), { orders: 0, sold: 0, held: 0, misshipped: [] })
})
