/** The command that shows what Catalog should say of each product, which calls have no answer, and what was reconciled; `--check` compares. */
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
import { forJson, oversoldUnits, type Product, row, rowHeading, shown } from './product.ts'
import { type CatalogSays, readCatalog } from './read-catalog.ts'
import { safeJson, table } from './shown.ts'

const LISTED_AT_MOST = 1000
/** Of a product's history, and of the orders that hold it. */
const SHOWN_AT_MOST = 50

const warn = (text: string) => void process.stderr.write(`${text}\n`)

export const inventory: Command = {
  usage: '[PRODUCT_ID...] [--open] [--catalog] [--json], or inventory --check [--repair] [--catalog] [--json]',
  about: `What our orders hold of each product and what Catalog should say, or all about the products that are named.
      --open: products with corrections, calls without an answer, or something ambiguous, each whole.
      --catalog: beside what Catalog says now.
      --check: compares the counters with the sums over orders and open checkouts; --repair puts them right.
      --check --catalog: also lists products of which Catalog holds fewer units than our orders. Run it before a take-over.`,
  options: {
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
    return (tools) => check(tools, { repair, catalog, json })
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

/** @returns whether every product that was named has a row, and Catalog answered for all */
async function list(tools: Tools, { named, open, catalog, json }: ListOptions): Promise<boolean> {
  const { print } = tools
  const isWhole = named.length > 0 || open
  const pool = await tools.pool()
  const ids = named.length > 0 ? named : await listProducts(pool, { onlyNotable: open, limit: LISTED_AT_MOST + 1 })
  const entries = await readInventory(pool, ids.slice(0, LISTED_AT_MOST))
  const known = entries.map(({ productId }) => productId)
  const says = catalog ? await readCatalog(await tools.catalog(), known) : undefined
  const products = await describe(pool, entries, { says, isWhole })
  if (json) print(safeJson(products.map(forJson)))
  else if (products.length > 0) print(isWhole ? products.map(shown).join('\n\n') : table([rowHeading, ...products.map(row)]))
  else if (open) print('No product has corrections, calls without an answer, or something ambiguous.')
  else if (named.length === 0) print('There are no products yet.')
  if (ids.length > LISTED_AT_MOST) warn(`These are the first ${LISTED_AT_MOST} products; name the others by their ids.`)
  const unknown = named.filter((id) => !known.includes(id))
  for (const id of unknown) warn(`Product ${id} is unknown: no checkout has asked for it yet.`)
  const silent = [...(says?.values() ?? [])].filter((one) => 'noAnswer' in one).length
  if (silent > 0) warn(`Catalog did not answer for ${silent} of the products; is CATALOG_BASE right?`)
  return unknown.length === 0 && silent === 0
}

/** @param isWhole with their history, and with the orders that hold what is oversold */
async function describe(
  pool: Pool,
  entries: readonly InventoryEntry[],
  { says, isWhole }: { says: Map<number, CatalogSays> | undefined; isWhole: boolean },
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
      says: says?.get(productId),
      ambiguities: ambiguities.filter((one) => one.productId === productId),
      holders: isWhole && oversoldUnits(entry) > 0 ? await readHolders(pool, productId, SHOWN_AT_MOST) : [],
      reconciliations: isWhole ? await readReconciliations(pool, productId, SHOWN_AT_MOST) : [],
    })
  }
  return products
}
