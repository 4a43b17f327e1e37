/**
 * The campaign finds what it is there to find: each protection of the service taken away, in the situation that it is for, shows as
 * violations. The same situation with it shows none.
 */
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { Redis } from 'ioredis'
import fetch from 'node-fetch'
import pLimit from 'p-limit'
import { query } from '../support/database.ts'
import { type OwnServers, startServers } from '../support/services/index.ts'
import { demoAddress } from '../support/shop.ts'
import { until } from '../support/until.ts'
import type { Purchase } from './purchases.ts'
import type { Members } from './fleet.ts'
import type { Protection } from './protections.ts'
import { type Field, runSeed } from './seed.ts'
import type { Struck } from './strikes.ts'

let servers: OwnServers
test.before(async () => {
  servers = await startServers('test-without')
})
test.after.always(() => servers?.stop())

interface Situation {
  without: Protection
  /** What runs; everything in one process where nothing else is said. */
  members?: Members
  partitions?: number
  /** It strikes a server that the others use, too. */
  alone?: boolean
  /** How long to wait, without it, for what may still come to an end; in ms. */
  patienceMs?: number
  /** What is violated without it: the beginning of a line. */
  violates: RegExp
  purchases?: readonly Purchase[]
  env?: Record<string, string>
  strike(field: Field): Promise<unknown>
}

const inOne: Members = { all: ['web', 'worker', 'bridge', 'relay'] }
const webApart: Members = { web: ['web'], worker: ['worker', 'bridge', 'relay'] }

let customers = 0
function purchase(changes: Partial<Purchase> = {}): Purchase {
  customers += 1
  const email = `customer-${customers}@example.com`
  const usual = { atMs: 0, lines: [{ product_id: 7, qty: 2 }], impatient: false, doubleClick: false, envelope: false, paysAfterMs: 0 }
  return { email, key: 'key', payment: 'none', ...usual, ...changes }
}

const hook = pathToFileURL(`${import.meta.dirname}/take-away.ts`).href
let seeds = 900

async function violationsOf(
  { members = inOne, purchases = [], env, strike, partitions, patienceMs }: Situation,
  without: Protection,
): Promise<string[]> {
  seeds += 1
  const { violations } = await runSeed(servers, {
    seed: seeds,
    purchases,
    members,
    patienceMs: without === 'nothing' ? 20_000 : (patienceMs ?? 5000),
    nodeArgs: ['--import', `${hook}?${without}`],
    ...(env && { env }),
    ...(partitions && { partitions }),
    strike: async (field): Promise<Struck> => {
      await strike(field)
      return {}
    },
  })
  return violations
}

