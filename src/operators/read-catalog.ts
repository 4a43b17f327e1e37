/** Reads Catalog's inventory of products, without a lease. It may differ from our rows while one of our calls is in flight. */
import type { Catalog, CatalogInventory } from '../clients/catalog.ts'

/** Catalog's inventory of a product, or the reason why it gave no answer. */
export type CatalogReading = CatalogInventory | { noAnswer: string }

export async function readCatalog(catalog: Catalog, productIds: readonly number[]): Promise<Map<number, CatalogReading>> {
  const { NoAnswer } = await import('../clients/http.ts') // loaded here, because most commands do not need it
  const answers = await Promise.all(
    productIds.map(async (productId): Promise<[number, CatalogReading]> => {
      try {
        return [productId, await catalog.read(productId)]
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error
        return [productId, { noAnswer: error.message }]
      }
    }),
  )
  return new Map(answers)
}
