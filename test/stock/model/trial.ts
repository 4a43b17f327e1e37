/**
 * One history: customers, payments, faults, processes that are killed and stopped, leases and jobs that are lost, somebody else who
 * restocks; then quiet, until nothing is left to do. In the end Catalog's books have to be what our rows say.
 */
import type { Books } from '../../../src/db/stock-ledger.ts'
import { createMetrics } from '../../../src/telemetry/metrics.ts'
import { ask } from './ask.ts'
import { type Misreading, playAudit } from './audit.ts'
import { CALL_TIMEOUT_MS, playCatalog } from './catalog.ts'
import { playJobs } from './jobs.ts'
import { LEASE_MS, playLeases } from './leases.ts'
import { playRows, type Rows } from './rows.ts'
import { BUDGET_MS, playShipping, startWorker, type Worker } from './worker.ts'
import { createWorld, type Life } from './world.ts'

export interface Knobs {
  /** For so long there are customers and faults, in ms. */
  faultsLastMs: number
  /** On average, in ms. */
  betweenOrdersMs: number
  /** The share of calls to Catalog that meet a fault. */
  faultRate: number
  /** A late call acts so long after it was sent at the latest, in ms. */
  actLateMs: number
  /** The share of statements and questions that PostgreSQL does not answer, done or not. */
  unheard: number
  kills: boolean
  stops: boolean
  /** The share of kills and stops that come with FLUSHALL. */
  flushes: number
  /** Somebody else brings pieces every five seconds. */
  restocks: boolean
  /** Whether Catalog has a release. */
  release: boolean
  /** Pieces of each product at the beginning. */
  stock: number
  // The protections, to be switched off one by one.
  lease: boolean
  mend: boolean
  mender: boolean
  epochs: boolean
  freeze: boolean
}

export const knobs: Knobs = {
  faultsLastMs: 60_000,
  betweenOrdersMs: 250,
  faultRate: 0.05,
  actLateMs: 20_000,
  unheard: 0,
  kills: true,
  stops: true,
  flushes: 0.1,
  restocks: true,
  release: false,
  stock: 60,
  lease: true,
  mend: true,
  mender: true,
  epochs: true,
  freeze: true,
}

const PRODUCTS = [1, 2, 3, 4, 5, 6]
const WORKERS = 2
/** Beyond the ten minutes for which a doubt lasts, and the minute until the mender's next look. */
const QUIET_LASTS_MS = 20 * 60_000

export interface ProductEnd {
  productId: number
  /** Pieces held at Catalog and by no row of ours; below 0: missing there. */
  wrongHold: number
  /** Pieces that Catalog has too many; below 0: too few. */
  wrongStock: number
  /** What the ledger says of it: at the most so many too many, and too few. */
  undecided: { tooMany: number; tooFew: number }
}

export interface End {
  seed: number
  orders: number
  /** Pieces paid for. */
  sold: number
  /** Checkouts and payments without an end, products in need of mending. */
  unfinished: number
  products: ProductEnd[]
  /** Where a wrong story was taken. */
  misreadings: Misreading[]
  tally: Record<string, number>
}

const metrics = createMetrics()