const situations: Situation[] = [
  {
    without: 'rescuer',
    members: webApart,
    violates: /^nothing open: still open: checkout /,
    env: { CHECKOUT_BUDGET_MS: '1500' },
    // With it: a second after its deadline, and a lease later for its call.
    patienceMs: 9000,
    // A checkout whose job Redis loses, and whose web process dies: nobody else knows of it.
    async strike({ fleet, downstreams, dsn, redis, prefix }) {
      const worker = fleet.pid('worker')
      const email = purchase().email
      await downstreams.cart.fill(email, [{ product_id: 7, qty: 1 }])
      process.kill(worker, 'SIGSTOP')
      const headers = { authorization: `Bearer ${downstreams.auth.token({ sub: email })}`, 'content-type': 'application/json' }
      const asked = fetch(`${fleet.urls[0]}/order/v1/orders/checkout`, { method: 'POST', headers, body: JSON.stringify(demoAddress) })
      asked.catch(() => {})
      await until(
        () => query(dsn, 'select from order_service.checkouts'),
        (rows) => rows.length === 1,
      )
      const client = new Redis(redis.url)
      await until(
        () => client.keys(`${prefix}:checkout:checkout*`),
        (jobs) => jobs.length > 0,
      )
      await fleet.kill('web')
      await client.del(await client.keys(`${prefix}*`))
      client.disconnect()
      process.kill(worker, 'SIGCONT')
    },
  },
  {
    without: 'reconciliation',
    violates: /^stock: product 7: Catalog holds 2, our orders 0/,
    // Twice the budget, for all of which its checkout lasts.
    patienceMs: 8000,
    purchases: [purchase({ impatient: true })],
    // Shipping says nothing, and the checkout is cancelled with its hold on record.
    async strike({ downstreams }) {
      downstreams.shipping.fault({ call: 'create', fault: 'hang' })
    },
  },
  {
    without: 'lease',
    members: webApart,
    violates: /^overlaps: product 7: /,
    // Others come while the first one's call is under way. The one before them makes the product known.
    async strike({ downstreams, shop }) {
      await shop([purchase()])
      // Calls of a second and more count as unanswered, and may overlap.
      const slow = downstreams.catalog.fault({ call: 'reserve', fault: 'slow', ms: 800 })
      const first = shop([purchase()])
      await until(slow.fired)
      await shop(Array.from({ length: 5 }, () => purchase()))
      await first
    },
  },
  {
    without: 'fencing',
    members: { web: ['web', 'bridge', 'relay'], worker: ['worker'], other: ['worker'] },
    violates: /^counters: product 7: /,
    env: { CHECKOUT_BUDGET_MS: '20000', CALL_TIMEOUT_MS: '6000' },
    // Before Catalog's answer arrives a lease has expired, and another worker has found that the call happened, and put its hold on record.
    async strike({ fleet, downstreams, dsn, shop }) {
      await shop([purchase()])
      const [worker, other] = [fleet.pid('worker'), fleet.pid('other')]
      process.kill(other, 'SIGSTOP')
      downstreams.catalog.fault({ call: 'reserve', fault: 'slow', actFirst: true, ms: 2500, times: 1 })
      const held = shop([purchase()])
      await until(
        () => downstreams.catalog.journal({ call: 'reserve' }).at(-1)!,
        ({ fault, applied }) => fault === 'slow' && applied,
      )
      process.kill(worker, 'SIGSTOP')
      await query(dsn, `update order_service.products set call_expires_at = clock_timestamp() - interval '1 s' where call_id is not null`)
      process.kill(other, 'SIGCONT')
      await shop([purchase()])
      process.kill(worker, 'SIGCONT')
      await held
    },
  },
  {
    without: 'offsets-last',
    members: { shop: ['web', 'worker', 'relay'], bridge: ['bridge'] },
    violates: /^payments: order \d+: was paid, and is CREATED/,
    purchases: [purchase({ payment: 'once' })],
    // The bridge dies as soon as its group has the offset.
    async strike({ fleet, payments }) {
      await until(payments, ({ there, unread }) => there >= 2 && unread === 0)
      await fleet.kill('bridge')
    },
  },
  {
    without: 'conditional-completion',
    violates: /^customers: order \d+ of .*: nobody was last told of it/,
    // Shipping answers after the budget, when the customer has been told that nothing was ordered, and before the call's time-out.
    env: { CHECKOUT_BUDGET_MS: '3000', CALL_TIMEOUT_MS: '6000' },
    async strike({ fleet, downstreams, dsn, shop }) {
      downstreams.shipping.fault({ call: 'create', fault: 'slow', ms: 4000 })
      await shop([purchase({ impatient: true })])
      // The worker finds out, or makes it an order all the same.
      const orders = () => query(dsn, 'select from public.orders')
      await until(async () => fleet.said('all', 'checkout step failed') || (await orders()).length > 0)
    },
  },
  {
    without: 'outbox-in-the-transaction',
    violates: /^events: order \d+, CREATED: its events are none/,
    purchases: [purchase()],
    // The process dies as soon as there is an order.
    async strike({ fleet, dsn }) {
      await until(
        () => query(dsn, 'select from public.orders'),
        (rows) => rows.length > 0,
      )
      await fleet.kill('all')
    },
  },
  {
    without: 'new-producer',
    members: { shop: ['web', 'worker', 'bridge'], relay: ['relay'] },
    partitions: 1,
    alone: true,
    violates: /^(nothing open: still open: event|events: order)/,
    // The broker writes what it was sent, and its answer comes too late.
    async strike({ fleet, kafka, dsn, shop }) {
      const unsent = () => query(dsn, 'select from order_service.outbox where sent_at is null')
      await shop([purchase()])
      await until(unsent, (rows) => rows.length === 0)
      const relay = fleet.pid('relay')
      process.kill(relay, 'SIGSTOP')
      await shop([purchase(), purchase(), purchase()])
      kafka.freeze()
      process.kill(relay, 'SIGCONT')
      await until(() => fleet.said('relay', 'relay cannot send; messages wait for Kafka'))
      kafka.thaw()
      await shop([purchase()])
    },
  },
]

/** So many runs at a time: each starts up to three processes. */
const turn = pLimit(4)

for (const situation of situations) {
  const { without, violates, alone } = situation
  const run = alone ? test.serial : test
  run(`without ${without} there are violations, and with it there are none`, async (t) => {
    const right = turn(() => violationsOf(situation, 'nothing'))
    if (alone) await right
    const found = await turn(() => violationsOf(situation, without))
    t.log(found)
    t.deepEqual(await right, [])
    t.true(found.some((line) => violates.test(line)))
  })
}
