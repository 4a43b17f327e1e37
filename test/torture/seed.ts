/** One seed from its first process to the verdict. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createDatabase, query } from '../support/database.ts'
import { type Downstreams, type DownstreamsOptions, startDownstreams } from '../support/downstreams/index.ts'
import type { Servers } from '../support/services/index.ts'
import { checkout } from '../support/services/state.ts'
import { makeTopic } from '../support/topic.ts'
import { type Told, runPurchases } from './customers.ts'
import { type Purchase, products } from './purchases.ts'
import { type Evidence, gather } from './evidence.ts'
import { type Members, startFleet } from './fleet.ts'
import { unitsOf, unitsOff, violationsOf } from './invariants.ts'
import { createOpen } from './open.ts'
import { openPayers } from './payers.ts'
import type { Battlefield, Struck } from './strikes.ts'

export interface SeedOptions {
  seed: number
  purchases: readonly Purchase[]
  /** Begins with the first customer. Resolves when everything it did is put right. */
  strike(field: Field): Promise<Struck>
  /** What is not finished after so long counts as open for good, in ms. */
  patienceMs?: number
  env?: Record<string, string>
  members?: Members
  /** Of `order.events`. */
  partitions?: number
  /** A call may act so late at the most, in ms: until then Catalog's inventory may still change. */
  latestMs?: number
  /** Arguments for Node itself. */
  nodeArgs?: readonly string[]
  /** How Catalog and Shipping are. */
  downstreams?: DownstreamsOptions
}

export interface Field extends Battlefield {
  /** Of everything that the service has in Redis. */
  prefix: string
  /** Messages on the payment topic, and how many of them the bridge has not committed yet. */
  payments(): Promise<{ there: number; unread: number }>
  /** Others bring units of a product, or (below 0) take them. @returns false where a call is writing its row, or there are too few */
  change(productId: number, units: number): boolean
  /** Further customers. */
  shop(purchases: readonly Purchase[]): Promise<Told[]>
}

export interface Result {
  seed: number
  struck: Struck
  evidence: Evidence
  violations: string[]
  orders: number
  units: number
  /** By which Catalog's stock is wrong, listed as ambiguous or not. */
  unitsOff: { productId: number; units: number }[]
  /** Shipments of checkouts that became no order. */
  drafts: number[]
  /** Ends of processes that nobody asked for. */
  faults: readonly string[]
  /** From the last strike until nothing was open, and until Catalog's evidence were exact, in ms. */
  finishedMs: number
  exactMs: number
  /** What was open last. */
  lastOpen: string
}

/** Short, so that much happens in a minute. A lease lasts 2.5 s longer than a call. */
const env = {
  CALL_TIMEOUT_MS: '1000',
  CHECKOUT_BUDGET_MS: '4000',
  PAYMENT_GRACE_MS: '5000',
  EMIT_ORDER_PAID: 'true',
  MIGRATE: 'false',
}
const CUSTOMER_TIMEOUT_MS = 6500
/** The bars: everything open is finished within a minute, and Catalog's inventory is exact within two. */
const FINISHED_WITHIN_MS = 60_000
const EXACT_WITHIN_MS = 120_000

