/**
 * Calls that change stock for orders: one at a time on a product, in all processes together, with everybody who waits for it in the same
 * call (docs/stock.md). A call without an answer is a call whose answer comes later: by reading Catalog's inventory.
 */
import type { Catalog } from '../clients/catalog.ts'
import { NoAnswer } from '../clients/http.ts'
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { Reserved, ReserveRecorded } from '../db/checkout-statements.ts'
import type { Lease } from '../db/intents.ts'
import type { Committed, CommitRecorded } from '../db/payments.ts'
import type { Products } from '../db/products.ts'
import type { ProductLease } from '../db/reconciliation.ts'
import type { ProductQty, StockVerb } from '../model.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { checkProduct } from './check.ts'
import { keepLease } from './lease.ts'
import { createLine, type Group, MOST_IN_A_CALL, type Waiter } from './line.ts'
import { nextCorrection } from './explain.ts'
import { createReconciler } from './reconcile.ts'

export interface StockDeps {
  products: Products
  catalog: Catalog
  clock: Clock
  callIds: CallIds
  callTimeoutMs: number
  metrics: Metrics
  recordReserved(call: Reserved): Promise<ReserveRecorded>
  recordPaid(call: Committed): Promise<CommitRecorded>
  /** Tells the reconciler of products that somebody has to come to. */
  wakeReconciler(productIds: readonly number[]): void
}

/** A hold that Catalog has, and that is not on record yet: until it is, nobody else gets the products. */
export interface OpenHold {
  callId: number
  products: readonly ProductQty[]
  /** Resolves when somebody in this process wants one of the products. */
  wanted: Promise<void>
  /** Puts it on record by itself. @throws what PostgreSQL throws */
  record(): Promise<void>
  /** It has been put on record along with the order. */
  recorded(): void
  /** Nobody knows whether it has: its lease runs out, and Catalog's inventory tells. */
  unrecorded(): void
}

/** `done` without a hold: it is on record. `ended`: there was nothing left to call for. */
export type StockResult = { result: 'done'; hold?: OpenHold } | { result: 'refused'; status: number; detail: string } | { result: 'ended' }

/** A lease on one product, to check it and to put it right; `done` lets those go on that wait for it. */
interface CheckLease extends ProductLease {
  done(): void
}

/** The call did not come to an outcome, and may be made again. `sent` is false where it never reached Catalog. */
export class StockFault extends Error {
  override name = 'StockFault'
  readonly sent: boolean

  constructor(message: string, { sent, cause }: { sent: boolean; cause?: unknown }) {
    super(message, { cause })
    this.sent = sent
  }
}

/** An attempt that wants stock: `id` is the order of a checkout, or the event of a payment. Products in the order of their ids. */
export interface StockRequest {
  id: number
  attempt: number
  products: readonly ProductQty[]
  /** Epoch ms, by PostgreSQL's clock: nobody waits for a product beyond it. */
  deadline: number
}

type Settled = StockResult | { result: 'leased'; lease: CheckLease }
type StockGroup = Group<Settled>
type StockWaiter = Waiter<Settled>

/** Records that are not taken over at once, since somebody has the product's row, are tried again for so long. */
const APPLY_PAUSES_MS = [5, 20, 50, 100, 250, 500, 1000, 2000, 4000]

/** Refusals that say nothing of quantities: a key that is wrong, a product that is not there, too many calls. */
const CONCERNS_ALL = new Set([401, 403, 404, 429])

const aloneNow = (waiter: StockWaiter): StockWaiter => ({ ...waiter, isAlone: true })

export type Stock = ReturnType<typeof createStock>

