/**
 * Whether an attempt may still drive its checkout. It is checked before each call that changes something downstream: the process may have
 * been paused, the job may have waited for long, or Redis may have accepted it after its customer was refused.
 */
import type { Clock } from '../clock.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { CheckoutRun } from './checkout-run.ts'

/**
 * For so long after it was seen open, a checkout is hardly ever ended or taken over: adding its job is given up after 1 s
 * (redis/connection.ts), a job's lock lasts 3 s (service/jobs.ts), and the rescuer waits for 3.5 s (processors/rescuer.ts). An ordinary
 * checkout is over by then. Only operators end checkouts sooner, and choose those that have failed: their later attempts ask each time,
 * since Shipping cannot delete a shipment.
 */
const OPEN_FOR_MS = 1000

/** @returns false where it has ended, is past its deadline or belongs to another attempt. @throws what PostgreSQL throws */
export type StillOpen = (run: CheckoutRun) => Promise<boolean>

export function createStillOpen(checkouts: Pick<Checkouts, 'isOpen'>, clock: Pick<Clock, 'databaseTime'>): StillOpen {
  return async (run) => {
    const now = clock.databaseTime()
    if (now >= run.deadline) return false
    if (run.attempt === 1 && now - run.seenOpenAt < OPEN_FOR_MS) return true
    if (!(await checkouts.isOpen(run))) return false
    run.seenOpenAt = now
    return clock.databaseTime() < run.deadline
  }
}
