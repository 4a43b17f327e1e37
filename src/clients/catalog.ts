/** Client of Catalog, which keeps the stock (wire contract, "Catalog"). */
import { z } from 'zod'
import type { ProductQty, StockVerb } from '../model.ts'
import { type Answer, detailOf, faultOfAnswer, NoAnswer, type Downstream, saidByGateway } from './http.ts'

/** Catalog's answer to a change of stock. An answer that leaves open whether it happened is a {@link NoAnswer}. */
export type StockAnswer = { answer: 'done' } | ({ answer: 'refused' } & StockRefusal)

/** `retryAfterMs` is from the `Retry-After` of a 429. */
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

/** Units of a product. `reserved` is included in `inStock`. */
export interface CatalogInventory {
  inStock: number
  reserved: number
}

export interface Catalog {
  /**
   * Whether holds can be released by one call: by `release`, or by `reserve` with negative quantities, which today's Catalog accepts
   * (wire contract). If Catalog refuses both, neither is tried again for ten minutes.
   */
  canRelease(): boolean
  /** Reports that a `reserve` with negative quantities was answered 200 but changed nothing. It is not used for ten minutes. */
  ignoredRelease(): void
  /** Changes all items or none. @throws NoAnswer also on a 5xx, since Catalog may have acted before it */
  change(change: StockChange): Promise<StockAnswer>
  /** Reads the inventory of a product, which is zero if Catalog does not know the product or its inventory. @throws NoAnswer */
  read(productId: number): Promise<CatalogInventory>
}

/** How long a missing route is not tried again. A newer Catalog may have it by then. */
const MISSING_LASTS_MS = 10 * 60_000

const productBody = z.object({ inventory: z.object({ in_stock: z.int(), reserved: z.int() }).nullish() })

/** @param now a monotonic time in ms */
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

  /** If Catalog has no `release`, nothing was changed, and the negative `reserve` is tried at once. */
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

/** Statuses of a Catalog that refuses negative quantities. A 404 or 409 is about the product instead. */
const REFUSES_NEGATIVES = new Set([400, 405, 422])

/** FastAPI's answer for an unknown path, for example of another service at Catalog's address. It says nothing about a product. */
const isNoRoute = (answer: Answer) => answer.status === 404 && detailOf(answer) === 'Not Found'

const isMissing = (status: number) => status === 404 || status === 405

function unclear(call: string, answer: Answer): NoAnswer {
  const settlesAt = saidByGateway.has(answer.status) ? answer.settlesAt : performance.now()
  const fault = faultOfAnswer('catalog', answer.status) ?? { cause: 'downstream-error', service: 'catalog' }
  return new NoAnswer(`catalog ${call}: ${detailOf(answer)}`, { sent: true, settlesAt, retryAfterMs: answer.retryAfterMs, fault })
}
