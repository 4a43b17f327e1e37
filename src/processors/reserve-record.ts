/**
 * The record of a reserve. It travels with the completion where that comes at once: a statement, a version of the row and a commit of
 * its own took 50 of the 275 us that a checkout cost PostgreSQL (docs/decisions/0016). Until it is written the leases stay, and a crash
 * leaves a call in doubt, as a crash before any record does.
 */
import type { Epochs } from '../db/checkout-statements.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { Clock } from '../stock/mending.ts'
import type { StockCallDone, StockFault } from '../stock/stock-call.ts'
import { type CheckoutRun, type ReserveRecord, StepFault } from './checkout-run.ts'

/** How long the completion is waited for: what others may lose who come for the same products meanwhile. */
const PATIENCE_MS = 25

export const CATALOG_UNREACHABLE = { status: 503, detail: 'Catalog is unreachable' }

/** Where others want the products, or Shipping takes its time, the record sets out on its own. */
export function recordOf(run: CheckoutRun, reserved: StockCallDone, checkouts: Checkouts, clock: Clock): ReserveRecord {
  let writing: Promise<void> | undefined
  const byItself = (epochs: Epochs) => checkouts.recordReserved(run, epochs)

  const write = (how: (epochs: Epochs) => Promise<boolean>): Promise<void> => {
    writing ??= settle(how)
    writing.catch(() => {}) // until it is awaited, its failure is nobody's
    return writing
  }
  if (reserved.contested()) void write(byItself)
  else
    void clock
      .sleep(PATIENCE_MS)
      .then(() => write(byItself))
      .catch(() => {})

  async function settle(how: (epochs: Epochs) => Promise<boolean>): Promise<void> {
    try {
      await reserved.record(how)
    } catch (error) {
      const { settled, message } = error as StockFault
      run.reserveCall = settled ? 'settled' : 'unknown'
      throw new StepFault(message, CATALOG_UNREACHABLE, { cause: error })
    }
    run.reserveCall = 'settled'
    run.recoveryPoint = 'reserve-stock'
  }

  return {
    written: () => write(byItself),
    async complete() {
      let outcome: Awaited<ReturnType<ReserveRecord['complete']>>
      await write(async (epochs) => {
        outcome = await checkouts.complete(run, epochs)
        // Refused for its hold, or for something else: the record alone tells.
        return outcome !== undefined || byItself(epochs)
      })
      return outcome ?? checkouts.complete(run)
    },
  }
}
