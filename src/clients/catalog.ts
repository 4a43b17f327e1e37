/** Catalog: the stock that orders are made of (wire contract, "Catalog"). */
import { z } from 'zod'
import type { ProductQty, StockVerb } from '../model.ts'
import { type Answer, detailOf, NoAnswer, type Neighbour, saidByGateway } from './http.ts'

/** What Catalog said to a change of stock; an answer that leaves open whether it happened is a {@link NoAnswer}. */
export type StockAnswer = { answer: 'done' } | { answer: 'refused'; status: number; detail: string }

export interface StockChange {
  verb: StockVerb
  items: readonly ProductQty[]
  idempotencyKey: string
  /** @see Call.mayGo */
  mayGo?: () => Promise<boolean>
}

/** Pieces of a product; `reserved` is part of what is in stock. */
export interface CatalogBooks {
  inStock: number
  reserved: number
}

export interface Catalog {
  /** Whether a release may be asked for. Today's Catalog has none; it says so with a 404 or 405, which counts for ten minutes. */
  mayRelease(): boolean
  /** All items or none. @throws NoAnswer also on a 5xx, which Catalog may have sent after it acted */
  change(change: StockChange): Promise<StockAnswer>
  /** What Catalog's books say; a product that it does not know, or has no inventory of, has nothing. @throws NoAnswer */
  look(productId: number): Promise<CatalogBooks>
}

/** For so long a Catalog is not asked again for the release that it did not have: a newer one may have come meanwhile. */
const NO_RELEASE_LASTS_MS = 10 * 60_000

const productBody = z.object({ inventory: z.object({ in_stock: z.int(), reserved: z.int() }).nullish() })

/** @param now ms, from any beginning */
export function createCatalog(neighbour: Neighbour, now = () => performance.now()): Catalog {
  let noReleaseUntil = -Infinity
  return {
    mayRelease: () => now() >= noReleaseUntil,

    async change({ verb, items, idempotencyKey, mayGo }) {
      const answer = await neighbour.call({
        name: verb,
        method: 'POST',
        path: `/catalog/v1/inventory/${verb}`,
        body: { items: items.map(({ productId, qty }) => ({ product_id: productId, qty })) },
        idempotencyKey,
        mayGo,
      })
      if (answer.status >= 200 && answer.status < 300) return { answer: 'done' }
      if (verb === 'release' && (answer.status === 404 || answer.status === 405)) noReleaseUntil = now() + NO_RELEASE_LASTS_MS
      if (answer.status >= 400 && answer.status < 500 && !saidByGateway.has(answer.status))
        return { answer: 'refused', status: answer.status, detail: detailOf(answer) }
      throw unclear(verb, answer)
    },

    async look(productId) {
      const answer = await neighbour.call({ name: 'look', method: 'GET', path: `/catalog/v1/products/${productId}` })
      if (answer.status === 404) return { inStock: 0, reserved: 0 }
      const product = answer.status === 200 ? productBody.safeParse(answer.body) : undefined
      if (!product?.success) throw unclear('look', answer)
      const { in_stock: inStock, reserved } = product.data.inventory ?? { in_stock: 0, reserved: 0 }
      return { inStock, reserved }
    },
  }
}

function unclear(call: string, answer: Answer): NoAnswer {
  const settlesAt = saidByGateway.has(answer.status) ? answer.settlesAt : performance.now()
  return new NoAnswer(`catalog ${call}: ${detailOf(answer)}`, { sent: true, settlesAt })
}
