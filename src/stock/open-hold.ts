/**
 * A lone checkout's hold goes on record along with its order: a statement of its own took 50 of the 275 us that a checkout cost
 * PostgreSQL (docs/decisions/0016).
 */
import type { ProductQty } from '../model.ts'
import type { GroupDeps, StockGroup, StockWaiter } from './group.ts'
import { applySoon } from './record.ts'

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

/** The open holds of this process. */
export class OpenHolds {
  readonly #holds = new Set<{ productIds: readonly number[]; want: () => void }>()

  /** Tells those who have one of these products that somebody waits for it. */
  want(productIds: readonly number[]): void {
    for (const hold of this.#holds) if (productIds.some((id) => hold.productIds.includes(id))) hold.want()
  }

  /** @returns what ends it, and promises to wait for */
  add(productIds: readonly number[]): { wanted: Promise<void>; over: Promise<void>; end: () => void } {
    const wanted = Promise.withResolvers<void>()
    const over = Promise.withResolvers<void>()
    const hold = { productIds, want: wanted.resolve }
    this.#holds.add(hold)
    const end = () => {
      this.#holds.delete(hold)
      over.resolve()
    }
    return { wanted: wanted.promise, over: over.promise, end }
  }
}

/** @returns when it is on record */
export function holdOpen(deps: GroupDeps, { callId, productIds, waiters }: StockGroup): Promise<void> {
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
          const { orderIds, missedProducts } = await deps.recordReserved({ callId, productIds, members: [{ orderId: id, products }] })
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
