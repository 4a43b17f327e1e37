/**
 * Sells the last units of a product to many more customers at once, one unit each. Web and relay run in one process, workers in two more:
 *
 *     bin/bench-sale [--units 100] [--customers 1000] [--downstreams real|instant]
 *
 * Prints the answers and their times, and what Catalog holds at the end. Exits with 1 if that is not one unit per order, or if units are
 * left.
 */
import { parseArgs } from 'node:util'
import { createDatabase, query } from '../test/support/database.ts'
import { until } from '../test/support/until.ts'
import { endChildren } from './children.ts'
import { type Answer, addCustomers, cartOf, openClient } from './customers.ts'
import { addProducts, control, downstreamKinds, environment, numbers, oneOf, startDownstreams, startServer } from './shop.ts'
import { percentile } from './statistics.ts'

const { values: options } = parseArgs({
  options: {
    units: { type: 'string', default: '100' },
    customers: { type: 'string', default: '1000' },
    downstreams: { type: 'string', default: 'real' },
  },
})
const kind = oneOf('downstreams', options.downstreams, downstreamKinds)
const [units, customers] = [...numbers('units', options.units), ...numbers('customers', options.customers)] as [number, number]
/** Customers with their own products, who warm the service up beforehand. */
const EARLIER = 256
const EARLIER_AT_ONCE = 32
const WARM_UP_MS = 15_000
const PRODUCT = EARLIER + 1
/** By then holds without an order must be released. */
const SETTLED_WITHIN_MS = 30_000

interface Inventory {
  in_stock: number
  reserved: number
}

/** An entry of Catalog's journal. */
interface ReserveCall {
  answer: number | 'none'
  items: { product_id: number; qty: number }[]
}

const database = await createDatabase()

async function ordersOfProduct(): Promise<number> {
  const [row] = await query<{ n: number }>(
    database.dsn,
    'select count(distinct order_id)::int as n from public.order_items where product_id = $1',
    [PRODUCT],
  )
  return row!.n
}

try {
  const downstreams = await startDownstreams(kind)
  await addProducts(downstreams, EARLIER)
  await control(downstreams, 'POST', '/catalog/products', { id: PRODUCT, stock: units })
  await control(downstreams, 'PUT', '/catalog/journal', { keep: 100_000 })
  const inventory = async () =>
    ((await control(downstreams, 'GET', `/catalog/products/${PRODUCT}/inventory`)) as { inventory: Inventory }).inventory
  const reserveCalls = async () =>
    (await control(downstreams, 'GET', `/catalog/journal?call=reserve&productId=${PRODUCT}`)) as ReserveCall[]

  const earlier = await addCustomers(
    'earlier',
    Array.from({ length: EARLIER }, (_, i) => cartOf(1 + i)),
  )
  const crowd = await addCustomers(
    'crowd',
    Array.from({ length: customers }, () => cartOf(PRODUCT)),
  )
  const env = {
    ...environment(database.dsn, downstreams),
    MAX_IN_FLIGHT: String(2 * customers),
    LOG_LEVEL: 'error',
  }
  const [web] = await Promise.all([
    startServer(['src/main.ts', 'web', 'relay'], env),
    startServer(['src/main.ts', 'worker'], env),
    startServer(['src/main.ts', 'worker'], env),
  ])
  const client = openClient(web.url)

  process.stderr.write('warming up\n')
  const end = performance.now() + WARM_UP_MS
  let next = 0
  const shop = async () => {
    while (performance.now() < end) await client.checkout(earlier[(next = (next + 1) % EARLIER)]!)
  }
  await Promise.all(Array.from({ length: EARLIER_AT_ONCE }, shop))

  const began = performance.now()
  const answers = await Promise.all(crowd.map((token) => client.checkout(token)))
  const tookMs = performance.now() - began
  client.close()
  const orders = await ordersOfProduct()
  const heldAtOnce = (await inventory()).reserved
  const answeredAt = performance.now()
  const { reserved, in_stock } = await until(inventory, (now) => now.reserved === orders, SETTLED_WITHIN_MS).catch(inventory)
  const settledMs = performance.now() - answeredAt
  const calls = await reserveCalls()

  const kinds = Map.groupBy(answers, ({ status, detail }: Answer) => `${status || 'broken'} ${detail}`.trim())
  for (const [answer, some] of [...kinds].sort(([one], [other]) => one.localeCompare(other))) {
    const times = some.map(({ ms }) => ms)
    console.log(
      `${String(some.length).padStart(5)} x ${answer}   p50 ${percentile(times, 50).toFixed(0)} ms  max ${Math.max(...times).toFixed(0)} ms`,
    )
  }
  console.log(`${customers} customers were answered in ${(tookMs / 1000).toFixed(2)} s`)
  console.log(`${orders} orders for ${units} units`)
  console.log(
    `Catalog holds ${reserved} of ${in_stock} units` +
      (heldAtOnce === reserved ? '' : `; it held ${heldAtOnce} at the last answer, and this many ${(settledMs / 1000).toFixed(1)} s later`),
  )
  const [reserves, returns] = [calls.filter(({ items }) => items[0]!.qty > 0), calls.filter(({ items }) => items[0]!.qty < 0)]
  const granted = reserves.filter(({ answer }) => answer === 200).length
  console.log(`Catalog saw ${reserves.length} reserve calls, granted ${granted}, and ${returns.length} of negative quantity`)
  if (orders !== Math.min(units, customers) || reserved !== orders) process.exitCode = 1
} finally {
  await endChildren()
  await database.drop()
}
