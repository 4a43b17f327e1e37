/**
 * The record of a reserve. It travels with the completion where that comes at once: a statement, a version of the row and a commit of
 * its own took 50 of the 275 us that a checkout cost PostgreSQL (docs/decisions/0016). Until it is written nobody else gets the
 * products, and a crash leaves a call without an answer, as a crash before any record does.
 */
import type { Clock } from '../clock.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { OpenHold } from '../stock/open-hold.ts'
import { CATALOG_UNREACHABLE, type CheckoutRun, type ReserveRecord, StepFault } from './checkout-run.ts'

/** How long the completion is waited for: what others may lose who come for the same products meanwhile. */
const PATIENCE_MS = 25

/** Where others want the products, or Shipping takes its time, the record sets out on its own. */
export function recordOf(run: CheckoutRun, hold: OpenHold, checkouts: Checkouts, clock: Clock): ReserveRecord {
  let writing: Promise<void> | undefined

  async function settle(how: () => Promise<void>): Promise<void> {
    try {
      await how()
    } catch (error) {
      throw new StepFault('PostgreSQL did not confirm the record of the reserve', CATALOG_UNREACHABLE, { cause: error })
    }
    run.recoveryPoint = 'reserve-stock'
  }

  const write = (how: () => Promise<void>): Promise<void> => {
    writing ??= settle(how)
    writing.catch(() => {}) // until it is awaited, its failure is nobody's
    return writing
  }
  const byItself = () => void write(hold.record)
  void hold.wanted.then(byItself)
  void clock.sleep(PATIENCE_MS).then(byItself, () => {})

  return {
    written: () => write(hold.record),
    async complete() {
      let outcome: Awaited<ReturnType<ReserveRecord['complete']>>
      await write(async () => {
        outcome = await checkouts.complete(run, hold).catch((error: unknown) => {
          hold.unrecorded()
          throw error
        })
        // Refused for its hold, or for something else: then the hold is recorded on its own, for whoever it is now.
        if (outcome) hold.recorded()
        else await hold.record()
      })
      return outcome ?? checkouts.complete(run)
    },
  }
}