export function createStock(deps: StockDeps) {
  const { products, catalog, clock, callIds, metrics, wakeReconciler } = deps
  const line = createLine<Settled>({
    products,
    callIds,
    clock,
    run: drive,
    outcomes: { recorded: { result: 'done' }, ended: { result: 'ended' } },
  })
  const openHolds = new Set<{ productIds: readonly number[]; want: () => void }>()

  function wait(verb: 'reserve' | 'commit', request: StockRequest): Promise<StockResult> {
    const since = clock.now()
    for (const hold of openHolds) if (request.products.some(({ productId }) => hold.productIds.includes(productId))) hold.want()
    const told = new Promise<Settled>((settle, fail) => line.enter(verb, { ...request, since, isSecondTry: false, settle, fail }))
    return told.finally(() => metrics.stockWaitSeconds.observe((clock.now() - since) / 1000)) as Promise<StockResult>
  }

  /** An order without items waits for nothing. */
  async function commitNothing({ id }: StockRequest): Promise<StockResult> {
    const { eventIds } = await deps.recordPaid({ callId: 0, productIds: [], members: [{ eventId: id, products: [] }] })
    return { result: eventIds.length > 0 ? 'done' : 'ended' }
  }

  /** A product's lease, when its turn has come. @throws WaitedInVain at the deadline */
  async function leased(productId: number, deadline: number): Promise<CheckLease> {
    const request = { id: productId, attempt: 0, products: [{ productId, qty: 0 }], deadline }
    const told = await new Promise<Settled>((settle, fail) =>
      line.enter('check', { ...request, since: clock.now(), isSecondTry: false, settle, fail }),
    )
    if (told.result !== 'leased') throw new Error('a check gives a lease')
    return told.lease
  }

  const { reconcile, correct } = createReconciler({ ...deps, leased })

  /** A checkout that took the leases of its products with its intent. */
  function alone(request: StockRequest, { callId, expiresAt }: Lease): Promise<StockResult> {
    const productIds = request.products.map(({ productId }) => productId)
    const free = line.engage(productIds)
    return new Promise<Settled>((settle, fail) => {
      const waiter = { ...request, since: clock.now(), isSecondTry: false, settle, fail }
      void drive({ verb: 'reserve', callId, productIds, expiresAt, checks: [], waiters: [waiter] }).then(free)
    }) as Promise<StockResult>
  }

  /** Never rejects: whoever is in the call is told, and those that wait for the products are asked for when it is over. */
  async function drive(group: StockGroup): Promise<void> {
    if (group.verb === 'check') return lend(group)
    try {
      if (group.checks.length > 0) await checkFirst(group)
      if (group.waiters.some(({ hasGivenUp }) => !hasGivenUp)) await send(group)
      else await products.releaseCalls([group])
    } catch (error) {
      // Nothing of it has happened: it was refused, or never sent.
      await products.releaseCalls([group]).catch(() => {})
      const fault = error instanceof NoAnswer ? new StockFault(error.message, { sent: error.sent, cause: error }) : error
      for (const waiter of group.waiters) waiter.fail(fault)
    }
  }

  function settleAll(group: StockGroup, result: StockResult): void {
    for (const waiter of group.waiters) waiter.settle(result)
  }

  async function lend({ callId, productIds, waiters }: StockGroup): Promise<void> {
    if (waiters[0]!.hasGivenUp) return products.releaseCalls([{ callId, productIds }]).catch(() => {})
    return new Promise((done) => waiters[0]!.settle({ result: 'leased', lease: { productId: productIds[0]!, callId, done } }))
  }

  /** Products that are new to us, and those whose lease ran out, are read before anybody is in a call on them. */
  async function checkFirst(group: StockGroup): Promise<void> {
    const checks = [...group.checks]
    const inNeed: number[] = []
    try {
      for (const productId of checks) {
        const lease = { productId, callId: group.callId }
        const { explanation, seen, says } = await checkProduct(deps, lease)
        if (explanation.isFirst && explanation.reserved >= seen.row.held) continue
        inNeed.push(productId)
        const known = await products.readProduct(lease)
        const free = says.inStock - says.reserved
        const correction = known && nextCorrection(known.row, { free, canRelease: catalog.canRelease() })
        if (correction?.reason !== 'hold-missing') continue
        // Units are held for the orders that were promised them before anybody else gets any; then it is asked for anew.
        await correct(lease, correction)
        return wakeReconciler(inNeed)
      }
    } catch (error) {
      wakeReconciler(checks)
      group.waiters = line.takeAll(group.verb as 'reserve' | 'commit', group.productIds)
      throw error
    }
    await line.fill(group, MOST_IN_A_CALL)
    // A call that was not found may still act, what is held for nobody has to be given back, and what is missing to be held.
    if (inNeed.length > 0) wakeReconciler(inNeed)
  }

  async function send(group: StockGroup): Promise<void> {
    const { productIds, waiters } = group
    const verb = group.verb as StockVerb
    const items = productIds.map((productId, i) => ({ productId, qty: waiters.reduce((sum, waiter) => sum + waiter.products[i]!.qty, 0) }))
    metrics.stockCallMembers.observe({ verb }, waiters.length)
    let answer: Awaited<ReturnType<Catalog['change']>>
    try {
      answer = await catalog.change({ verb, items, idempotencyKey: `stock-call:${group.callId}`, mayGo: () => keepLease(deps, group) })
    } catch (error) {
      if (error instanceof NoAnswer && error.sent) return await findOut(group, error)
      throw error
    }
    if (answer.answer === 'refused') return await refused(group, answer)
    if (verb === 'commit') return await paid(group)
    if (waiters.length === 1 && !waiters[0]!.hasGivenUp && !line.isWanted(productIds)) return await holdOpen(group)
    await reserved(group)
  }

  async function reserved({ callId, productIds, waiters }: StockGroup): Promise<void> {
    const members = waiters.map(({ id, products: held }) => ({ orderId: id, products: held }))
    const recorded = await deps
      .recordReserved({ callId, productIds, members })
      .catch((error: unknown) => unrecorded(waiters, productIds, error))
    if (!recorded) return
    const { orderIds, missedProducts } = recorded
    applySoon(missedProducts)
    const granted = new Set(orderIds)
    for (const waiter of waiters) {
      if (granted.has(waiter.id)) waiter.settle({ result: 'done' })
      // Its units go back. One that was cancelled meanwhile finds that out when it goes on.
      else waiter.fail(new StockFault(`checkout ${waiter.id} was ended, or its row is locked`, { sent: true }))
    }
    if (granted.size < waiters.length) wakeReconciler(productIds)
  }

  async function paid({ callId, productIds, waiters }: StockGroup): Promise<void> {
    const members = waiters.map(({ id, products: sold }) => ({ eventId: id, products: sold }))
    const recorded = await deps
      .recordPaid({ callId, productIds, members })
      .catch((error: unknown) => unrecorded(waiters, productIds, error))
    if (!recorded) return
    const { eventIds, missedProducts } = recorded
    applySoon(missedProducts)
    const counted = new Set(eventIds)
    for (const waiter of waiters) waiter.settle({ result: counted.has(waiter.id) ? 'done' : 'ended' })
    if (counted.size < waiters.length) wakeReconciler(productIds)
  }

  /** It may be on record or not. The lease runs out, and Catalog's inventory tells. */
  function unrecorded(waiters: readonly StockWaiter[], productIds: readonly number[], error: unknown): undefined {
    for (const waiter of waiters) waiter.fail(new StockFault('the record of a call got no answer', { sent: true, cause: error }))
    wakeReconciler(productIds)
  }

  /**
   * A lone checkout's hold goes on record along with its order: a statement of its own took 50 of the 275 us that a checkout cost
   * PostgreSQL (docs/decisions/0016). @returns when it is on record
   */
  function holdOpen(group: StockGroup): Promise<void> {
    const [waiter] = group.waiters as [StockWaiter]
    const isWanted = Promise.withResolvers<void>()
    const isOver = Promise.withResolvers<void>()
    const entry = { productIds: group.productIds, want: isWanted.resolve }
    const end = () => {
      openHolds.delete(entry)
      isOver.resolve()
    }
    openHolds.add(entry)
    waiter.settle({
      result: 'done',
      hold: {
        callId: group.callId,
        products: waiter.products,
        wanted: isWanted.promise,
        recorded: end,
        unrecorded() {
          wakeReconciler(group.productIds)
          end()
        },
        async record() {
          const { orderIds, missedProducts } = await deps
            .recordReserved({
              callId: group.callId,
              productIds: group.productIds,
              members: [{ orderId: waiter.id, products: waiter.products }],
            })
            .catch((error: unknown) => {
              wakeReconciler(group.productIds)
              throw error
            })
            .finally(end)
          applySoon(missedProducts)
          if (!orderIds.includes(waiter.id)) wakeReconciler(group.productIds) // the others are of calls recorded together with it
        },
      },
    })
    return isOver.promise
  }

  /** Units that are held for nobody are given back before anybody is told that there are none. */
  async function refused(group: StockGroup, refusal: { status: number; detail: string }): Promise<void> {
    const { waiters } = group
    const told: StockResult = { result: 'refused', ...refusal }
    if (group.verb === 'commit' || refusal.status !== 409) {
      // It may be about their sum, or about one of them.
      if (waiters.length > 1 && !CONCERNS_ALL.has(refusal.status)) line.putBack(group.verb, waiters.map(aloneNow))
      else settleAll(group, told)
      return await products.releaseCalls([group])
    }
    const toCorrect = waiters.some(({ isSecondTry }) => !isSecondTry) ? await heldForNobody(group) : []
    if (toCorrect.length > 0) {
      await products.releaseCalls([group])
      return void afterCorrection(toCorrect, waiters)
    }
    if (waiters.length > 1) return await admitSome(group)
    settleAll(group, told)
    for (const waiter of line.takeLikewise('reserve', waiters[0]!)) waiter.settle(told)
    await products.releaseCalls([group])
  }

  async function afterCorrection(productIds: readonly number[], waiters: readonly StockWaiter[]): Promise<void> {
    for (const productId of productIds) await reconcile(productId).catch(() => {})
    line.putBack(
      'reserve',
      waiters.map((waiter) => ({ ...waiter, isSecondTry: true })),
    )
  }

  /** @returns products of which Catalog holds or has too much, as far as our rows say */
  async function heldForNobody({ callId, productIds }: StockGroup): Promise<number[]> {
    const seen = await Promise.all(productIds.map((productId) => products.readProduct({ productId, callId })))
    return productIds.filter((_, i) => seen[i] !== undefined && (seen[i].row.holdCorrection > 0 || seen[i].row.stockCorrection < 0))
  }

  /** As many as there are units for, in their order; the first that there are none for asks by itself. */
  async function admitSome(group: StockGroup): Promise<void> {
    const free = await Promise.all(
      group.productIds.map(async (productId) => {
        const { inStock, reserved: held } = await catalog.read(productId)
        return inStock - held
      }),
    )
    const fits = group.waiters.filter(({ products: asked }) => {
      const hasRoom = asked.every(({ qty }, i) => qty <= free[i]!)
      if (hasRoom) for (const [i, { qty }] of asked.entries()) free[i]! -= qty
      return hasRoom
    })
    const others = group.waiters.filter((waiter) => !fits.includes(waiter))
    // Refused although there seemed to be room for all: each asks by itself.
    if (others.length === 0) {
      line.putBack('reserve', fits.map(aloneNow))
      return await products.releaseCalls([group])
    }
    line.putBack('reserve', [...fits, ...others.map((waiter, i) => (i === 0 ? aloneNow(waiter) : waiter))])
    group.waiters = []
    if (fits.length > 0) await line.fill(group, fits.length)
    if (group.waiters.length > 0) await send(group)
    else await products.releaseCalls([group])
  }

  /** A call without an answer: as soon as it cannot act any more in the ordinary way, Catalog's inventory says whether it happened. */
  async function findOut(group: StockGroup, error: NoAnswer): Promise<void> {
    const { callId, productIds, waiters } = group
    const fault = new StockFault(error.message, { sent: true, cause: error })
    const hasHappened = await becomesCheck(group)
      .then((isOurs) => isOurs && afterItsTime(group, callId, error.settlesAt))
      .catch(() => false)
    for (const waiter of waiters) {
      if (hasHappened) waiter.settle({ result: 'done' })
      else waiter.fail(fault)
    }
    wakeReconciler(productIds)
  }

  /** The call is written down as an unanswered one; its lease goes on. @returns false where it is lost, or somebody has a row: it runs out */
  async function becomesCheck(group: StockGroup): Promise<boolean> {
    const next = { callId: await callIds(), verb: 'check' as const, qty: 0 }
    const expiresAt = await products.continueCall(group, { next, isUnanswered: true })
    if (expiresAt === undefined) return false
    Object.assign(group, { callId: next.callId, expiresAt })
    return true
  }

  async function afterItsTime(group: StockGroup, callId: number, settlesAt: number): Promise<boolean> {
    try {
      while (clock.now() < settlesAt) {
        await clock.sleep(Math.min(1000, settlesAt - clock.now()))
        if (!(await keepLease(deps, group))) return false
      }
      let hasHappened = false
      for (const productId of group.productIds) {
        const { explanation } = await checkProduct(deps, { productId, callId: group.callId })
        if (!explanation.isFirst && explanation.happened.some((call) => call.callId === callId)) hasHappened = true
      }
      return hasHappened
    } finally {
      await products.releaseCalls([group]).catch(() => {})
    }
  }

  /** Somebody has the row: what was recorded is taken over into it as soon as it is free, and lets go of it then. */
  function applySoon(productIds: readonly number[]): void {
    for (const productId of productIds) void applyUntilDone(productId).catch(() => wakeReconciler([productId]))
  }

  async function applyUntilDone(productId: number): Promise<void> {
    for (const pauseMs of APPLY_PAUSES_MS) {
      if (await products.applyChanges(productId)) return
      await clock.sleep(pauseMs)
    }
    wakeReconciler([productId])
  }

  return {
    /** @param lease what the checkout's intent took; without one it waits for its products */
    reserve: (request: StockRequest, lease?: Lease) => (lease ? alone(request, lease) : wait('reserve', request)),
    commit: (request: StockRequest) => (request.products.length === 0 ? commitNothing(request) : wait('commit', request)),
    /** Leases that no call will be made under: nobody has to wait for them. */
    forgo: ({ callId }: Lease, unwanted: readonly ProductQty[]) =>
      products.releaseCalls([{ callId, productIds: unwanted.map(({ productId }) => productId) }]),
    /** How many checkouts, or payments, wait for just these products. */
    waiting: (verb: 'reserve' | 'commit', wanted: readonly ProductQty[]) =>
      line.waiting(
        verb,
        wanted.map(({ productId }) => productId),
      ),
    /** Brings a product's inventory at Catalog to our rows. @returns whether somebody has to come again, and when */
    reconcile,
  }
}
