/** `inventory`: shows what Catalog should have of each product, unanswered calls and reconciliations; `--check` compares. */
import {
  type InventoryEntry,
  listProducts,
  readAmbiguities,
  readHolders,
  readInventory,
  readReconciliations,
} from '../db/inventory-view.ts'
import type { Pool } from '../db/pool.ts'
import { MAX_INTEGER } from '../model.ts'
import { type Command, type Given, type Tools, UsageError } from './command.ts'
import { check } from './inventory-check.ts'
import { oversoldUnits, type Product } from '../operators/inventory.ts'
import { type CatalogReading, readCatalog } from '../operators/read-catalog.ts'
import { AT_COMMAND_LINE, recordedBy, recordOptions } from './operator.ts'
import { forJson, row, rowHeading, shown } from './product.ts'
import { safeJson, table } from './shown.ts'

const LIST_LIMIT = 1000
/** The limit for a product's history and for the orders that hold it. */
const DETAILS_LIMIT = 50

const warn = (text: string) => void process.stderr.write(`${text}\n`)

export const inventory: Command = {
  usage:
    '[PRODUCT_ID...] [--open] [--catalog] [--json], or inventory --check [--repair] [--catalog] [--json] [--reason TEXT] [--operator NAME]',
  about: `Lists what our orders hold of each product and what Catalog should have, or shows the named products in full.
      --open: shows products with corrections, unanswered calls or ambiguous units in full.
      --catalog: also reads Catalog and shows the difference.
      --check: compares the counters with the sums over orders and open checkouts; --repair repairs them.
      --check --catalog: also lists products of which Catalog holds fewer units than our orders. Run it before a take-over.`,
  options: {
    ...recordOptions,
    open: { type: 'boolean' },
    check: { type: 'boolean' },
    repair: { type: 'boolean' },
    catalog: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  prepare({ values, positionals }) {
    const named = idsOf(positionals)
    const { open = false, repair = false, catalog = false, json = false } = values as Record<string, boolean | undefined>
    if (!values.check && repair) throw new UsageError('--repair needs --check')
    if (!values.check) return (tools) => list(tools, { named, open, catalog, json })
    if (named.length > 0 || open) throw new UsageError('--check compares all products; it takes neither a PRODUCT_ID nor --open')
    return (tools) => check(tools, { repair: repair && recordedBy(values, AT_COMMAND_LINE), catalog, json })
  },
}

function idsOf(texts: Given['positionals']): number[] {
  const ids = texts.map((text) => {
    const id = Number(text)
    if (!/^\d+$/.test(text) || id > MAX_INTEGER) throw new UsageError(`${JSON.stringify(text)} is not a product id; write a whole number`)
    return id
  })
  return [...new Set(ids)]
}

interface ListOptions {
  named: readonly number[]
  open: boolean
  catalog: boolean
  json: boolean
}

/** @returns whether every named product is known, and Catalog answered for all */
async function list(tools: Tools, { named, open, catalog, json }: ListOptions): Promise<boolean> {
  const { print } = tools
  const isDetailed = named.length > 0 || open
  const pool = await tools.pool()
  const ids = named.length > 0 ? named : await listProducts(pool, { onlyNotable: open, limit: LIST_LIMIT + 1 })
  const entries = await readInventory(pool, ids.slice(0, LIST_LIMIT))
  const known = entries.map(({ productId }) => productId)
  const readings = catalog ? await readCatalog(await tools.catalog(), known) : undefined
  const products = await describe(pool, entries, { readings, isDetailed })
  if (json) print(safeJson(products.map(forJson)))
  else if (products.length > 0) print(isDetailed ? products.map(shown).join('\n\n') : table([rowHeading, ...products.map(row)]))
  else if (open) print('No product has corrections, unanswered calls or ambiguous units.')
  else if (named.length === 0) print('There are no products yet.')
  if (ids.length > LIST_LIMIT) warn(`Only the first ${LIST_LIMIT} products are listed; name other products by id.`)
  const unknown = named.filter((id) => !known.includes(id))
  for (const id of unknown) warn(`Product ${id} is unknown: no checkout has contained it yet.`)
  const silent = [...(readings?.values() ?? [])].filter((one) => 'noAnswer' in one).length
  if (silent > 0) warn(`Catalog did not answer for ${silent} of the products; check CATALOG_BASE`)
  return unknown.length === 0 && silent === 0
}

/** @param isDetailed includes history, and the orders that hold oversold products */
async function describe(
  pool: Pool,
  entries: readonly InventoryEntry[],
  { readings, isDetailed }: { readings: Map<number, CatalogReading> | undefined; isDetailed: boolean },
): Promise<Product[]> {
  const ambiguities = await readAmbiguities(
    pool,
    entries.map(({ productId }) => productId),
  )
  const products: Product[] = []
  for (const entry of entries) {
    const { productId } = entry
    products.push({
      entry,
      inCatalog: readings?.get(productId),
      ambiguities: ambiguities.filter((one) => one.productId === productId),
      holders: isDetailed && oversoldUnits(entry) > 0 ? await readHolders(pool, productId, DETAILS_LIMIT) : [],
      reconciliations: isDetailed ? await readReconciliations(pool, productId, DETAILS_LIMIT) : [],
    })
  }
  return products
}
