/**
 * Hands the hold of a checkout that is alone in its call over to the checkout, which records it together with its order. A statement of its
 * own took 50 of the 275 us that a checkout cost PostgreSQL (docs/decisions/0016).
 */
import type { GroupDeps, StockGroup, StockWaiter } from './group.ts'
import { applySoon } from './settle-call.ts'

/** Resolves when the hold is on record. */
export function handOverHold(deps: GroupDeps, { callId, productIds, waiters }: StockGroup): Promise<void> {
  const { id, products, settle } = waiters[0] as StockWaiter
  const { wanted, over, end } = deps.openHolds.add(productIds)
  const wake = () => deps.wakeReconciler(productIds)
  settle({
    result: 'done',
    hold: {
      callId,
      products,
      wanted,
      recorded: end,
      unrecorded() {
        wake()
        end()
      },
      async record() {
        try {
          const { orderIds, missedProducts } = await deps.recordHolds({ callId, productIds, members: [{ orderId: id, products }] })
          applySoon(deps, missedProducts)
          if (!orderIds.includes(id)) wake() // the others are of calls recorded together with it
        } catch (error) {
          wake()
          throw error
        } finally {
          end()
        }
      },
    },
  })
  return over
}
