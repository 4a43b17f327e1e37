/** The processor of payment jobs. A payment is repeated while a fault lasts; each repeat takes the next attempt number from PostgreSQL. */
import type { Job } from 'bullmq'
import pLimit from 'p-limit'
import { paymentBackoffMs, paymentPayload, type PaymentTask } from '../queues/payment.ts'
import { drivePayment, type PaymentDeps, type PaymentDriver } from './drive-payment.ts'
import { postpone, runTasks } from './shared-job.ts'

/** @returns BullMQ's processor: throws to be called again with BullMQ's pause, or puts the job back with a pause of its own */
export function createPaymentProcessor(deps: PaymentDeps): (job: Job, token?: string) => Promise<void> {
  const driver: PaymentDriver = { ...deps, limit: pLimit(deps.atOnce) }

  return async (job, token) =>
    runTasks(job, paymentPayload.parse(job.data).payments, {
      runAlone: (task) => runAlone(driver, job, token, task),
      runShared: (task) => runShared(driver, job, task),
      split: (tasks) =>
        deps.queue.addAgain(
          tasks.map((task) => ({ ...task, attempt: null })),
          0,
        ),
    })
}

async function runAlone(driver: PaymentDriver, job: Job, token: string | undefined, task: PaymentTask): Promise<void> {
  const next = await drivePayment(driver, job, task)
  if (!next) return
  if ('fault' in next) throw next.fault
  await postpone(job, token, next.pauseMs)
}

async function runShared(driver: PaymentDriver, job: Job, task: PaymentTask): Promise<void> {
  const next = await drivePayment(driver, job, task)
  if (!next) return
  const [attempt, pauseMs] = 'fault' in next ? [null, paymentBackoffMs(1, driver.chance)] : [next.attempt, next.pauseMs]
  await driver.queue.addAgain([{ ...task, attempt }], pauseMs)
}
