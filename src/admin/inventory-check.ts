/** `inventory --check`: compares our counters with the sums over orders, and Catalog's holds with our orders. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Catalog } from '../clients/catalog.ts'
import { compareCounters, type Miscount, readHolders, readHolds } from '../db/inventory-view.ts'
import type { Pool } from '../db/pool.ts'
import type { ActionRequest } from '../operators/action.ts'
import type { Tools } from './command.ts'
import { readCatalog } from '../operators/read-catalog.ts'
import { safeJson, table } from './shown.ts'

const HOLDERS_LIMIT = 50
const HOLDERS_SHOWN = 10
/** Longer than orders and Catalog differ while this service or the predecessor changes one after the other. */
const PAUSE_MS = 500

/** A product of which Catalog holds fewer units than our orders do. */
interface MissingHold {
  productId: number
  held: number
  reserved: number
  missing: number
  /** Units that Catalog could still reserve. */
  free: number
  /** Missing units that Catalog does not have. */
  oversold: number
}

interface Holds {
  /** The number of products that our orders hold. */
  products: number
  missing: (MissingHold & { orders: Awaited<ReturnType<typeof readHolders>> })[]
  /** Products for which Catalog did not answer. */
  unread: number[]
}

/** @returns whether the counters are right or repaired, and Catalog answered for all products and holds what our orders hold */
export async function check(
  tools: Tools,
  { repair, catalog, json }: { repair: false | By; catalog: boolean; json: boolean },
): Promise<boolean> {
  const pool = await tools.pool()
  const counters = repair ? await repairCounters(tools, repair) : await compareCounters(pool, { repair: false })
  const isRepaired = repair !== false
  const holds = catalog ? await checkHolds(pool, await tools.catalog()) : undefined
  if (json) tools.print(safeJson({ counters, repaired: isRepaired, ...(holds && { holds }) }))
  else tools.print([shownCounters(counters, isRepaired), ...(holds ? [shownHolds(holds)] : [])].join('\n\n'))
  if (holds && holds.unread.length > 0)
    process.stderr.write(`Catalog did not answer for ${holds.unread.length} of ${holds.products} products; check CATALOG_BASE\n`)
  return (isRepaired || counters.length === 0) && (!holds || holds.missing.length + holds.unread.length === 0)
}

type By = Pick<ActionRequest, 'operator' | 'reason'>

async function repairCounters(tools: Tools, by: By): Promise<Miscount[]> {
  let counters: Miscount[] = []
  await (await tools.actions()).inTransaction({ verb: 'repair-counters', selection: {}, ...by }, async (tx) => {
    counters = await compareCounters(tx, { repair: true })
    if (counters.length === 0) return { result: 'unchanged', detail: 'each counter is right' }
    return { result: 'changed', detail: `the counters of ${counters.length} products were repaired` }
  })
  return counters
}

/** Reads missing holds twice, since an order or a payment may have come between the reads of orders and Catalog. */
async function checkHolds(pool: Pool, catalog: Catalog): Promise<Holds> {
  const held = await readHolds(pool)
  const first = await compareHolds(held, catalog)
  if (first.missing.length === 0) return { products: held.length, missing: [], unread: first.unread }
  await sleep(PAUSE_MS)
  const suspects = new Set(first.missing.map(({ productId }) => productId))
  const again = (await readHolds(pool)).filter(({ productId }) => suspects.has(productId))
  const second = await compareHolds(again, catalog)
  const missing = []
  for (const one of second.missing) missing.push({ ...one, orders: await readHolders(pool, one.productId, HOLDERS_LIMIT) })
  return { products: held.length, missing, unread: [...first.unread, ...second.unread] }
}

async function compareHolds(holds: Awaited<ReturnType<typeof readHolds>>, catalog: Catalog) {
  const answers = await readCatalog(
    catalog,
    holds.map(({ productId }) => productId),
  )
  const missing: MissingHold[] = []
  const unread: number[] = []
  for (const { productId, held } of holds) {
    const one = answers.get(productId)!
    if ('noAnswer' in one) unread.push(productId)
    else if (one.reserved < held) {
      const lost = held - one.reserved
      const free = Math.max(0, one.inStock - one.reserved)
      missing.push({ productId, held, reserved: one.reserved, missing: lost, free, oversold: Math.max(0, lost - free) })
    }
  }
  return { missing, unread }
}

function shownCounters(counters: readonly Miscount[], isRepaired: boolean): string {
  if (counters.length === 0) return 'The counter of each product equals what its orders and open checkouts hold.'
  return [
    table([['PRODUCT', 'COUNTER', 'ORDERS_HOLD'], ...counters.map((one) => [one.productId, one.counted, one.held].map(String))]),
    isRepaired
      ? `Repaired the counters of ${counters.length} products.`
      : `The counters of ${counters.length} products are wrong; --check --repair repairs them.`,
  ].join('\n')
}

function shownHolds({ products, missing, unread }: Holds): string {
  const read = products - unread.length
  if (missing.length === 0) return `Catalog holds what our orders hold, for all ${read} products that were read.`
  return [
    table([
      ['PRODUCT', 'ORDERS_HOLD', 'CATALOG_HOLDS', 'MISSING', 'FREE', 'OVERSOLD', 'ORDERS'],
      ...missing.map((one) => [
        ...[one.productId, one.held, one.reserved, one.missing, one.free, one.oversold].map(String),
        shownOrders(one.orders),
      ]),
    ]),
    `Catalog holds too few units of ${missing.length} of ${read} products. The service reserves free units by itself.`,
    'For oversold units, raise the stock at Catalog or cancel orders.',
  ].join('\n')
}

function shownOrders(orders: Holds['missing'][number]['orders']): string {
  const rest = orders.length - HOLDERS_SHOWN
  const first = orders.slice(0, HOLDERS_SHOWN).map(({ orderId, qty }) => `${orderId} (${qty})`)
  return [...first, ...(rest > 0 ? [`and ${orders.length < HOLDERS_LIMIT ? rest : `at least ${rest}`} more`] : [])].join(', ')
}