export async function trial(seed: number, changed: Partial<Knobs> = {}, hear?: (line: string) => void): Promise<End> {
  const on = { ...knobs, ...changed }
  const world = createWorld(seed, hear)
  const { chance } = world
  const rows = playRows(world.now, { epochs: on.epochs })
  const catalog = playCatalog(world, {
    faultRate: on.faultRate,
    actLateMs: on.actLateMs,
    faultsEndMs: on.faultsLastMs,
    release: on.release,
  })
  const leases = playLeases(world, on)
  const shippingOf = playShipping(world, { refuses: 0.2, silent: 0.01 })
  const workers: Worker[] = []
  const awake = () => workers.filter(({ life }) => life.alive && life.thawsAt <= world.now())
  const jobs = playJobs<Worker>(world, () => (awake().length > 0 ? chance.pick(awake()) : undefined))

  const leaked = new Map<number, number>()
  const arrived = new Map<number, number>()
  for (const id of PRODUCTS) {
    const leak = chance.pick([0, 0, 1, 3])
    leaked.set(id, leak)
    arrived.set(id, on.stock + leak)
    catalog.shelf.set(id, { inStock: on.stock + leak, reserved: leak })
  }

  /** Whoever made the order, its customer pays, most of the time; some payments are told of twice. */
  const verbs: Rows = {
    ...rows,
    complete(attempt, hold) {
      const outcome = rows.complete(attempt, hold)
      if (outcome && chance.happens(0.7)) {
        for (const _ of chance.happens(0.05) ? [1, 2] : [1]) world.after(chance.between(100, 4000), () => pay(attempt.orderId))
      }
      return outcome
    },
    markPaid(attempt, products) {
      const counts = rows.markPaid(attempt, products)
      if (counts) for (const { productId, qty } of products) paid.set(productId, (paid.get(productId) ?? 0) + qty)
      return counts
    },
  }
  const paid = new Map<number, number>()
  const audit = playAudit(rows.ledger, {
    shouldSay: (productId) => arrived.get(productId)! - (paid.get(productId) ?? 0),
    wasOverwritten: (productId) => catalog.overwritten.has(productId),
  })
  function pay(orderId: number): void {
    const event = { orderId, ...rows.receive(orderId) }
    jobs.add(`payment-${event.eventId}`, (worker, started) => worker.payment(event, started))
  }

  function hire(process: number): void {
    const life: Life = { process, alive: true, thawsAt: 0 }
    const asked = ask(world, life, verbs, on.unheard)
    const ledger = ask(world, life, audit.ledgerOf(life), on.unheard)
    const client = catalog.clientOf(life, (productId) => audit.looks(life, productId))
    workers[process] = startWorker({
      world,
      life,
      rows: asked,
      hasWork: () => rows.unfinished() > 0,
      stock: {
        catalog: on.mend
          ? client
          : { ...client, look: async (id) => (rows.ledger.tables.products.has(id) ? expected(await ledger.read(id)) : client.look(id)) },
        ledger: on.mend
          ? ledger
          : { ...ledger, read: async (id) => ({ ...(await ledger.read(id)), extraHold: 0, extraStock: 0, doubts: [] }) },
        leases: leases.clientOf(life, () => asked.mayHaveCalls(LEASE_MS)),
        clock: { now: world.now, wallTime: world.now, sleep: (ms) => world.sleep(life, ms) },
        callTimeoutMs: CALL_TIMEOUT_MS,
        metrics,
      },
      shipping: shippingOf(life),
      jobs,
      hasMender: on.mender,
    })
  }

  function customer(): void {
    if (world.now() > on.faultsLastMs) return
    world.after(-Math.log(1 - chance.between(0, 1)) * on.betweenOrdersMs, customer)
    const web = awake()
    if (web.length === 0) return
    const ids = new Set([chance.happens(0.4) ? PRODUCTS[0]! : chance.pick(PRODUCTS)])
    if (chance.happens(0.33)) ids.add(chance.pick(PRODUCTS))
    const lines = [...ids].sort((a, b) => a - b).map((productId) => ({ productId, qty: chance.pick([1, 1, 2, 3]) }))
    const task = { ...rows.intend(lines, BUDGET_MS), tries: 0 }
    chance.pick(web).waitFor(task)
    jobs.add(`checkouts-${task.orderId}`, (worker, started) => worker.checkout(task, started))
  }

  function trouble(): void {
    if (world.now() > on.faultsLastMs) return
    world.after(chance.between(1000, 6000), trouble)
    const { life } = chance.pick(workers)
    const strike = chance.happens(on.stops ? (on.kills ? 0.4 : 1) : 0) ? () => stop(life) : () => kill(life)
    // Mostly in the middle of its work, which takes but a small part of its time.
    if (chance.happens(0.8)) life.fate = { answers: 1 + chance.below(40), strike }
    else strike()
    if (chance.happens(on.flushes)) {
      world.count('flush')
      world.tell(() => 'leases and jobs are flushed')
      leases.flush()
      jobs.flush()
    }
  }

  function stop(life: Life): void {
    if (!life.alive) return
    life.thawsAt = world.now() + chance.between(3000, 15_000)
    world.count('stop')
    world.tell(() => `${life.process} stops until ${life.thawsAt / 1000}`)
    jobs.silent(life)
  }

  function kill(life: Life): void {
    if (!life.alive || !on.kills) return
    life.alive = false
    world.count('kill')
    world.tell(() => `${life.process} is killed`)
    jobs.silent(life)
    world.after(1000, () => hire(life.process))
  }

  /** Not while a call of ours is at the product: Catalog would lose one of the two. */
  function restock(): void {
    if (world.now() > on.faultsLastMs) return
    const id = chance.pick(PRODUCTS)
    if (!catalog.isFree(id)) return world.after(1, restock)
    const qty = chance.pick([5, 10])
    catalog.shelf.get(id)!.inStock += qty
    arrived.set(id, arrived.get(id)! + qty)
    world.tell(() => `somebody brings ${qty} of ${id}`)
    world.after(chance.between(2000, 8000), restock)
  }

  let isOver = false
  const unfinished = () => rows.unfinished() + rows.ledger.inDoubt().length
  function look(): void {
    isOver = unfinished() === 0 || world.now() > on.faultsLastMs + QUIET_LASTS_MS
    world.after(5000, look)
  }

  for (let process = 0; process < WORKERS; process += 1) hire(process)
  customer()
  trouble()
  if (on.restocks) world.after(chance.between(2000, 8000), restock)
  world.after(on.faultsLastMs + on.actLateMs + 2 * CALL_TIMEOUT_MS, look)
  await world.run(() => isOver)

  return {
    seed,
    orders: rows.checkouts.size,
    sold: [...paid.values()].reduce((sum, qty) => sum + qty, 0),
    unfinished: unfinished(),
    products: PRODUCTS.map((productId) => {
      const { inStock, reserved } = catalog.shelf.get(productId)!
      return {
        productId,
        wrongHold: reserved - leaked.get(productId)! - rows.heldOf(productId),
        wrongStock: inStock - (arrived.get(productId)! - (paid.get(productId) ?? 0)),
        undecided: rows.ledger.tables.undecided
          .filter((one) => one.productId === productId)
          .reduce((sum, { tooMany, tooFew }) => ({ tooMany: sum.tooMany + tooMany, tooFew: sum.tooFew + tooFew }), {
            tooMany: 0,
            tooFew: 0,
          }),
      }
    }),
    misreadings: audit.misreadings,
    tally: world.tally,
  }
}

/** What Catalog would say if nothing had ever gone wrong. */
const expected = ({ held, drift, predictedStock }: Books) => ({ inStock: predictedStock, reserved: held + drift })
