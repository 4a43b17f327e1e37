/**
 * One history: customers alone and in crowds, payments, faults, processes that are killed and stopped, jobs that are lost, rows that
 * somebody keeps locked, others who change the stock; then quiet, until nothing is left to do. In the end Catalog's inventory has to be
 * what our rows say.
 */
import { PAYMENT_QUEUE } from '../../../src/queues/payment.ts'
import type { ProductQty } from '../../../src/model.ts'
import { CALL_TIMEOUT_MS, playCatalog } from './catalog.ts'
import { playJobs } from './jobs.ts'
import { orderStatements } from './order-statements.ts'
import { playShipping, type Service, startService } from './service.ts'
import { stockStatements } from './stock-statements.ts'
import { createTables, heldOf, type Locked, type Protections, unended } from './tables.ts'
import { createWorld, type Life } from './world.ts'

export interface Knobs extends Protections {
  /** For so long there are customers and faults, in ms. */
  faultsLastMs: number
  /** Single customers, on average, in ms. */
  betweenOrdersMs: number
  /** 20 to 60 customers of one product in one moment, every 3 to 8 s. */
  crowds: boolean
  /** The share of customers who want product 1. */
  hot: number
  /** The share of customers who want a product that nobody has bought before. */
  newProducts: number
  /** The share of calls to Catalog that meet a fault. */
  faultRate: number
  /** A late call acts so long after it was sent at the latest, in ms. */
  actLateMs: number
  /** The share of statements and questions that PostgreSQL does not answer, done or not. */
  unheard: number
  /** Somebody keeps a row locked for a while, now and then; and a share of rows is locked by another statement. */
  locks: boolean
  kills: boolean
  stops: boolean
  /** The share of kills and stops that come with FLUSHALL. */
  flushes: number
  /** Somebody else brings units, takes some away or corrects the stock, every 2 to 8 s: of those that nobody has, or of all. */
  others: 'nobody' | 'bring and take' | 'bring and take what is held'
  /** Whether Catalog has a release. */
  release: boolean
  /** Whether a reserve takes quantities below 0. */
  negative: boolean
  /** Whether a process may be stopped just before it sends a call, so that the call acts late. */
  sendsLate: boolean
  /** Calls of a process that are under way at a time. */
  places: number
  /** Units of each product at the beginning. */
  stock: number
  // More protections, to be switched off one by one.
  /** Off: what Catalog says is not read. */
  reconciliation: boolean
  reconciler: boolean
  /** Off: a call is sent without checking how long its lease lasts. */
  leaseCheck: boolean
}

export const knobs: Knobs = {
  faultsLastMs: 60_000,
  betweenOrdersMs: 250,
  crowds: false,
  hot: 0.4,
  newProducts: 0.03,
  faultRate: 0.05,
  actLateMs: CALL_TIMEOUT_MS,
  unheard: 0,
  locks: true,
  kills: true,
  stops: true,
  flushes: 0.1,
  others: 'bring and take',
  release: false,
  negative: true,
  places: 16,
  sendsLate: false,
  stock: 60,
  lease: true,
  memory: true,
  fencing: true,
  reconciliation: true,
  reconciler: true,
  leaseCheck: true,
}

const PRODUCTS = [1, 2, 3, 4, 5, 6]
const NEW_PRODUCTS = Array.from({ length: 12 }, (_, i) => 101 + i)
const WORKERS = 2
/** Beyond the ten minutes for which a call may act, and the minute until the reconciler's next check. */
const QUIET_LASTS_MS = 20 * 60_000

export interface ProductEnd {
  productId: number
  /** Units held at Catalog and by no row of ours; below 0: missing there. */
  wrongHold: number
  /** Units promised that are not there: Catalog has none to hold for them, and the row says how many are missing. */
  oversold: number
  /** Units that the product's row counts too many as held. */
  wrongCount: number
  /** Units that Catalog has too many; below 0: too few. */
  wrongStock: number
  /** What the ambiguities say of it: at the most so many too many, and too few. */
  listed: { tooMany: number; tooFew: number }
  /** A call that acted late met another one at Catalog. */
  wasOverwritten: boolean
}

