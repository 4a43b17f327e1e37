/** One job drives one checkout. It is a wake-up: what is true stands in `order_service.checkouts`. */
import { type JobsOptions, Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { batcher } from '../batcher.ts'

export const CHECKOUT_QUEUE = 'checkout'

/** Nothing personal: email and address are read from the intent. `deadline` is in epoch ms, `replyTo` a pub/sub channel. */
export const checkoutPayload = z.object({
  orderId: z.int(),
  products: z.array(z.object({ productId: z.int(), qty: z.int(), epoch: z.int().nullable() })),
  deadline: z.int(),
  replyTo: z.string(),
})
export type CheckoutPayload = z.infer<typeof checkoutPayload>

/** BullMQ refuses ids of digits alone and keeps silent about ids that it still has: finished jobs are removed at once. */
export const checkoutJobId = (orderId: number) => `checkout-${orderId}`

/** The deadline ends the tries, not their number. */
const options: JobsOptions = {
  attempts: 100,
  backoff: { type: 'exponential', delay: 100, jitter: 0.5 },
  removeOnComplete: true,
  // Jobs that failed past repair are kept for operators to see.
  removeOnFail: { count: 1000 },
}

/** How long BullMQ waits before the try after `tries` failed ones, at the most, in ms. */
export const backoffMs = (tries: number) => 100 * 2 ** (tries - 1)

export interface CheckoutQueue {
  /** @throws at once where Redis is away; after a second where it stands still, and then the job may have been added */
  add(payload: CheckoutPayload): Promise<void>
  queue: Queue
  close(): Promise<void>
}

/** @param redis a connection that fails fast */
export function createCheckoutQueue(redis: Redis, prefix: string): CheckoutQueue {
  const queue = new Queue(CHECKOUT_QUEUE, {
    connection: redis,
    prefix,
    skipWaitingForReady: true,
    // Nobody listens to BullMQ's event stream: replies go their own way.
    streams: { events: { maxLen: 100 } },
  })
  queue.on('error', () => {}) // its connection is watched where it is made
  const add = batcher(async (batch: CheckoutPayload[]) => {
    await queue.addBulk(batch.map((data) => ({ name: 'checkout', data, opts: { ...options, jobId: checkoutJobId(data.orderId) } })))
    return batch.map(() => undefined)
  })
  return { add, queue, close: () => queue.close() }
}
