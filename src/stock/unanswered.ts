/** Resolves an unanswered call. Once it can no longer act in time, a check of Catalog's inventory shows whether it happened. */
import type { NoAnswer } from '../clients/http.ts'
import { checkProduct } from './check.ts'
import { type GroupDeps, StockFault, type StockGroup } from './group.ts'
import { continueAsCheck, renewLease } from './lease.ts'

export async function resolveUnanswered(deps: GroupDeps, group: StockGroup, error: NoAnswer): Promise<void> {
  const { callId, productIds, waiters } = group
  const fault = new StockFault(error.message, { sent: true, cause: error })
  const hasHappened = await continueAsCheck(deps, group)
    .then((check) => check !== undefined && checkAfterwards(deps, Object.assign(group, check), { callId, settlesAt: error.settlesAt }))
    .catch(() => false)
  for (const waiter of waiters) {
    if (hasHappened) waiter.settle({ result: 'done' })
    else waiter.fail(fault)
  }
  deps.wakeReconciler(productIds)
}

/** @returns whether the call has happened */
async function checkAfterwards(
  deps: GroupDeps,
  group: StockGroup,
  { callId, settlesAt }: { callId: number; settlesAt: number },
): Promise<boolean> {
  const { clock, products } = deps
  try {
    // The lease of the check lasts longer than this. It is renewed only afterwards: if a renewal failed before, its release would let
    // others call while this call may still act.
    while (clock.now() < settlesAt) await clock.sleep(settlesAt - clock.now()) // a timer may end up to 1 ms early
    if (!(await renewLease(deps, group))) return false
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
