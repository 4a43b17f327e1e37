/** The last step: one transaction writes the order, its items, its event and the state, where the checkout is open and in time. */
import type { Checkouts } from '../db/checkouts.ts'
import type { StepName } from '../model.ts'
import { type CheckoutRun, Overtaken } from './checkout-run.ts'
import type { Step } from './saga.ts'

export function complete(checkouts: Checkouts): Step<StepName, CheckoutRun> {
  return {
    name: 'complete',

    async do(run) {
      const outcome = await (run.record ? run.record.complete() : checkouts.complete(run))
      if (!outcome) throw new Overtaken('checkout ended, was taken over or passed its deadline before it was complete')
      run.outcome = outcome
    },
  }
}
