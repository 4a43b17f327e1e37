/** Catalog: the stock that orders are made of (wire contract, "Catalog"). */
import { z } from 'zod'
import type { ProductQty, StockVerb } from '../model.ts'
import { type Answer, detailOf, NoAnswer, type Downstream, saidByGateway } from './http.ts'

/** What Catalog said to a change of stock; an answer that leaves open whether it happened is a {@link NoAnswer}. */
export type StockAnswer = { answer: 'done' } | ({ answer: 'refused' } & StockRefusal)

/** `retryAfterMs`: how long a 429 asks us to wait. */
export interface StockRefusal {
  status: number
  detail: string
  retryAfterMs?: number | undefined
}

export interface StockChange {
  verb: StockVerb
  items: readonly ProductQty[]
  idempotencyKey: string
  /** @see Call.mayGo */
  mayGo?: () => Promise<boolean>
}

/** Units of a product; `reserved` is part of what is in stock. */
export interface CatalogInventory {
  inStock: number
  reserved: number
}

export interface Catalog {
  /**
   * Whether holds can be given back in one call: by a `release`, or by a `reserve` of less than nothing, which today's Catalog takes
   * (wire contract). A Catalog that refuses both is not asked again for ten minutes.
   */
  canRelease(): boolean
  /** A 200 to a reserve of less than nothing changed nothing: it is done without for ten minutes. */
  ignoredRelease(): void
  /** All items or none. @throws NoAnswer also on a 5xx, which Catalog may have sent after it acted */
  change(change: StockChange): Promise<StockAnswer>
  /** Catalog's inventory of a product; one that it does not know, or has no inventory of, has nothing. @throws NoAnswer */
  read(productId: number): Promise<CatalogInventory>
}

/** For so long a Catalog is not asked again for what it did not have: a newer one may have come meanwhile. */
const MISSING_LASTS_MS = 10 * 60_000

const productBody = z.object({ inventory: z.object({ in_stock: z.int(), reserved: z.int() }).nullish() })

/** @param now ms, from any beginning */
export function createCatalog(downstream: Downstream, now = () => performance.now()): Catalog {
  let noReleaseUntil = -Infinity
  let noNegativeUntil = -Infinity

  async function send(path: StockVerb, { items, idempotencyKey, mayGo }: StockChange, sign = 1): Promise<StockAnswer> {
    const name = sign < 0 ? 'release' : path
    const answer = await downstream.call({
      name,
      method: 'POST',
      path: `/catalog/v1/inventory/${path}`,
      body: { items: items.map(({ productId, qty }) => ({ product_id: productId, qty: sign * qty })) },
      idempotencyKey,
      mayGo,
    })
    if (answer.status >= 200 && answer.status < 300) return { answer: 'done' }
    const isAboutStock = path === 'release' || sign < 0 || !isNoRoute(answer)
    if (answer.status >= 400 && answer.status < 500 && !saidByGateway.has(answer.status) && isAboutStock)
      return { answer: 'refused', status: answer.status, detail: detailOf(answer), retryAfterMs: answer.retryAfterMs }
    throw unclear(name, answer)
  }

  /** A release that Catalog does not have changed nothing: the other way is tried at once. */
  async function release(change: StockChange): Promise<StockAnswer> {
    if (now() >= noReleaseUntil) {
      const released = await send('release', change)
      if (released.answer === 'done' || !isMissing(released.status)) return released
      noReleaseUntil = now() + MISSING_LASTS_MS
      if (now() < noNegativeUntil) return released
    }
    const reserved = await send('reserve', change, -1)
    if (reserved.answer === 'refused' && REFUSES_NEGATIVES.has(reserved.status)) noNegativeUntil = now() + MISSING_LASTS_MS
    return reserved
  }

  return {
    canRelease: () => now() >= noReleaseUntil || now() >= noNegativeUntil,
    ignoredRelease() {
      if (now() < noReleaseUntil) noNegativeUntil = now() + MISSING_LASTS_MS
    },
    change: (change) => (change.verb === 'release' ? release(change) : send(change.verb, change)),

    async read(productId) {
      const answer = await downstream.call({ name: 'read', method: 'GET', path: `/catalog/v1/products/${productId}` })
      if (answer.status === 404 && !isNoRoute(answer)) return { inStock: 0, reserved: 0 }
      const product = answer.status === 200 ? productBody.safeParse(answer.body) : undefined
      if (!product?.success) throw unclear('read', answer)
      const { in_stock: inStock, reserved } = product.data.inventory ?? { in_stock: 0, reserved: 0 }
      return { inStock, reserved }
    },
  }
}

/** What a Catalog says that checks quantities; a 404 or 409 is about the product. */
const REFUSES_NEGATIVES = new Set([400, 405, 422])

/** What FastAPI says where it has no such path, as in another service at Catalog's address: it says nothing of a product. */
const isNoRoute = (answer: Answer) => answer.status === 404 && detailOf(answer) === 'Not Found'

const isMissing = (status: number) => status === 404 || status === 405

function unclear(call: string, answer: Answer): NoAnswer {
  const settlesAt = saidByGateway.has(answer.status) ? answer.settlesAt : performance.now()
  return new NoAnswer(`catalog ${call}: ${detailOf(answer)}`, { sent: true, settlesAt, retryAfterMs: answer.retryAfterMs })
}
