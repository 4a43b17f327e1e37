/**
 * Holds the cart's stock at Catalog. Nothing here undoes it: cancelling takes the hold off our rows, and the mender brings Catalog to
 * them, since a release that got no answer could not be told from one that worked.
 */
import type { Checkouts } from '../db/checkouts.ts'
import type { StepName } from '../model.ts'
import { LeaseTimeout } from '../stock/leases.ts'
import { callStock, StockFault, type StockParts } from '../stock/stock-call.ts'
import { type CheckoutRun, Overtaken, StepFault } from './checkout-run.ts'
import { CATALOG_UNREACHABLE, recordOf } from './reserve-record.ts'
import type { Step } from './saga.ts'
import type { StillOpen } from './still-open.ts'

export function reserveStock(stock: StockParts, checkouts: Checkouts, stillOpen: StillOpen): Step<StepName, CheckoutRun> {
  return {
    name: 'reserve-stock',

    async do(run) {
      if (run.recoveryPoint === 'reserve-stock') return
      const result = await callStock(stock, {
        verb: 'reserve',
        orderId: run.orderId,
        attempt: run.attempt,
        products: run.products,
        // A Catalog that honours keys must not take the call after a mending for the one before it.
        idempotencyKey: run.attempt === 1 ? `checkout:${run.orderId}:reserve` : `checkout:${run.orderId}:reserve:${run.attempt}`,
        deadline: run.deadline,
        wanted: () => stillOpen(run),
      }).catch((error: unknown) => {
        run.reserveCall = error instanceof StockFault && !error.settled ? 'unknown' : 'settled'
        if (error instanceof LeaseTimeout) {
          throw new StepFault(error.message, { status: 503, detail: 'Too many customers for this product, try again' })
        }
        if (error instanceof StockFault) throw new StepFault(error.message, CATALOG_UNREACHABLE, { unreachable: !error.sent, cause: error })
        throw error
      })
      if (result.answer === 'done') {
        run.record = recordOf(run, result, checkouts, stock.clock)
        return
      }
      run.reserveCall = 'settled'
      if (result.answer === 'unwanted') throw new Overtaken('ended, taken over, or past its deadline, before its stock was asked for')
      if (result.status === 409 || result.status === 404) return { status: result.status, detail: result.detail }
      if (result.status === 429) throw new StepFault(`catalog reserve: ${result.detail}`, CATALOG_UNREACHABLE)
      // A bad key or a body that Catalog does not understand: no repeat helps, and it is not the customer's fault.
      return { status: 503, detail: `Catalog refused the reservation (${result.status})` }
    },
  }
}
