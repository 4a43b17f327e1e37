/**
 * The jobs that drive checkouts. They are wake-ups: what is true stands in `order_service.checkouts`.
 *
 * Checkouts that begin in one moment travel in one job, since a job costs Redis and Node as much as the rest of a checkout's own
 * bookkeeping. One that has to be tried again gets a job of its own, where its operators see it.
 */
import { type JobsOptions, Queue } from 'bullmq'
import { z } from 'zod'
import { exponentialBackoffMs } from '../backoff.ts'
import { batcher } from '../batcher.ts'
import type { Clock } from '../clock.ts'
import type { ProductQty } from '../model.ts'
import { freeJobId, oldestWaitingMs } from './queue-state.ts'
import type { RedisConnection } from '../redis/connection.ts'

export const CHECKOUT_QUEUE = 'checkout'

/** Nothing personal: email and address are read from the intent. `deadline` is in epoch ms, by PostgreSQL's clock, `replyTo` a pub/sub channel, null where nobody is known to wait. */
const checkoutTask = z.object({
  orderId: z.int(),
  products: z.array(z.object({ productId: z.int(), qty: z.int() })),
  /** The products' leases, where the intent took them; `expiresAt` in epoch ms, by PostgreSQL's clock. */
  lease: z.object({ callId: z.int(), expiresAt: z.int() }).nullable(),
  deadline: z.int(),
  replyTo: z.string().nullable(),
  /** How often it has been tried in another job: its attempt number comes from PostgreSQL unless this is 0. */
  tries: z.int(),
})
export type CheckoutTask = z.infer<typeof checkoutTask>
export type NewCheckout = Omit<CheckoutTask, 'tries'>

export const checkoutPayload = z.object({ checkouts: z.array(checkoutTask).min(1) })
export type CheckoutPayload = z.infer<typeof checkoutPayload>

/** BullMQ refuses ids of digits alone and keeps silent about ids that it still has: finished jobs are removed at once. */
export const checkoutJobId = (orderId: number) => `checkout-${orderId}`

const jobIdOf = (checkouts: readonly CheckoutTask[]) =>
  checkouts.length === 1 ? checkoutJobId(checkouts[0]!.orderId) : `checkouts-${checkouts[0]!.orderId}-${checkouts.at(-1)!.orderId}`

/** So many travel in one job at the most: a worker process takes a job whole. */
const MOST_IN_A_JOB = 64

/** The deadline ends the tries, not their number. */
const options: JobsOptions = {
  attempts: 100,
  backoff: { type: 'exponential', delay: 100, jitter: 0.5 },
  removeOnComplete: true,
  // Jobs that failed past repair are kept for operators to see.
  removeOnFail: { count: 1000 },
}

/** How long it is until the try after `tries` failed ones, at the most, in ms. */
export const backoffMs = (tries: number) => exponentialBackoffMs(tries, 100)

export interface CheckoutQueue {
  /** @throws at once where Redis is away; after a second where it stands still, and then the job may have been added */
  add(checkout: NewCheckout): Promise<void>
  /** A job of its own for a checkout that a shared one could not end. One that has it already keeps it. */
  addAgain(checkout: CheckoutTask, delayMs: number): Promise<void>
  /** For one that has lost its job: a job of its own. @returns false where it has one, which may only wait for its time */
  rescue(checkout: Pick<CheckoutTask, 'orderId' | 'deadline'> & { products: readonly ProductQty[] }): Promise<boolean>
  /** How long the oldest job has waited for a worker, in ms; 0 where none waits. */
  oldestWaitingMs(): Promise<number>
  queue: Queue
  close(): Promise<void>
}

/**
 * @param redis a connection that fails fast
 * @param clock by which jobs are stamped: those of the hosts may differ
 */
export function createCheckoutQueue(redis: RedisConnection, prefix: string, clock: Pick<Clock, 'wallTime'>): CheckoutQueue {
  const queue = new Queue(CHECKOUT_QUEUE, {
    connection: redis,
    prefix,
    skipWaitingForReady: true,
    // Nobody listens to BullMQ's event stream: replies go their own way.
    streams: { events: { maxLen: 100 } },
  })
  queue.on('error', () => {}) // its connection is watched where it is made
  const addJob = (checkouts: CheckoutTask[], more: JobsOptions = {}) =>
    queue.add('checkout', { checkouts } satisfies CheckoutPayload, { ...options, ...more, jobId: jobIdOf(checkouts) })
  const add = batcher(
    async (batch: CheckoutTask[]) => {
      await addJob(batch, { timestamp: Math.round(clock.wallTime()) })
      return batch.map(() => undefined)
    },
    // What comes together was gathered for its intents: to wait once more would make no larger jobs.
    { max: MOST_IN_A_JOB, paceMs: 0 },
  )
  return {
    add: (checkout) => add({ ...checkout, tries: 0 }),
    async addAgain(checkout, delayMs) {
      await addJob([checkout], { delay: delayMs })
    },
    async rescue({ orderId, products, deadline }) {
      if (!(await freeJobId(queue, checkoutJobId(orderId)))) return false
      // Whatever was tried before, the next attempt number comes from PostgreSQL.
      await addJob([{ orderId, products: [...products], lease: null, deadline, replyTo: null, tries: 1 }])
      return true
    },
    oldestWaitingMs: () => oldestWaitingMs(queue, clock.wallTime()),
    queue,
    close: () => queue.close(),
  }
}
