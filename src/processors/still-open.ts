/**
 * Whether a checkout is still an attempt's to drive. Asked before each call that changes something at a downstream: a process may stand
 * still, a job wait for long, or Redis take it only after its customer was refused.
 */
import type { Clock } from '../clock.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { CheckoutRun } from './checkout-run.ts'

/**
 * Sooner after it was seen open, hardly anybody ends a checkout or takes it over: adding its job is given up after 1 s (redis/connection.ts), a
 * job's lock lasts 3 s (service/jobs.ts), and the rescuer waits for 3.5 s (processors/rescuer.ts). An ordinary checkout is over by then.
 */
const OPEN_FOR_MS = 1000

/** @returns false where it has ended, is past its deadline or another attempt's; what PostgreSQL throws where it has to be asked and is away */
export type StillOpen = (run: CheckoutRun) => Promise<boolean>

export function createStillOpen(checkouts: Pick<Checkouts, 'isOpen'>, clock: Pick<Clock, 'wallTime'>): StillOpen {
  return async (run) => {
    const now = clock.wallTime()
    if (now >= run.deadline) return false
    if (now - run.seenOpenAt < OPEN_FOR_MS) return true
    if (!(await checkouts.isOpen(run))) return false
    run.seenOpenAt = now
    return clock.wallTime() < run.deadline
  }
}
