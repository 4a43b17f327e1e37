/**
 * The processor of checkout jobs. A checkout that fails is repeated in a job of its own, with growing pauses, until its deadline. Each
 * repeat takes the next attempt number from PostgreSQL and continues from the recovery point.
 */
import type { Job } from 'bullmq'
import { backoffMs, checkoutPayload, type CheckoutTask } from '../queues/checkout.ts'
import { complete } from './complete.ts'
import { createShipment } from './create-shipment.ts'
import { type Again, type CheckoutDriver, type CheckoutJobDeps, driveCheckout } from './drive-checkout.ts'
import { reserveStock } from './reserve-stock.ts'
import { postpone, runTasks } from './shared-job.ts'
import { createStillOpen } from './still-open.ts'

/** @returns BullMQ's processor: it throws to be called again */
export function createCheckoutProcessor(deps: CheckoutJobDeps): (job: Job, token?: string) => Promise<void> {
  const { checkouts, stock, clock, shipping, unavailable, addAgain } = deps
  const stillOpen = createStillOpen(checkouts, clock)
  const steps = [
    reserveStock({ stock, checkouts, clock, stillOpen, unavailable }),
    createShipment(shipping, stillOpen),
    complete(checkouts),
  ]
  const driver: CheckoutDriver = { ...deps, steps }

  return async (job, token) =>
    runTasks(job, checkoutPayload.parse(job.data).checkouts, {
      runAlone: (task) => runAlone(driver, job, token, task),
      runShared: (task) => runShared(driver, job, task),
      async split(tasks) {
        await Promise.all(tasks.map((task) => addAgain({ ...task, tries: Math.max(1, task.tries) }, 0)))
      },
    })
}

async function runAlone(driver: CheckoutDriver, job: Job, token: string | undefined, task: CheckoutTask): Promise<void> {
  const again = await driveCheckout(driver, job, task)
  if (!again) return
  if (again.pauseMs === undefined) throw again.error
  await postpone(job, token, again.pauseMs)
}

async function runShared(driver: CheckoutDriver, job: Job, task: CheckoutTask): Promise<void> {
  const again = await driveCheckout(driver, job, task).catch((error: Error): Again => ({ error }))
  if (!again) return
  // At least 1, also for a checkout that was only postponed: its next attempt number comes from PostgreSQL.
  const tries = Math.max(1, task.tries + job.attemptsMade + (again.pauseMs === undefined ? 1 : 0))
  await driver.addAgain({ ...task, tries }, again.pauseMs ?? backoffMs(tries))
}
