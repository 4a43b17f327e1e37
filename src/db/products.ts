/** The statements of stock calls, bound to one process: its name, and how long its leases last. */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Explanation,
  needsReconciling,
  type ProductLease,
  productsToReconcile,
  readProduct,
  recordAnswered,
  recordCorrection,
  recordExplanation,
  recordSold,
  type Seen,
} from './reconciliation.ts'
import type { Pool } from './pool.ts'
import { addProducts, applyChanges, continueCall, releaseCalls } from './stock-calls.ts'
import { acquireCalls } from './acquire-calls.ts'

export type Products = ReturnType<typeof createProducts>

/** Most locks on a product's row are those of our own statements, and last for a millisecond. */
const PAUSES_MS = [2, 5, 10, 20]

/** @param run gives undefined where somebody has the row, or the lease is lost */
async function briefly<T>(run: () => Promise<T | undefined>): Promise<T | undefined> {
  for (const pauseMs of PAUSES_MS) {
    const result = await run()
    if (result !== undefined) return result
    await sleep(pauseMs)
  }
  return run()
}

/**
 * @param by this process
 * @param leaseMs how long a lease lasts: a call's time-out and 2.5 s
 * @param emitPaid whether `order.paid` is announced for an order whose commit turns out to have happened
 */
export function createProducts(pool: Pool, { by, leaseMs, emitPaid }: { by: string; leaseMs: number; emitPaid: boolean }) {
  type Rest<Verb extends (pool: Pool, ...rest: never[]) => unknown> = Verb extends (pool: Pool, ...rest: infer Args) => unknown
    ? Args
    : never
  return {
    acquireCalls: (calls: Rest<typeof acquireCalls>[0]) => acquireCalls(pool, calls, { by, leaseMs }),
    addProducts: (productIds: readonly number[]) => addProducts(pool, productIds),
    continueCall: (call: Rest<typeof continueCall>[0], options: Omit<Rest<typeof continueCall>[1], 'leaseMs'> = {}) =>
      briefly(() => continueCall(pool, call, { ...options, leaseMs })),
    /** Said again while somebody has a row, for 0.5 s. */
    async releaseCalls(calls: Rest<typeof releaseCalls>[0]): Promise<void> {
      for (const pauseMs of [2, 5, 10, 20, 50, 100, 300]) {
        if (await releaseCalls(pool, calls)) return
        await sleep(pauseMs)
      }
    },
    applyChanges: (productId: number) => applyChanges(pool, productId),
    readProduct: (lease: Rest<typeof readProduct>[0]) => briefly(() => readProduct(pool, lease)),
    recordExplanation: (lease: ProductLease, seen: Seen, explanation: Explanation) =>
      recordExplanation(pool, lease, seen, explanation, emitPaid),
    recordAnswered: (call: { callId: number; productIds: readonly number[] }) => recordAnswered(pool, call),
    recordCorrection: (...rest: Rest<typeof recordCorrection>) => recordCorrection(pool, ...rest),
    recordSold: (lease: Rest<typeof recordSold>[0]) => recordSold(pool, lease),
    needsReconciling: (productId: number) => needsReconciling(pool, productId),
    productsToReconcile: () => productsToReconcile(pool),
  }
}
