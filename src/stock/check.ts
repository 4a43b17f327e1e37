/** Reads Catalog's inventory of a product under its lease, and records what it means. */
import type { Catalog, CatalogInventory } from '../clients/catalog.ts'
import type { Products } from '../db/products.ts'
import type { Explanation, ProductLease, Seen } from '../db/reconciliation.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { explain } from './explain.ts'

export interface CheckDeps {
  products: Products
  catalog: Catalog
  metrics: Metrics
}

/** The product's row may change while Catalog is read. Then both are read again, at most so many times. */
const TRIES = 5

/** The lease is lost, or the product's row is locked: the check has to be repeated. */
export class NotChecked extends Error {
  override name = 'NotChecked'
}

/** @throws NoAnswer where Catalog cannot be read; NotChecked */
export async function checkProduct(
  { products, catalog, metrics }: CheckDeps,
  lease: ProductLease,
): Promise<{ seen: Seen; says: CatalogInventory; explanation: Explanation }> {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const seen = await products.readProduct(lease)
    if (!seen) break
    const says = await catalog.read(lease.productId)
    const explanation = explain(seen.row, seen.calls, says)
    if (!(await products.recordExplanation(lease, seen, explanation))) continue
    if (!explanation.isFirst) {
      if (explanation.unexplained !== 0) metrics.reconciliations.inc({ verb: 'unexplained', result: 'seen' })
      if (explanation.followed !== 0) metrics.reconciliations.inc({ verb: 'follow', result: 'seen' })
    }
    return { seen, says, explanation }
  }
  throw new NotChecked(`product ${lease.productId} could not be checked: its lease is lost, or its row is locked`)
}
