/**
 * The simulated shop that a history's commands act on: two processes of the service, customers, and everything around them.
 *
 * {@link Totals} is the model: the units that came to Catalog and that were paid for. In the end Catalog's inventory has to be what the
 * model and our rows say.
 */
import type { ProductQty } from '../../../src/model.ts'
import { PAYMENT_QUEUE } from '../../../src/queues/payment.ts'
import { CALL_TIMEOUT_MS, playCatalog } from './catalog.ts'
import { type CallFault, planned, type Unanswered } from './faults.ts'
import { playJobs } from './jobs.ts'
import { type Knobs, NEW_PRODUCTS, PRODUCTS } from './knobs.ts'
import { orderStatements } from './order-statements.ts'
import { type Service, startService } from './service.ts'
import { playShipping, type Purchase } from './shipping.ts'
import { stockStatements } from './stock-statements.ts'
import { createTables, heldOf, type Table, unended } from './tables.ts'
import { createWorld, type Life } from './world.ts'

const WORKERS = 2
/** Beyond the ten minutes for which a call may act, and the minute until the reconciler's next check. */
const QUIET_LASTS_MS = 20 * 60_000
/** Payments that come so close together share a job. With crowds they do so for longer. */
const PAYMENTS_SHARE_MS = { usually: 5, crowds: 200 }

/** The names of the statements that a process asks of PostgreSQL. */
export const STATEMENTS = (() => {
  const tables = createTables(() => 0)
  const orders = orderStatements(tables)
  return Object.keys({ ...orders, ...stockStatements(tables, orders) })
})()

/** Units by product. */
export interface Totals {
  /** Held at Catalog from the beginning, by nobody. */
  leaked: Map<number, number>
  /** At Catalog from the beginning, and brought by others. */
  arrived: Map<number, number>
  paid: Map<number, number>
}

export class Simulation {
  readonly totals: Totals = { leaked: new Map(), arrived: new Map(), paid: new Map() }
  readonly callFaults = planned<CallFault, number>()
  readonly unanswered = planned<Unanswered, string>()
  readonly busyRows = planned<true, Table>()
  readonly world
  readonly tables
  readonly catalog
  readonly jobs
  readonly orders
  readonly #on: Knobs
  readonly #services: Service[] = []
  readonly #lockedUntil = new Map<string, number>()
  readonly #purchases = new Map<readonly ProductQty[], Purchase>()
  readonly #stock
  readonly #shippingOf
  /** Payments that wait for others to share a job with. */
  #together: { eventId: number; orderId: number; attempt: number }[] = []
  #lastBlock = 0