export interface End {
  seed: number
  orders: number
  created: number
  /** Units paid for. */
  sold: number
  /** Checkouts and payments without an end, products that have to be reconciled, calls under way. */
  unfinished: number
  products: ProductEnd[]
  tally: Record<string, number>
}

export async function history(seed: number, changed: Partial<Knobs> = {}, hear?: (line: string) => void): Promise<End> {
  const on = { ...knobs, ...changed }
  const world = createWorld(seed, hear)
  const { chance } = world
  const lasts = () => world.now() <= on.faultsLastMs
  const lockedUntil = new Map<string, number>()
  const isLocked: Locked = (table, id) =>
    on.locks && ((lockedUntil.get(`${table} ${id}`) ?? 0) > world.now() || (lasts() && chance.happens(0.002)))
  const tables = createTables(world.now, { isLocked, on })
  const played = orderStatements(tables)
  const catalog = playCatalog(world, {
    ...on,
    faultsEndMs: on.faultsLastMs,
    hasLease: (callId, productId) => tables.products.get(productId)?.call?.id === callId,
  })
  const shippingOf = playShipping(world, { refuses: 0.2, silent: 0.01 })
  const services: Service[] = []
  const awake = () => services.filter(({ life }) => life.alive && life.thawsAt <= world.now())
  const jobs = playJobs(world, () => (awake().length > 0 ? chance.pick(awake()) : undefined))

  const leaked = new Map<number, number>()
  const arrived = new Map<number, number>()
  const paid = new Map<number, number>()
  for (const id of [...PRODUCTS, ...NEW_PRODUCTS]) {
    const leak = chance.pick([0, 0, 1, 3])
    leaked.set(id, leak)
    arrived.set(id, on.stock + leak)
    catalog.inventory.set(id, { inStock: on.stock + leak, reserved: leak })
  }

  /** The customer pays most orders, also those of the predecessor. Some payments are announced twice. */
  const orders: typeof played = {
    ...played,
    complete(completion) {
      const outcome = played.complete(completion)
      if (outcome && typeof outcome === 'object' && chance.happens(0.7)) {
        const at = chance.between(100, 4000)
        for (const _ of chance.happens(0.05) ? [1, 2] : [1]) world.after(at + chance.pick([0, 0, 500]), () => pay(completion.orderId))
      }
      return outcome
    },
    recordPaid: (calls, isPatient) => counted(() => played.recordPaid(calls, isPatient)),
  }
  const statements = stockStatements(tables, orders)

  function counted<T>(record: () => T): T {
    const before = new Set([...tables.orders].filter(([, { status }]) => status === 'CREATED').map(([id]) => id))
    const recorded = record()
    for (const id of before) {
      const { status, items } = tables.orders.get(id)!
      if (status === 'PAID') for (const { productId, qty } of items) paid.set(productId, (paid.get(productId) ?? 0) + qty)
    }
    return recorded
  }

  /** For whoever reads a history: the statement after which a product's row counts other units than the orders' rows. */
  const wrongCounts = new Map<number, number>()
  function watched<Statements extends object>(verbs: Statements): Statements {
    if (!hear) return verbs
    const told = Object.entries(verbs).map(([name, verb]) => [
      name,
      (...input: unknown[]) => {
        const answer: unknown = verb(...input)
        for (const [id, { held }] of tables.products) {
          const later = tables.changes.reduce((sum, change) => sum + (change.productId === id ? change.held : 0), 0)
          const wrong = held + later - heldOf(tables, id)
          if (wrong !== (wrongCounts.get(id) ?? 0)) world.tell(() => `!!! after ${name} the row of ${id} counts ${wrong} too many`)
          wrongCounts.set(id, wrong)
        }
        return answer
      },
    ])
    return Object.fromEntries(told) as Statements
  }

  /** Payments that come within 5 ms share a job. */
  let together: { eventId: number; orderId: number; attempt: number }[] = []
  function pay(orderId: number): void {
    together.push({ orderId, ...played.receive(orderId) })
    if (together.length > 1) return
    world.after(on.crowds ? 200 : 5, () => {
      const payments = together
      together = []
      const id = payments.length === 1 ? `payment-${payments[0]!.eventId}` : `payments-${payments[0]!.eventId}-${payments.at(-1)!.eventId}`
      jobs.add(PAYMENT_QUEUE, id, { payments })
    })
  }

  let lastBlock = 0
  function callIdsOf() {
    lastBlock += 1
    let next = lastBlock * 10_000
    return async () => (next += 1)
  }

  function hire(process: number): void {
    const life: Life = { process, alive: true, thawsAt: 0 }
    const client = catalog.clientOf(life)
    services[process] = startService({
      world,
      life,
      orders: watched(orders),
      stock: watched(statements),
      unheard: () => (lasts() ? on.unheard : 0),
      catalog: on.reconciliation ? client : { ...client, read: async (id) => expected(id) ?? client.read(id) },
      shipping: shippingOf(life),
      callIds: callIdsOf(),
      jobs,
      hasWork: () => unended(tables) > 0,
      hasReconciler: on.reconciler,
      checksLease: on.leaseCheck,
    })
  }

  /** What Catalog would say if nothing had ever gone wrong. */
  function expected(id: number): { inStock: number; reserved: number } | undefined {
    const row = tables.products.get(id)
    if (!row || row.expectedStock === null) return undefined
    const { expectedStock, stockCorrection, held, foreignHolds, holdCorrection } = row
    return { inStock: expectedStock + stockCorrection, reserved: held + foreignHolds + holdCorrection }
  }

  function buy(lines: readonly ProductQty[]): void {
    const web = awake()
    if (web.length > 0) void chance.pick(web).checkout(lines)
  }

  function customer(): void {
    if (!lasts()) return
    world.after(-Math.log(1 - chance.between(0, 1)) * on.betweenOrdersMs, customer)
    const ids = new Set([chance.happens(on.hot) ? PRODUCTS[0]! : chance.pick(PRODUCTS)])
    if (chance.happens(0.33)) ids.add(chance.pick(PRODUCTS))
    if (chance.happens(0.1)) ids.add(chance.pick(PRODUCTS))
    if (chance.happens(on.newProducts)) ids.add(chance.pick(NEW_PRODUCTS))
    buy([...ids].sort((a, b) => a - b).map((productId) => ({ productId, qty: chance.pick([1, 1, 2, 3]) })))
  }

  function crowd(): void {
    if (!lasts()) return
    world.after(chance.between(3000, 8000), crowd)
    const id = chance.happens(0.2) ? chance.pick(NEW_PRODUCTS) : chance.pick(PRODUCTS)
    const also = chance.happens(0.25) ? chance.pick(PRODUCTS) : id
    world.count('crowd')
    for (let customers = 20 + chance.below(41); customers > 0; customers -= 1) {
      const ids = chance.happens(0.2) ? [...new Set([id, also])].sort((a, b) => a - b) : [id]
      world.after(chance.between(0, 20), () => buy(ids.map((productId) => ({ productId, qty: chance.pick([1, 1, 1, 2]) }))))
    }
  }

  function trouble(): void {
    if (!lasts()) return
    world.after(chance.between(1000, 6000), trouble)
    const { life } = chance.pick(services)
    const strike = chance.happens(on.stops ? (on.kills ? 0.4 : 1) : 0) ? () => stop(life) : () => kill(life)
    // Mostly in the middle of its work, which takes but a small part of its time.
    if (chance.happens(0.8)) life.fate = { answers: 1 + chance.below(40), strike }
    else strike()
    if (chance.happens(on.flushes)) {
      world.count('flush')
      world.tell(() => 'jobs are flushed')
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

  /** A person's transaction that stays open. */
  function lock(): void {
    if (!lasts()) return
    world.after(chance.between(2000, 10_000), lock)
    const open = [...tables.checkouts].filter(([, { state }]) => state === 'OPEN').map(([id]) => `checkouts ${id}`)
    const waiting = [...tables.events].filter(([, { state }]) => state === 'WAITING').map(([id]) => `events ${id}`)
    const row = chance.pick([`products ${chance.pick(PRODUCTS)}`, ...open.slice(-1), ...waiting.slice(-1)])
    lockedUntil.set(row, world.now() + chance.pick([50, 500, 5000]))
    world.tell(() => `somebody locks ${row} until ${lockedUntil.get(row)! / 1000}`)
  }

  /** Not while a call of ours is between reading and writing there: Catalog would lose one of the two. */
  function others(): void {
    if (!lasts()) return
    const id = chance.pick(PRODUCTS)
    if (!catalog.isFree(id)) return world.after(1, others)
    const row = catalog.inventory.get(id)!
    // The last two correct what they counted: to set the stock is to bring or take the difference.
    const wish = chance.pick([() => chance.pick([1, 5, 10]), () => -chance.pick([1, 1, 2, 3]), () => chance.pick([-3, -1, 1, 20])])()
    const most = on.others === 'bring and take' ? Math.max(0, row.inStock - row.reserved) : row.inStock
    const qty = Math.max(-most, wish)
    row.inStock += qty
    arrived.set(id, arrived.get(id)! + qty)
    world.tell(() => `somebody ${qty > 0 ? 'brings' : 'takes'} ${Math.abs(qty)} of ${id}: ${JSON.stringify(row)}`)
    world.after(chance.between(2000, 8000), others)
  }

  let isOver = false
  /** Nothing searches for leases that ran out: something else has to lead to each call that was sent. */
  const underWay = () => [...tables.products.values()].filter(({ call }) => call && catalog.sent.has(call.id)).length
  const unfinished = () => unended(tables) + statements.productsToReconcile().length + underWay()
  function checkAgain(): void {
    isOver = unfinished() === 0 || world.now() > on.faultsLastMs + QUIET_LASTS_MS
    world.after(5000, checkAgain)
  }

  for (let process = 0; process < WORKERS; process += 1) hire(process)
  customer()
  if (on.crowds) world.after(chance.between(500, 2000), crowd)
  trouble()
  if (on.locks) lock()
  if (on.others !== 'nobody') world.after(chance.between(2000, 8000), others)
  world.after(on.faultsLastMs + on.actLateMs + 2 * CALL_TIMEOUT_MS, checkAgain)
  await world.run(() => isOver)

  const ends = [...PRODUCTS, ...NEW_PRODUCTS].map(endOf)
  return {
    seed,
    orders: tables.checkouts.size,
    created: tables.orders.size,
    sold: [...paid.values()].reduce((sum, qty) => sum + qty, 0),
    // An oversold product is checked until a person has put it right.
    unfinished: unfinished() - ends.filter(({ oversold }) => oversold > 0).length,
    products: ends,
    tally: world.tally,
  }

  function endOf(productId: number): ProductEnd {
    const { inStock, reserved } = catalog.inventory.get(productId)!
    const held = heldOf(tables, productId)
    const row = tables.products.get(productId)
    const wrongHold = reserved - leaked.get(productId)! - held
    const known = row ? row.foreignHolds + row.holdCorrection - leaked.get(productId)! : 0
    const isOversold = wrongHold < 0 && known === wrongHold && inStock <= reserved
    const ambiguities = tables.ambiguities.filter((one) => one.productId === productId)
    return {
      productId,
      wrongHold: isOversold ? 0 : wrongHold,
      oversold: isOversold ? -wrongHold : 0,
      wrongCount: (row?.held ?? 0) - held,
      wrongStock: inStock - (arrived.get(productId)! - (paid.get(productId) ?? 0)),
      listed: {
        tooMany: ambiguities.reduce((sum, { tooMany }) => sum + tooMany, 0),
        tooFew: ambiguities.reduce((sum, { tooFew }) => sum + tooFew, 0),
      },
      wasOverwritten: catalog.overwritten.has(productId),
    }
  }
}
