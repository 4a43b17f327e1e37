/** Records that Catalog carried out a call, and settles the members of the call. */
import { type GroupDeps, StockFault, type StockGroup, type StockWaiter } from './group.ts'

/** Pauses between attempts to apply a change to a product's row that another session has locked. */
const APPLY_PAUSES_MS = [5, 20, 50, 100, 250, 500, 1000, 2000, 4000]

export async function settleReserve(deps: GroupDeps, { callId, productIds, waiters }: StockGroup): Promise<void> {
  const members = waiters.map(({ id, products }) => ({ orderId: id, products }))
  const recorded = await deps
    .recordHolds({ callId, productIds, members })
    .catch((error: unknown) => unrecorded(deps, { waiters, productIds, error }))
  if (!recorded) return
  applySoon(deps, recorded.missedProducts)
  const granted = new Set(recorded.orderIds)
  for (const waiter of waiters) {
    if (granted.has(waiter.id)) waiter.settle({ result: 'done' })
    // The waiter's units are given back. A checkout that was cancelled in the meantime sees that at its next step.
    else
      waiter.fail(new StockFault(`checkout ${waiter.id} has ended, or its row is locked`, { sent: true, fault: { cause: 'row-locked' } }))
  }
  if (waiters.some(({ id }) => !granted.has(id))) deps.wakeReconciler(productIds)
}

export async function settleCommit(deps: GroupDeps, { callId, productIds, waiters }: StockGroup): Promise<void> {
  const members = waiters.map(({ id, products }) => ({ eventId: id, products }))
  const recorded = await deps
    .recordPaid({ callId, productIds, members })
    .catch((error: unknown) => unrecorded(deps, { waiters, productIds, error }))
  if (!recorded) return
  applySoon(deps, recorded.missedProducts)
  const counted = new Set(recorded.eventIds)
  for (const waiter of waiters) waiter.settle({ result: counted.has(waiter.id) ? 'done' : 'ended' })
  if (waiters.some(({ id }) => !counted.has(id))) deps.wakeReconciler(productIds)
}

/** The call may be on record or not. After its lease expires, a check of Catalog shows which. */
function unrecorded(
  { wakeReconciler }: GroupDeps,
  { waiters, productIds, error }: { waiters: readonly StockWaiter[]; productIds: readonly number[]; error: unknown },
): undefined {
  for (const waiter of waiters)
    waiter.fail(new StockFault('PostgreSQL did not confirm the record of a call to Catalog', { sent: true, cause: error }))
  wakeReconciler(productIds)
}

/** Applies the change to a locked product, and releases its lease, as soon as the row is unlocked. */
export function applySoon(deps: GroupDeps, productIds: readonly number[]): void {
  for (const productId of productIds) void applyUntilDone(deps, productId).catch(() => deps.wakeReconciler([productId]))
}

async function applyUntilDone({ products, clock, wakeReconciler }: GroupDeps, productId: number): Promise<void> {
  for (const pauseMs of APPLY_PAUSES_MS) {
    if (await products.applyChanges(productId)) return
    await clock.sleep(pauseMs)
  }
  wakeReconciler([productId])
}
