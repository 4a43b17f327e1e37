/** The command that shows the ledger: what Catalog's books should say of each product, what is in doubt, and what was mended. */
import type { Catalog } from '../clients/catalog.ts'
import { type LedgerEntry, listProducts, readHolders, readLedger, readMendings, readUndecided } from '../db/ledger-view.ts'
import { MAX_INTEGER } from '../model.ts'
import { type Command, UsageError } from './command.ts'
import { type CatalogSays, forJson, type Product, row, rowHeading, shown } from './product.ts'
import { safeJson, table } from './shown.ts'

const LISTED_AT_MOST = 1000
/** Of a product's history, and of the orders that hold it. */
const SHOWN_AT_MOST = 50

export const ledger: Command = {
  usage: '[PRODUCT_ID...] [--doubts] [--catalog] [--json]',
  about:
    'What we hold and predict of each product, or all about those that are named; --doubts: those with extras, doubts or undecided pieces, each whole; --catalog: beside what Catalog says now.',
  options: { doubts: { type: 'boolean' }, catalog: { type: 'boolean' }, json: { type: 'boolean' } },
  prepare({ values, positionals }) {
    const named = idsOf(positionals)
    const isWhole = named.length > 0 || values.doubts === true
    return async (tools) => {
      const { print } = tools
      const pool = await tools.pool()
      const ids = named.length > 0 ? named : await listProducts(pool, { onlyNotable: values.doubts === true, limit: LISTED_AT_MOST + 1 })
      const entries = await readLedger(pool, ids.slice(0, LISTED_AT_MOST))
      const says = values.catalog ? await ask(await tools.catalog(), entries) : undefined
      const met = entries.map(({ productId }) => productId)
      const undecided = isWhole || values.json ? await readUndecided(pool, met) : []
      const products: Product[] = []
      for (const entry of entries) {
        const { productId } = entry
        products.push({
          entry,
          says: says?.get(productId),
          undecided: undecided.filter((one) => one.productId === productId),
          holders: isWhole && entry.unsellable ? await readHolders(pool, productId, SHOWN_AT_MOST) : [],
          mendings: isWhole ? await readMendings(pool, productId, SHOWN_AT_MOST) : [],
        })
      }
      if (values.json) print(safeJson(products.map(forJson)))
      else if (products.length === 0)
        print(values.doubts ? 'No product has extras, doubts or undecided pieces.' : 'We have met no such product.')
      else if (isWhole) print(products.map(shown).join('\n\n'))
      else print(table([rowHeading, ...products.map(row)]))
      if (ids.length > LISTED_AT_MOST) process.stderr.write(`These are the first ${LISTED_AT_MOST}; name the others by their ids.\n`)
      const unmet = named.filter((id) => !entries.some(({ productId }) => productId === id))
      if (unmet.length > 0) process.stderr.write(`No order of ours ever asked for ${unmet.join(', ')}\n`)
      const silent = [...(says?.values() ?? [])].filter((one) => 'noAnswer' in one).length
      if (silent > 0) process.stderr.write(`Catalog did not answer for ${silent} of them; is CATALOG_BASE right?\n`)
      return unmet.length === 0 && silent === 0
    }
  },
}

/** Without leases: where a call of ours is under way, the two may differ for a moment. */
async function ask(catalog: Catalog, entries: readonly LedgerEntry[]): Promise<Map<number, CatalogSays>> {
  const { NoAnswer } = await import('../clients/http.ts') // Catalog has loaded it; most commands do without
  const said = await Promise.all(
    entries.map(async ({ productId }): Promise<[number, CatalogSays]> => {
      try {
        return [productId, await catalog.look(productId)]
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error
        return [productId, { noAnswer: error.message }]
      }
    }),
  )
  return new Map(said)
}

function idsOf(texts: readonly string[]): number[] {
  const ids = texts.map((text) => {
    const id = Number(text)
    if (!/^\d+$/.test(text) || id > MAX_INTEGER) throw new UsageError(`${JSON.stringify(text)} is no id of a product`)
    return id
  })
  return [...new Set(ids)]
}
