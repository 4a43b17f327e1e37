/**
 * Calls that change stock for orders (docs/stock.md). All processes together make one call at a time on a product, with all who wait for
 * it. What became of a call without an answer is found later, by reading Catalog's inventory.
 */
import type { Lease } from '../db/intents.ts'
import type { ProductQty } from '../model.ts'
import type { CheckLease, GroupDeps, Settled, StockDeps, StockGroup, StockResult } from './group.ts'
import { runCall } from './group-call.ts'
import { CallScheduler } from './call-scheduler.ts'
import { OpenHolds } from './open-holds.ts'
import { createReconciler } from './reconcile.ts'
import type { CallVerb } from './wait-queues.ts'

/** An attempt that wants stock: `id` is the order of a checkout, or the event of a payment. Products in the order of their ids. */
export interface StockRequest {
  id: number
  attempt: number
  products: readonly ProductQty[]
  /** Epoch ms, by PostgreSQL's clock: when to stop waiting for the products. */
  deadline: number
}

const idsOf = (products: readonly ProductQty[]) => products.map(({ productId }) => productId)

export type Stock = ReturnType<typeof createStock>

export function createStock(deps: StockDeps) {
  const { products, clock, callIds, metrics } = deps
  const run = (group: StockGroup): Promise<void> => runCall(all, group)
  const scheduler = new CallScheduler<Settled>({
    products,
    callIds,
    clock,
    run,
    outcomes: { recorded: { result: 'done' }, ended: { result: 'ended' } },
  })
  const openHolds = new OpenHolds()
  const reconciler = createReconciler({ ...deps, leased })
  const all: GroupDeps = { ...deps, scheduler, openHolds, reconciler }

  const enter = (verb: CallVerb, request: StockRequest) =>
    new Promise<Settled>((settle, fail) => scheduler.enter(verb, { ...request, since: clock.now(), isSecondTry: false, settle, fail }))

  function wait(verb: 'reserve' | 'commit', request: StockRequest): Promise<StockResult> {
    const since = clock.now()
    openHolds.want(idsOf(request.products))
    const settled = enter(verb, request)
    return settled.finally(() => metrics.stockWaitSeconds.observe((clock.now() - since) / 1000)) as Promise<StockResult>
  }

  /** An order without items needs no call. */
  async function commitNothing({ id }: StockRequest): Promise<StockResult> {
    const { eventIds } = await deps.recordPaid({ callId: 0, productIds: [], members: [{ eventId: id, products: [] }] })
    return { result: eventIds.length > 0 ? 'done' : 'ended' }
  }

  /** A product's lease, when its turn has come. @throws StockWaitTimeout at the deadline */
  async function leased(productId: number, deadline: number): Promise<CheckLease> {
    const settled = await enter('check', { id: productId, attempt: 0, products: [{ productId, qty: 0 }], deadline })
    if (settled.result !== 'leased') throw new Error('a check must end with a lease')
    return settled.lease
  }

  /** Makes the call of a checkout that acquired the leases of its products with its intent. */
  function alone(request: StockRequest, { callId, expiresAt }: Lease): Promise<StockResult> {
    const productIds = idsOf(request.products)
    const free = scheduler.engage(productIds)
    return new Promise<Settled>((settle, fail) => {
      const waiter = { ...request, since: clock.now(), isSecondTry: false, settle, fail }
      void run({ verb: 'reserve', callId, productIds, expiresAt, checks: [], waiters: [waiter] }).then(free)
    }) as Promise<StockResult>
  }

  return {
    /** @param lease acquired with the checkout's intent; without it the checkout waits for its products */
    reserve: (request: StockRequest, lease?: Lease) => (lease ? alone(request, lease) : wait('reserve', request)),
    commit: (request: StockRequest) => (request.products.length === 0 ? commitNothing(request) : wait('commit', request)),
    /** Releases leases under which no call will be made. */
    releaseLeases: ({ callId }: Lease, unwanted: readonly ProductQty[]) => products.releaseCalls([{ callId, productIds: idsOf(unwanted) }]),
    /** How many checkouts, or payments, wait for exactly these products. */
    waiting: (verb: 'reserve' | 'commit', wanted: readonly ProductQty[]) => scheduler.waiting(verb, idsOf(wanted)),
    /** Products for which somebody has waited for at least `ms`. */
    longWaits: (ms: number) => scheduler.longWaits(ms),
    /** Brings a product's inventory at Catalog in line with our rows. @returns whether it has to be called again */
    reconcile: reconciler.reconcile,
  }
}
