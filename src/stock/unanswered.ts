/** A call without an answer: as soon as it cannot act any more in the ordinary way, Catalog's inventory says whether it happened. */
import type { NoAnswer } from '../clients/http.ts'
import { checkProduct } from './check.ts'
import { type GroupDeps, StockFault, type StockGroup } from './group.ts'
import { renewLease } from './lease.ts'

export async function resolveUnanswered(deps: GroupDeps, group: StockGroup, error: NoAnswer): Promise<void> {
  const { callId, productIds, waiters } = group
  const fault = new StockFault(error.message, { sent: true, cause: error })
  const hasHappened = await continueAsCheck(deps, group)
    .then((isOurs) => isOurs && checkAfterwards(deps, group, { callId, settlesAt: error.settlesAt }))
    .catch(() => false)
  for (const waiter of waiters) {
    if (hasHappened) waiter.settle({ result: 'done' })
    else waiter.fail(fault)
  }
  deps.wakeReconciler(productIds)
}

/** The call is written down as an unanswered one; its lease goes on. @returns false where it is lost, or somebody has a row: it runs out */
async function continueAsCheck({ products, callIds }: GroupDeps, group: StockGroup): Promise<boolean> {
  const next = { callId: await callIds(), verb: 'check' as const, qty: 0 }
  const expiresAt = await products.continueCall(group, { next, isUnanswered: true })
  if (expiresAt === undefined) return false
  Object.assign(group, { callId: next.callId, expiresAt })
  return true
}

/** @returns whether it has happened */
async function checkAfterwards(
  deps: GroupDeps,
  group: StockGroup,
  { callId, settlesAt }: { callId: number; settlesAt: number },
): Promise<boolean> {
  const { clock, products } = deps
  try {
    while (clock.now() < settlesAt) {
      await clock.sleep(Math.min(1000, settlesAt - clock.now()))
      if (!(await renewLease(deps, group))) return false
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
