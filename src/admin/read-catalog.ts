/** What Catalog says of products now. It is read without a lease: while a call of ours is under way, it may differ from our rows. */
import type { Catalog, CatalogInventory } from '../clients/catalog.ts'

/** What Catalog says of a product, or why it gave no answer. */
export type CatalogSays = CatalogInventory | { noAnswer: string }

export async function readCatalog(catalog: Catalog, productIds: readonly number[]): Promise<Map<number, CatalogSays>> {
  const { NoAnswer } = await import('../clients/http.ts') // loaded with Catalog; most commands do without
  const answers = await Promise.all(
    productIds.map(async (productId): Promise<[number, CatalogSays]> => {
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
