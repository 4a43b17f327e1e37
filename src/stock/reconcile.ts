/**
 * Brings Catalog's inventory of a product in line with our rows: reads it, records what it means, and makes the calls that are needed, one
 * at a time. One rule serves unanswered calls, holds of cancelled checkouts, and holds that leaked before this service.
 */
import type { Catalog } from '../clients/catalog.ts'
import { NoAnswer } from '../clients/http.ts'
import type { Clock } from '../clock.ts'
import type { CallIds } from '../db/call-ids.ts'
import type { ProductLease } from '../db/reconciliation.ts'
import { type CheckDeps, checkProduct } from './check.ts'
import { type Correction, nextCorrection } from './explain.ts'
import { continueAsCheck, type LeasedCall, renewLease } from './lease.ts'

export interface ReconcileDeps extends CheckDeps {
  clock: Clock
  callIds: CallIds
  callTimeoutMs: number
  /** @throws StockWaitTimeout at the deadline */
  leased(productId: number, deadline: number): Promise<ProductLease & { done(): void }>
}

/** Customers wait for the product meanwhile. Three answered calls correct any difference; after four the reconciler comes back later. */
const MOST_CALLS = 4
const LEASE_PATIENCE_MS = 10_000
/** Refusals that mean that Catalog has no such units. Any other refusal (a wrong key, too many calls) does not concern the stock. */
const saysNoStock = new Set([404, 409])

/** Catalog refused a correction, or could not be called. */
export class NotReconciled extends Error {
  override name = 'NotReconciled'
}

export interface Reconciler {
  /** @returns whether the product has to be reconciled again. @throws NoAnswer, NotChecked, NotReconciled, StockWaitTimeout */
  reconcile(productId: number): Promise<boolean>
  /** Makes one call under a lease, which ends with it. @throws NoAnswer, NotReconciled */
  correct(lease: ProductLease, correction: Correction): Promise<void>
}

/** What the calls of one reconciliation have shown about Catalog. */
interface Memory {
  released: number
  refusesRelease: boolean
}

export function createReconciler(deps: ReconcileDeps): Reconciler {
  return {
    correct: (lease, correction) => correct(deps, lease, correction),
    async reconcile(productId) {
      const memory: Memory = { released: 0, refusesRelease: false }
      for (let calls = 0; calls < MOST_CALLS; calls += 1) if (!(await once(deps, productId, memory))) break
      return deps.products.needsReconciling(productId)
    },
  }
}

/** @returns false where no call could correct anything now */
async function once(deps: ReconcileDeps, productId: number, memory: Memory): Promise<boolean> {
  const { products, catalog, clock, leased } = deps
  const lease = await leased(productId, clock.databaseTime() + LEASE_PATIENCE_MS)
  const release = () => products.releaseCalls([{ callId: lease.callId, productIds: [productId] }])
  try {
    const { explanation, says } = await checkProduct(deps, lease)
    if (!explanation.isFirst && memory.released > 0 && explanation.unexplained === memory.released) catalog.ignoredRelease()
    memory.released = 0
    const known = await products.readProduct(lease)
    const canRelease = catalog.canRelease() && !memory.refusesRelease
    const correction = known && nextCorrection(known.row, { free: says.inStock - says.reserved, canRelease })
    if (correction) await correct(deps, lease, correction, memory)
    else await release()
    return correction !== undefined
  } catch (error) {
    await release().catch(() => {})
    throw error
  } finally {
    lease.done()
  }
}

/** The call is recorded before it is sent. Without an answer it is an ordinary unanswered call, which the next round resolves. */
async function correct(
  deps: ReconcileDeps,
  { productId, callId: before }: ProductLease,
  { verb, qty, reason }: Correction,
  memory: Memory = { released: 0, refusesRelease: false },
): Promise<void> {
  const { products, catalog, callIds, metrics } = deps
  const callId = await callIds()
  const expiresAt = await products.continueCall({ callId: before, productIds: [productId] }, { next: { callId, verb, qty } })
  if (expiresAt === undefined) throw new NotReconciled(`the lease of product ${productId} is lost, or its row is locked`)
  const call = { callId, productIds: [productId], expiresAt }
  const ended = (result: 'done' | 'refused' | 'unanswered') => {
    metrics.reconciliations.inc({ verb, result })
    if (result === 'done') metrics.reconciledUnits.inc({ verb }, qty)
    return products.recordCorrection(productId, { callId, verb, qty, reason, result })
  }
  let answer: Awaited<ReturnType<Catalog['change']>>
  try {
    const idempotencyKey = `stock-call:${callId}`
    answer = await catalog.change({ verb, items: [{ productId, qty }], idempotencyKey, mayGo: () => renewLease(deps, call) })
  } catch (error) {
    if (!(error instanceof NoAnswer) || !error.sent) {
      await products.releaseCalls([call])
      throw error
    }
    await ended('unanswered')
    return await unanswered(deps, call, error.settlesAt)
  }
  if (answer.answer === 'done') {
    if (verb === 'release') memory.released = qty
    await products.recordAnswered(call)
    return ended('done')
  }
  await ended('refused')
  if (verb === 'reserve' && reason === 'stock-extra' && saysNoStock.has(answer.status)) await products.recordSold({ productId, callId })
  await products.releaseCalls([call])
  if (verb === 'release') memory.refusesRelease = true
  else throw new NotReconciled(`catalog refused to ${verb} ${qty} of product ${productId}: ${answer.detail}`)
}

async function unanswered(deps: ReconcileDeps, call: LeasedCall, settlesAt: number): Promise<void> {
  const check = await continueAsCheck(deps, call)
  if (check === undefined) return
  const { clock, products } = deps
  if (settlesAt > clock.now()) await clock.sleep(settlesAt - clock.now())
  await products.releaseCalls([check])
}
