/** The jobs that drive payment events to their orders. They are wake-ups: what is true stands in `order_service.payment_events`. */
import { type JobsOptions, Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { freeJobId } from './free-job-id.ts'

export const PAYMENT_QUEUE = 'payment'

/** `attempt` is null where one may have been begun before: then, and at any later start, the number comes from PostgreSQL. */
export const paymentPayload = z.object({ eventId: z.int(), orderId: z.int(), attempt: z.int().nullable() })

export type PaymentTask = z.infer<typeof paymentPayload>

/** Ids are those of the inbox: what Payment calls a payment may hold anything. */
export const paymentJobId = (eventId: number) => `payment-${eventId}`

/** A fault lasts as long as it lasts. A try costs Catalog a call, and a customer's order waits at most so long after its return. */
export const MOST_BACKOFF_MS = 10_000
const FIRST_BACKOFF_MS = 200

/** @returns the pause after so many tries in vain, in ms: 0.2 s, 0.4 s, ... 10 s, less up to a half, so that they do not all come back at once */
export function paymentBackoffMs(tries: number, chance: () => number = Math.random): number {
  const most = Math.min(MOST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(tries - 1, 10))
  return Math.round(most * (1 - chance() / 2))
}

const options: JobsOptions = {
  attempts: 1_000_000_000,
  backoff: { type: 'payment' }, // a name of our own: the worker asks paymentBackoffMs
  removeOnComplete: true,
  removeOnFail: { count: 1000 },
  keepLogs: 50, // a fault may last for days
}

export interface PaymentQueue {
  /** One that has a job already keeps it. @throws at once where Redis is away; after a second where it stands still, and then they may have been added */
  add(events: readonly PaymentTask[]): Promise<void>
  /** For one that has lost its job: a job, unless there is one. */
  rescue(event: PaymentTask): Promise<void>
  queue: Queue
  close(): Promise<void>
}

/** @param redis a connection that fails fast */
export function createPaymentQueue(redis: Redis, prefix: string): PaymentQueue {
  const queue = new Queue(PAYMENT_QUEUE, { connection: redis, prefix, skipWaitingForReady: true, streams: { events: { maxLen: 100 } } })
  queue.on('error', () => {}) // its connection is watched where it is made
  async function add(events: readonly PaymentTask[]): Promise<void> {
    if (events.length === 0) return
    await queue.addBulk(
      events.map((event) => ({
        name: 'commit-and-mark-paid',
        data: event satisfies PaymentTask,
        opts: { ...options, jobId: paymentJobId(event.eventId) },
      })),
    )
  }
  return {
    add,
    async rescue(event) {
      await freeJobId(queue, paymentJobId(event.eventId))
      await add([event])
    },
    queue,
    close: () => queue.close(),
  }
}