export async function runSeed(servers: Servers, options: SeedOptions): Promise<Result> {
  const { seed, purchases, patienceMs = EXACT_WITHIN_MS, partitions = 3, latestMs = 0 } = options
  // The database's maker and the cart read the environment.
  process.env.POSTGRES_DSN = servers.postgres.dsn
  process.env.REDIS_URL = servers.redis.url
  await using toClose = new AsyncDisposableStack()
  const database = await createDatabase()
  toClose.defer(database.drop)
  const downstreams = await startDownstreams({ seed, ...options.downstreams })
  toClose.defer(downstreams.stop)
  for (const { id, stock, leaked } of products) downstreams.catalog.product({ id, stock, reserved: leaked })
  const mark = `${seed}-${Date.now().toString(36)}`
  const names = {
    prefix: `{torture-${mark}}`,
    topic: `order.events.${mark}`,
    paymentTopic: `payment.events.${mark}`,
    group: `torture-${mark}`,
  }
  const bootstrap = servers.kafka.bootstrap
  await makeTopic(bootstrap, names.topic, { partitions })
  const payers = await openPayers(bootstrap, names.paymentTopic)
  toClose.defer(payers.close)
  const others = new Map<number, number>()
  const watch = createOpen({ dsn: database.dsn, redisUrl: servers.redis.url, bootstrap, ...names })
  toClose.defer(watch.close)
  const fleet = await startFleet({
    env: { ...env, ...environmentOf(servers, database.dsn, downstreams, names), ...options.env },
    log: join(checkout, '.dev', 'torture-logs', `seed-${seed}.log`),
    nodeArgs: options.nodeArgs ?? [],
    ...(options.members && { members: options.members }),
  })
  toClose.defer(fleet.end)
  const enough = new AbortController()
  const calm = Promise.withResolvers<void>()
  // First of all: after a strike that failed there are customers yet, who would ask for ever.
  toClose.defer(() => {
    enough.abort()
    calm.resolve()
  })
  return await drive()

  async function drive(): Promise<Result> {
    await fleet.ready()
    const all: Told[] = []
    const shop = async (some: readonly Purchase[]) => {
      const told = await runPurchases(some, {
        urls: fleet.urls,
        downstreams,
        signal: enough.signal,
        calm: calm.promise,
        timeoutMs: CUSTOMER_TIMEOUT_MS,
        ordered: ({ last, purchase }) => payers.pay(last.orderId!, last.totalCents!, purchase),
      })
      all.push(...told)
      return told
    }
    const striking = options.strike({
      ...servers,
      fleet,
      downstreams,
      dsn: database.dsn,
      prefix: names.prefix,
      payments: watch.messages,
      change,
      shop,
    })
    const shopping = shop(purchases)
    const struck = await striking
    calm.resolve()
    const calmAt = performance.now()
    const left = () => Math.max(0, patienceMs - (performance.now() - calmAt))
    const givesUp = setTimeout(() => enough.abort(), Math.min(FINISHED_WITHIN_MS, patienceMs))
    await shopping
    clearTimeout(givesUp)
    await payers.done()

    let open = await watch.open()
    let lastOpen = ''
    while (open.length > 0 && left() > 0) {
      lastOpen = open[0]!
      await sleep(200)
      open = await watch.open()
    }
    const finishedMs = performance.now() - calmAt
    // A call that is to act late may still act, and is found by the reconciler's next check.
    await sleep(Math.max(0, Math.min(left(), latestMs + 200 - finishedMs)))
    if ((await wrongInventory()) > 0) await sendReconciler()
    while (((await wrongInventory()) > 0 || (await watch.open()).length > 0) && left() > 0) await sleep(300)
    const exactMs = performance.now() - calmAt
    if (open.length === 0) open = await watch.open()
    const { there } = await watch.messages()
    await fleet.end()
    return judge(all, { struck, open, messages: there, finishedMs, exactMs, lastOpen })
  }

  function change(productId: number, units: number): boolean {
    const { in_stock: inStock, reserved } = downstreams.catalog.inventory(productId)!
    if (inStock - reserved + units < 0 || !downstreams.catalog.isIdle(productId)) return false
    downstreams.catalog.setInventory(productId, { in_stock: inStock + units, reserved })
    others.set(productId, (others.get(productId) ?? 0) + units)
    return true
  }

  /** Our rows follow what others changed when somebody reads the product at Catalog: where nothing has since, it is sent for here. */
  async function sendReconciler(): Promise<void> {
    await query(
      database.dsn,
      'update order_service.products set reconciling_since = coalesce(reconciling_since, now()) where product_id = any($1)',
      [[...others.keys()]],
    )
  }

  /** Products of which Catalog does not say what our rows say. */
  async function wrongInventory(): Promise<number> {
    const rows = await query<{ id: number; held: number; expected: number | null }>(
      database.dsn,
      `select product_id as id, expected_stock::int as expected, (held + foreign_holds)::int as held from order_service.products`,
    )
    return rows.filter(({ id, held, expected }) => {
      const { in_stock: inStock, reserved } = downstreams.catalog.inventory(id)!
      return expected !== null && (reserved !== held || inStock !== expected)
    }).length
  }

  async function judge(
    told: readonly Told[],
    { open, messages, ...course }: Pick<Result, 'struck' | 'finishedMs' | 'exactMs' | 'lastOpen'> & { open: string[]; messages: number },
  ): Promise<Result> {
    const known = { told, paid: payers.paid, messages, open, endings: fleet.endings, others }
    const evidence = await gather({ dsn: database.dsn, bootstrap, topic: names.topic, downstreams }, known)
    const violations = violationsOf(evidence)
    if (course.finishedMs > FINISHED_WITHIN_MS)
      violations.push(`recovery: it took ${Math.round(course.finishedMs)} ms until nothing was open`)
    const orders = new Set(evidence.orders.map(({ id }) => id))
    return {
      seed,
      ...course,
      evidence,
      violations,
      orders: evidence.orders.length,
      units: unitsOf(evidence.orders),
      unitsOff: unitsOff(evidence),
      drafts: evidence.shipments.filter((id) => !orders.has(id)),
      faults: fleet.faults,
    }
  }
}

function environmentOf(
  { redis, kafka }: Servers,
  dsn: string,
  { catalogBase, shippingBase, authBase }: Downstreams,
  { prefix, topic, paymentTopic, group }: { prefix: string; topic: string; paymentTopic: string; group: string },
): Record<string, string> {
  return {
    HOST: '127.0.0.1',
    POSTGRES_DSN: dsn,
    REDIS_URL: redis.url,
    REDIS_PREFIX: prefix,
    KAFKA_BOOTSTRAP: kafka.bootstrap,
    TOPIC_ORDER_EVENTS: topic,
    TOPIC_PAYMENT_EVENTS: paymentTopic,
    TOPIC_PAYMENT_EVENTS_DLQ: `${paymentTopic}.dlq`,
    KAFKA_GROUP: group,
    CATALOG_BASE: catalogBase,
    SHIPPING_BASE: shippingBase,
    AUTH_BASE: authBase,
    NODE_COMPILE_CACHE: join(checkout, '.dev', 'compile-cache'),
  }
}
