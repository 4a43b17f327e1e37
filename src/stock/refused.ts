/**
 * Handles a call that Catalog refused. Holds without an order are given back before a customer gets a refusal. In a call with several
 * members, as many members are admitted as there are units for.
 */
import type { StockRefusal } from '../clients/catalog.ts'
import type { GroupDeps, StockGroup, StockResult, StockWaiter } from './group.ts'

/** Refusals that do not depend on quantities: a wrong key, an unknown product, too many calls. */
const CONCERNS_ALL = new Set([401, 403, 404, 429])

const asAlone = (waiter: StockWaiter): StockWaiter => ({ ...waiter, isAlone: true })

/** @returns whether the group now has other members, whose call must be sent */
export async function afterRefusal(deps: GroupDeps, group: StockGroup, refusal: StockRefusal): Promise<boolean> {
  const { products, scheduler } = deps
  const { waiters } = group
  const result: StockResult = { result: 'refused', ...refusal }
  const isShortage = group.verb === 'reserve' && refusal.status === 409
  const toCorrect = isShortage && waiters.some(({ isSecondTry }) => !isSecondTry) ? await productsToCorrect(deps, group) : []
  if (isShortage && toCorrect.length === 0 && waiters.length > 1) return admitSome(deps, group)

  if (toCorrect.length > 0) void correctFirst(deps, toCorrect, waiters)
  // The refusal may concern the sum of their quantities, or one member.
  else if (waiters.length > 1 && !CONCERNS_ALL.has(refusal.status)) scheduler.putBack(group.verb, waiters.map(asAlone))
  else {
    const likewise = isShortage ? scheduler.takeSameOrLarger('reserve', waiters[0]!.products) : []
    for (const waiter of [...waiters, ...likewise]) waiter.settle(result)
  }
  await products.releaseCalls([group])
  return false
}

async function correctFirst(
  { reconciler, scheduler }: GroupDeps,
  productIds: readonly number[],
  waiters: readonly StockWaiter[],
): Promise<void> {
  for (const productId of productIds) await reconciler.reconcile(productId).catch(() => {})
  scheduler.putBack(
    'reserve',
    waiters.map((waiter) => ({ ...waiter, isSecondTry: true })),
  )
}

/** @returns products that have excess holds or missing stock at Catalog, according to our rows */
async function productsToCorrect({ products }: GroupDeps, { callId, productIds }: StockGroup): Promise<number[]> {
  const seen = await Promise.all(productIds.map((productId) => products.readProduct({ productId, callId })))
  return productIds.filter((_, i) => seen[i] !== undefined && (seen[i].row.holdCorrection > 0 || seen[i].row.stockCorrection < 0))
}

/** Admits as many waiters as there are units for, in their order. The first without units is requested on its own. */
async function admitSome({ products, catalog, scheduler }: GroupDeps, group: StockGroup): Promise<boolean> {
  const inventories = await Promise.all(group.productIds.map((productId) => catalog.read(productId)))
  const free = inventories.map(({ inStock, reserved }) => inStock - reserved)
  const fits = group.waiters.filter(({ products: asked }) => {
    const hasRoom = asked.every(({ qty }, i) => qty <= free[i]!)
    if (hasRoom) for (const [i, { qty }] of asked.entries()) free[i]! -= qty
    return hasRoom
  })
  const others = group.waiters.filter((waiter) => !fits.includes(waiter))
  group.waiters = []
  // Catalog refused although there are units for all. Each waiter is requested on its own.
  if (others.length === 0) scheduler.putBack('reserve', fits.map(asAlone))
  else {
    scheduler.putBack('reserve', [...fits, ...others.map((waiter, i) => (i === 0 ? asAlone(waiter) : waiter))])
    if (fits.length > 0) await scheduler.fill(group, fits.length)
  }
  if (group.waiters.length > 0) return true
  await products.releaseCalls([group])
  return false
}
