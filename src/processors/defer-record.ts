/**
 * Defers the record of a reserve, so that the completion carries it where that follows at once: a statement of its own, with a row version
 * and a commit, took 50 of the 275 us that a checkout cost PostgreSQL (docs/decisions/0016). Until it is written no other call gets the
 * products. A crash before that leaves an unanswered call, as any crash before a record does.
 */
import type { Clock } from '../clock.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { OpenHold } from '../stock/open-holds.ts'
import { CATALOG_UNREACHABLE, type CheckoutRun, type DeferredRecord, StepFault } from './checkout-run.ts'

/** How long the record waits for the completion. Others that want the same products may lose this time. */
const PATIENCE_MS = 25

/** Where others want the products, or Shipping is slow, the record is written on its own. */
export function deferRecord(run: CheckoutRun, hold: OpenHold, checkouts: Checkouts, clock: Clock): DeferredRecord {
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
    writing.catch(() => {}) // its failure is handled where it is awaited
    return writing
  }
  const byItself = () => void write(hold.record)
  void hold.wanted.then(byItself)
  void clock.sleep(PATIENCE_MS).then(byItself, () => {})

  return {
    written: () => write(hold.record),
    async complete() {
      let outcome: Awaited<ReturnType<DeferredRecord['complete']>>
      await write(async () => {
        outcome = await checkouts.complete(run, hold).catch((error: unknown) => {
          hold.unrecorded()
          throw error
        })
        // Refused because of its hold, or for another reason: the hold is recorded on its own, whichever attempt drives the checkout now.
        if (outcome) hold.recorded()
        else await hold.record()
      })
      return outcome ?? checkouts.complete(run)
    },
  }
}
