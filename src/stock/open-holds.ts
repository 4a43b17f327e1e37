/** Holds of lone checkouts that Catalog has and that are not recorded yet. */
import type { ProductQty } from '../model.ts'

/** A hold at Catalog that is not on record yet. Until it is, no other call gets the products. */
export interface OpenHold {
  callId: number
  products: readonly ProductQty[]
  /** Resolves when another waiter of this process wants one of the products. */
  wanted: Promise<void>
  /** Records it on its own. @throws what PostgreSQL throws */
  record(): Promise<void>
  /** To be called when it was recorded together with the order. */
  recorded(): void
  /** To be called when its record got no answer: its lease expires, and a check of Catalog finds out. */
  unrecorded(): void
}

/** The open holds of this process. */
export class OpenHolds {
  readonly #holds = new Set<{ productIds: readonly number[]; want: () => void }>()

  /** Signals the holds of these products that another waiter wants one of them. */
  want(productIds: readonly number[]): void {
    for (const hold of this.#holds) if (productIds.some((id) => hold.productIds.includes(id))) hold.want()
  }

  /** @returns the promises `wanted` and `over`, and a function that ends the hold */
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
