/**
 * The queue `checkout`. Its jobs only wake a worker: the state of a checkout is in `order_service.checkouts`.
 *
 * Checkouts that begin at once share a job, since a job costs Redis and Node as much as all other work for a checkout. A checkout that has
 * to be tried again gets a job of its own, where operators can see it.
 */
import type { JobsOptions, Queue } from 'bullmq'
import { z } from 'zod'
import { exponentialBackoffMs } from '../backoff.ts'
import { batcher } from '../batcher.ts'
import type { Clock } from '../clock.ts'
import type { ProductQty } from '../model.ts'
import { freeJobId, type JobState, jobStates, oldestWaitingMs, openQueue, runNow } from './queue-state.ts'
import type { RedisConnection } from '../redis/connection.ts'

export const CHECKOUT_QUEUE = 'checkout'

/**
 * No personal data: email and address are read from the intent. `deadline` is in epoch ms, by PostgreSQL's clock; `replyTo` is a pub/sub
 * channel, or null where no request is known to wait.
 */
const checkoutTask = z.object({
  orderId: z.int(),
  products: z.array(z.object({ productId: z.int(), qty: z.int() })),
  /** The products' lease, if the intent acquired it; `expiresAt` in epoch ms, by PostgreSQL's clock. */
  lease: z.object({ callId: z.int(), expiresAt: z.int() }).nullable(),
  deadline: z.int(),
  replyTo: z.string().nullable(),
  /** How often it was tried in another job. Unless this is 0, its attempt number comes from PostgreSQL. */
  tries: z.int(),
})
export type CheckoutTask = z.infer<typeof checkoutTask>
export type NewCheckoutTask = Omit<CheckoutTask, 'tries'>

export const checkoutPayload = z.object({ checkouts: z.array(checkoutTask).min(1) })
export type CheckoutPayload = z.infer<typeof checkoutPayload>

/** BullMQ refuses ids of digits alone, and silently ignores ids that still exist: so finished jobs are removed at once. */
export const checkoutJobId = (orderId: number) => `checkout-${orderId}`

const jobIdOf = (checkouts: readonly CheckoutTask[]) =>
  checkouts.length === 1 ? checkoutJobId(checkouts[0]!.orderId) : `checkouts-${checkouts[0]!.orderId}-${checkouts.at(-1)!.orderId}`

/** The most checkouts in one job, which one worker process takes whole. */
const MOST_IN_A_JOB = 64

/** The deadline limits the tries, not their number. */
const options: JobsOptions = {
  attempts: 100,
  backoff: { type: 'exponential', delay: 100, jitter: 0.5 },
  removeOnComplete: true,
  // Jobs that failed for good are kept for operators.
  removeOnFail: { count: 1000 },
}

/** The longest pause after `tries` failed tries, in ms. */
export const backoffMs = (tries: number) => exponentialBackoffMs(tries, 100)

/** A checkout that may have no job. */
export type LostCheckout = Pick<CheckoutTask, 'orderId' | 'deadline'> & { products: readonly ProductQty[] }

export interface CheckoutQueue {
  /** @throws at once if Redis is away; after a second if it hangs, and then the job may have been added */
  add(checkout: NewCheckoutTask): Promise<void>
  /** Adds a job for one checkout that a shared job could not end. Does nothing if it has one already. */
  addAgain(checkout: CheckoutTask, delayMs: number): Promise<void>
  /** Adds a job for a checkout that has lost its job. @returns false if it has one, which may be delayed */
  rescue(checkout: LostCheckout): Promise<boolean>
  /** Has checkouts tried now instead of at their next retry: promotes their jobs, and adds a job for each that has none. */
  retryNow(checkouts: readonly LostCheckout[]): Promise<void>
  /** The states of the checkouts' own jobs, in their order. */
  jobStates(orderIds: readonly number[]): Promise<JobState[]>
  /** How long the oldest job has waited for a worker, in ms; 0 where none waits. */
  oldestWaitingMs(): Promise<number>
  queue: Queue
  close(): Promise<void>
}

/**
 * @param redis a connection that fails fast
 * @param clock for the jobs' timestamps: the clocks of hosts may differ
 */
export function createCheckoutQueue(redis: RedisConnection, prefix: string, clock: Pick<Clock, 'databaseTime'>): CheckoutQueue {
  const queue = openQueue(CHECKOUT_QUEUE, redis, prefix)
  const addJob = (checkouts: CheckoutTask[], more: JobsOptions = {}) =>
    queue.add('checkout', { checkouts } satisfies CheckoutPayload, { ...options, ...more, jobId: jobIdOf(checkouts) })
  // `tries: 1`, so that the next attempt number comes from PostgreSQL.
  const addLost = ({ orderId, products, deadline }: LostCheckout) =>
    addJob([{ orderId, products: [...products], lease: null, deadline, replyTo: null, tries: 1 }])
  const add = batcher(
    async (batch: CheckoutTask[]) => {
      await addJob(batch, { timestamp: Math.round(clock.databaseTime()) })
      return batch.map(() => undefined)
    },
    // Checkouts were gathered before, for their intents: waiting once more would not make larger jobs.
    { max: MOST_IN_A_JOB, paceMs: 0 },
  )
  return {
    add: (checkout) => add({ ...checkout, tries: 0 }),
    async addAgain(checkout, delayMs) {
      await addJob([checkout], { delay: delayMs })
    },
    async rescue(checkout) {
      if (!(await freeJobId(queue, checkoutJobId(checkout.orderId)))) return false
      await addLost(checkout)
      return true
    },
    async retryNow(checkouts) {
      await Promise.all(checkouts.map((checkout) => runNow(queue, checkoutJobId(checkout.orderId), () => addLost(checkout))))
    },
    jobStates: (orderIds) => jobStates(queue, orderIds.map(checkoutJobId)),
    oldestWaitingMs: () => oldestWaitingMs(queue, clock.databaseTime()),
    queue,
    close: () => queue.close(),
  }
}