  /** @param hear is told the history, line by line */
  constructor(seed: number, on: Knobs, hear?: (line: string) => void) {
    this.#on = on
    this.world = createWorld(seed, hear)
    this.tables = createTables(this.world.now, { isLocked: (table, id) => this.#isLocked(table, id), on })
    this.catalog = playCatalog(this.world, {
      ...on,
      faults: this.callFaults,
      hasLease: (callId, productId) => this.tables.products.get(productId)?.call?.id === callId,
    })
    this.jobs = playJobs(this.world, () => this.#awake())
    this.#shippingOf = playShipping(this.world, (orderId) => this.#purchaseOf(orderId))
    const orders = this.#withPayments(orderStatements(this.tables))
    const stock = stockStatements(this.tables, orders)
    this.orders = hear ? this.#watched(orders) : orders
    this.#stock = hear ? this.#watched(stock) : stock
    for (const id of [...PRODUCTS, ...NEW_PRODUCTS]) this.#open(id)
    for (let process = 0; process < WORKERS; process += 1) this.#start(process)
  }

  /** A customer comes to a process that is awake, if there is one. */
  buy(purchase: Purchase): void {
    this.#purchases.set(purchase.lines, purchase)
    void this.#awake()?.checkout(purchase)
  }

  /** @param after the process is struck in the middle of its work, before this question is answered; otherwise at once */
  strike(process: number, after: { on: string; skips: number } | undefined, stopsMs: number | undefined): void {
    const { life } = this.#services[process]!
    const strike = () => (stopsMs === undefined ? this.#kill(life) : this.#stop(life, stopsMs))
    if (after) life.fate = { ...after, strike }
    else strike()
  }

  flush(): void {
    this.world.count('flush')
    this.world.tell(() => 'jobs are flushed')
    this.jobs.flush()
  }

  /** A person's transaction that stays open. @param last locks the last open checkout or waiting event, if there is one */
  lock(productId: number, last: 'checkouts' | 'events' | undefined, ms: number): void {
    const open = { checkouts: 'OPEN', events: 'WAITING' }
    const id = last && [...this.tables[last]].findLast(([, { state }]) => state === open[last])?.[0]
    const row = id === undefined ? `products ${productId}` : `${last} ${id}`
    this.#lockedUntil.set(row, this.world.now() + ms)
    this.world.tell(() => `somebody locks ${row} for ${ms} ms`)
  }

  /** Not while a call of ours is between reading and writing there: Catalog would lose one of the two. */
  bring(productId: number, wish: number): void {
    if (!this.catalog.isFree(productId)) return this.world.after(1, () => this.bring(productId, wish))
    const row = this.catalog.inventory.get(productId)!
    const qty = Math.max(-Math.max(0, row.inStock - row.reserved), wish)
    row.inStock += qty
    add(this.totals.arrived, productId, qty)
    this.world.tell(() => `somebody ${qty > 0 ? 'brings' : 'takes'} ${Math.abs(qty)} of ${productId}: ${JSON.stringify(row)}`)
  }

  /** What was planned happens; then there are no more customers and faults, until nothing is left to do. */
  async settle(): Promise<void> {
    await this.world.pass(this.#on.minutes * 60_000)
    for (const faults of [this.callFaults, this.unanswered, this.busyRows]) faults.clear()
    await this.world.pass(this.#on.actLateMs + 2 * CALL_TIMEOUT_MS)
    const until = this.world.now() + QUIET_LASTS_MS
    while (this.unfinished() > 0 && this.world.now() < until) await this.world.pass(5000)
  }

  /**
   * Checkouts and payments without an end, products that have to be reconciled, calls under way. Nothing searches for leases that ran
   * out: something else has to lead to each call that was sent.
   */
  unfinished(): number {
    const underWay = [...this.tables.products.values()].filter(({ call }) => call && this.catalog.sent.has(call.id)).length
    return unended(this.tables) + this.#stock.productsToReconcile().length + underWay
  }

  #open(productId: number): void {
    const leak = this.world.chance.pick([0, 0, 1, 3])
    add(this.totals.leaked, productId, leak)
    add(this.totals.arrived, productId, this.#on.stock + leak)
    this.catalog.inventory.set(productId, { inStock: this.#on.stock + leak, reserved: leak })
  }

  #awake(): Service | undefined {
    const awake = this.#services.filter(({ life }) => life.alive && life.thawsAt <= this.world.now())
    return awake.length > 0 ? this.world.chance.pick(awake) : undefined
  }

  #isLocked(table: Table, id: number): boolean {
    return (this.#lockedUntil.get(`${table} ${id}`) ?? 0) > this.world.now() || this.busyRows.next([table]) !== undefined
  }

  #start(process: number): void {
    const { world, catalog, jobs, tables } = this
    const { reconciliation, reconciler, leaseCheck } = this.#on
    const life: Life = { process, alive: true, thawsAt: 0 }
    const client = catalog.clientOf(life)
    this.#services[process] = startService({
      world,
      life,
      jobs,
      orders: this.orders,
      stock: this.#stock,
      unanswered: this.unanswered,
      catalog: reconciliation ? client : { ...client, read: async (id) => this.#expected(id) ?? client.read(id) },
      shipping: this.#shippingOf(life),
      callIds: this.#callIds(),
      hasWork: () => unended(tables) > 0,
      hasReconciler: reconciler,
      checksLease: leaseCheck,
    })
  }

  #callIds(): () => Promise<number> {
    this.#lastBlock += 1
    let next = this.#lastBlock * 10_000
    return async () => (next += 1)
  }

  #stop(life: Life, ms: number): void {
    if (!life.alive) return
    life.thawsAt = this.world.now() + ms
    this.world.count('stop')
    this.world.tell(() => `${life.process} stops until ${life.thawsAt / 1000}`)
    this.jobs.silent(life)
  }

  #kill(life: Life): void {
    if (!life.alive) return
    life.alive = false
    this.world.count('kill')
    this.world.tell(() => `${life.process} is killed`)
    this.jobs.silent(life)
    this.world.after(1000, () => this.#start(life.process))
  }

  /** What Catalog would say if nothing had ever gone wrong. */
  #expected(productId: number): { inStock: number; reserved: number } | undefined {
    const row = this.tables.products.get(productId)
    if (!row || row.expectedStock === null) return undefined
    const { expectedStock, stockCorrection, held, foreignHolds, holdCorrection } = row
    return { inStock: expectedStock + stockCorrection, reserved: held + foreignHolds + holdCorrection }
  }

  #purchaseOf(orderId: number): Purchase {
    return this.#purchases.get(this.tables.checkouts.get(orderId)!.lines)!
  }

  /** Customers pay for orders, also for those that a killed process made; what is paid for is counted in the model. */
  #withPayments(orders: ReturnType<typeof orderStatements>): typeof orders {
    return {
      ...orders,
      complete: (completion) => {
        const outcome = orders.complete(completion)
        if (outcome && typeof outcome === 'object')
          for (const ms of this.#purchaseOf(completion.orderId).paysAfterMs) this.world.after(ms, () => this.#pay(completion.orderId))
        return outcome
      },
      recordPaid: (calls, isPatient) => {
        const before = [...this.tables.orders.values()].filter(({ status }) => status === 'CREATED')
        const recorded = orders.recordPaid(calls, isPatient)
        for (const { status, items } of before)
          if (status === 'PAID') for (const { productId, qty } of items) add(this.totals.paid, productId, qty)
        return recorded
      },
    }
  }

  #pay(orderId: number): void {
    this.#together.push({ orderId, ...this.orders.receive(orderId) })
    if (this.#together.length > 1) return
    this.world.after(this.#on.perMinute.crowd > 0 ? PAYMENTS_SHARE_MS.crowds : PAYMENTS_SHARE_MS.usually, () => {
      const payments = this.#together
      this.#together = []
      const id = payments.length === 1 ? `payment-${payments[0]!.eventId}` : `payments-${payments[0]!.eventId}-${payments.at(-1)!.eventId}`
      this.jobs.add(PAYMENT_QUEUE, id, { payments })
    })
  }

  /** For whoever reads a history: the statement after which a product's row counts other units than the orders' rows. */
  #watched<Statements extends object>(statements: Statements): Statements {
    const { tables, world } = this
    const wrongCounts = new Map<number, number>()
    const told = Object.entries(statements).map(([name, statement]) => [
      name,
      (...input: unknown[]) => {
        const answer: unknown = statement(...input)
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
}

function add(units: Map<number, number>, productId: number, qty: number): void {
  units.set(productId, (units.get(productId) ?? 0) + qty)
}
