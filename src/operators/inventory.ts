/** Products as operators see them: what Catalog should have, what it has, and what is being done about a difference. */
import type { Catalog, CatalogInventory } from '../clients/catalog.ts'
import {
  type Ambiguity,
  type InventoryEntry,
  readAmbiguities,
  readInventory,
  readReconciliations,
  type Reconciliation,
} from '../db/inventory-view.ts'
import { listNotable, readWaiting, type Waiting } from '../db/notable-products.ts'
import type { Pool } from '../db/pool.ts'
import { missingHolds } from '../stock/explain.ts'
import { within } from '../within.ts'
import { type OrderRow, searchOrders } from './orders.ts'
import { type CatalogReading, readCatalog } from './read-catalog.ts'

export interface Product {
  entry: InventoryEntry
  /** undefined if Catalog was not read */
  inCatalog: CatalogReading | undefined
  /** Latest first. */
  ambiguities: readonly Ambiguity[]
  /** The orders that hold the product, if it is oversold. */
  holders: readonly { orderId: number; qty: number; createdAt: Date }[]
  /** Latest first. */
  reconciliations: readonly Reconciliation[]
}

/**
 * What Catalog should have, including pending corrections and excluding unanswered calls.
 * @returns undefined if Catalog has not been read yet
 */
export function expected(entry: InventoryEntry): CatalogInventory | undefined {
  const { held, foreignHolds, holdCorrection, expectedStock, stockCorrection } = entry
  if (expectedStock === null) return undefined
  return { inStock: expectedStock + stockCorrection, reserved: held + foreignHolds + holdCorrection }
}

/** What Catalog has, less what it should have. */
export function difference({ entry, inCatalog }: Pick<Product, 'entry' | 'inCatalog'>): CatalogInventory | undefined {
  const known = expected(entry)
  if (!known || !inCatalog || 'noAnswer' in inCatalog) return undefined
  return { inStock: inCatalog.inStock - known.inStock, reserved: inCatalog.reserved - known.reserved }
}

/** Units that our orders hold and Catalog does not; 0 until Catalog has been read. */
export const oversoldUnits = (entry: InventoryEntry): number => (entry.expectedStock === null ? 0 : missingHolds(entry))

/** Why a product needs attention, in plain words. */
export function notesOf(entry: InventoryEntry, isContended = false): string[] {
  const { expectedStock, reconcilingSince, holdCorrection, stockCorrection, ambiguous, unanswered } = entry
  const oversold = oversoldUnits(entry)
  const unsure = Math.max(ambiguous.tooMany, ambiguous.tooFew)
  return [
    ...(expectedStock === null ? ['Catalog was not read yet'] : []),
    ...(oversold > 0 ? [`oversold by ${oversold}`] : []),
    ...(reconcilingSince || holdCorrection > 0 || stockCorrection !== 0 ? ['being reconciled'] : []),
    ...(unsure > 0 ? [`up to ${unsure} units ambiguous`] : []),
    ...(unanswered.length > 0 ? [`${unanswered.length} unanswered ${unanswered.length === 1 ? 'call' : 'calls'}`] : []),
    ...(isContended ? ['checkouts wait for it'] : []),
  ]
}

export interface NotableProduct {
  entry: InventoryEntry
  notes: string[]
}

/** The products that need attention: those being corrected first, then ambiguous and contended ones. */
export async function readNotable(pool: Pool, limit: number): Promise<{ products: NotableProduct[]; isMore: boolean }> {
  const found = await listNotable(pool, limit + 1)
  const contended = new Set(found.filter((one) => one.isContended).map((one) => one.productId))
  const entries = await readInventory(
    pool,
    found.slice(0, limit).map((one) => one.productId),
  )
  return {
    products: entries.map((entry) => ({ entry, notes: notesOf(entry, contended.has(entry.productId)) })),
    isMore: found.length > limit,
  }
}

/** All about one product. */
export interface ProductPage extends Omit<Product, 'holders' | 'inCatalog'> {
  notes: string[]
  expected: CatalogInventory | null
  inCatalog: CatalogReading
  difference: CatalogInventory | null
  waiting: Waiting
  /** The latest unpaid orders. `isMore`: there are others, or the search for them ended at its bound. */
  holders: { orders: OrderRow[]; isMore: boolean }
}

/** A page waits for Catalog no longer than this. */
const CATALOG_MS = 2000
const HISTORY = 50
const ORDERS = 20

/** @returns undefined where no checkout has contained the product yet */
export async function readProductPage(pool: Pool, catalog: Catalog, productId: number): Promise<ProductPage | undefined> {
  const [entry] = await readInventory(pool, [productId])
  if (!entry) return undefined
  const reading = readLive(catalog, productId)
  const [ambiguities, reconciliations] = await Promise.all([
    readAmbiguities(pool, [productId]),
    readReconciliations(pool, productId, HISTORY),
  ])
  const [waiting, holders] = await Promise.all([
    readWaiting(pool, productId, ORDERS),
    searchOrders(pool, { productId, state: 'CREATED', limit: ORDERS }),
  ])
  const inCatalog = await reading
  return {
    entry,
    notes: notesOf(entry, waiting.wanted !== null && entry.call !== null),
    expected: expected(entry) ?? null,
    inCatalog,
    difference: difference({ entry, inCatalog }) ?? null,
    ambiguities,
    reconciliations,
    waiting,
    holders: { orders: holders.rows, isMore: holders.next !== null },
  }
}

async function readLive(catalog: Catalog, productId: number): Promise<CatalogReading> {
  const answers = await within(CATALOG_MS, readCatalog(catalog, [productId])).catch(() => undefined)
  return answers?.get(productId) ?? { noAnswer: 'Catalog does not answer' }
}
