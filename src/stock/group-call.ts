/** Makes the call of a group: checks unknown products, sends the call, records its result and settles the waiters. */
import type { Catalog } from '../clients/catalog.ts'
import { NoAnswer } from '../clients/http.ts'
import type { StockVerb } from '../model.ts'
import { checkProduct } from './check.ts'
import { nextCorrection } from './explain.ts'
import { type GroupDeps, StockFault, type StockGroup } from './group.ts'
import { renewLease } from './lease.ts'
import { MOST_IN_A_CALL } from './call-scheduler.ts'
import { handOverHold } from './hand-over-hold.ts'
import { settleCommit, settleReserve } from './settle-call.ts'
import { afterRefusal } from './refused.ts'
import { resolveUnanswered } from './unanswered.ts'

/** Never rejects: each waiter is settled or failed. Resolves when the products are free for another call. */
export async function runCall(deps: GroupDeps, group: StockGroup): Promise<void> {
  if (group.verb === 'check') return grantCheckLease(deps, group)
  try {
    if (group.checks.length > 0) await checkFirst(deps, group)
    if (group.waiters.some(({ hasGivenUp }) => !hasGivenUp)) await send(deps, group)
    else await deps.products.releaseCalls([group])
  } catch (error) {
    // The call did not happen: it was refused, or never sent.
    await deps.products.releaseCalls([group]).catch(() => {})
    const fault = error instanceof NoAnswer ? new StockFault(error.message, { sent: error.sent, cause: error }) : error
    for (const waiter of group.waiters) waiter.fail(fault)
  }
}

async function grantCheckLease({ products }: GroupDeps, { callId, productIds, waiters }: StockGroup): Promise<void> {
  if (waiters[0]!.hasGivenUp) return products.releaseCalls([{ callId, productIds }]).catch(() => {})
  return new Promise((done) => waiters[0]!.settle({ result: 'leased', lease: { productId: productIds[0]!, callId, done } }))
}

/** Checks products at Catalog whose stock is unknown or whose lease expired, before a waiter joins a call on them. */
async function checkFirst(deps: GroupDeps, group: StockGroup): Promise<void> {
  const { products, catalog, scheduler, reconciler, wakeReconciler } = deps
  const checks = [...group.checks]
  const inNeed: number[] = []
  try {
    for (const productId of checks) {
      const lease = { productId, callId: group.callId }
      const { explanation, seen, says } = await checkProduct(deps, lease)
      if (explanation.isFirst && explanation.reserved >= seen.row.held) continue
      inNeed.push(productId)
      const known = await products.readProduct(lease)
      const free = says.inStock - says.reserved
      const correction = known && nextCorrection(known.row, { free, canRelease: catalog.canRelease() })
      if (correction?.reason !== 'hold-missing') continue
      // Orders that were promised units get their holds back before any other waiter gets units. Then the waiters are requested again.
      await reconciler.correct(lease, correction)
      return wakeReconciler(inNeed)
    }
  } catch (error) {
    wakeReconciler(checks)
    group.waiters = scheduler.takeAll(group.verb, group.productIds)
    throw error
  }
  await scheduler.fill(group, MOST_IN_A_CALL)
  // The reconciler continues: it watches for late calls, releases holds without an order, and restores missing holds.
  if (inNeed.length > 0) wakeReconciler(inNeed)
}

async function send(deps: GroupDeps, group: StockGroup): Promise<void> {
  const { productIds, waiters } = group
  const verb = group.verb as StockVerb
  const items = productIds.map((productId, i) => ({ productId, qty: waiters.reduce((sum, waiter) => sum + waiter.products[i]!.qty, 0) }))
  deps.metrics.stockCallMembers.observe({ verb }, waiters.length)
  let answer: Awaited<ReturnType<Catalog['change']>>
  try {
    const idempotencyKey = `stock-call:${group.callId}`
    answer = await deps.catalog.change({ verb, items, idempotencyKey, mayGo: () => renewLease(deps, group) })
  } catch (error) {
    if (error instanceof NoAnswer && error.sent) return await resolveUnanswered(deps, group, error)
    throw error
  }
  if (answer.answer === 'refused') {
    if (await afterRefusal(deps, group, answer)) await send(deps, group)
  } else if (verb === 'commit') await settleCommit(deps, group)
  else if (waiters.length === 1 && !waiters[0]!.hasGivenUp && !deps.scheduler.isWanted(productIds)) await handOverHold(deps, group)
  else await settleReserve(deps, group)
}
