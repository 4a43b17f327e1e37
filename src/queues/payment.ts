/**
 * The jobs that drive payment events to their orders. They are wake-ups: what is true stands in `order_service.payment_events`.
 * Events that come in one batch share jobs; one that has to be driven again gets a job of its own.
 */
import { type JobsOptions, Queue } from 'bullmq'
import { z } from 'zod'
import { exponentialBackoffMs } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import type { RedisConnection } from '../redis/connection.ts'
import { freeJobId, oldestWaitingMs } from './queue-state.ts'

export const PAYMENT_QUEUE = 'payment'

/**
 * `attempt` is null where one may have been begun before: then, and at any later start, the number comes from PostgreSQL.
 * `mayBeDriven`: another job may be at it, since ids of jobs tell only those apart that have an event to themselves.
 */
const paymentTask = z.object({
  eventId: z.int(),
  orderId: z.int(),
  attempt: z.int().nullable(),
  mayBeDriven: z.boolean().optional(),
})
export type PaymentTask = z.infer<typeof paymentTask>

export const paymentPayload = z.object({ payments: z.array(paymentTask).min(1) })
type PaymentPayload = z.infer<typeof paymentPayload>

/** Ids are those of the inbox: what Payment calls a payment may hold anything. */
export const paymentJobId = (eventId: number) => `payment-${eventId}`

/** So many share a job at the most: a worker process takes a job whole, and the others want some of a batch, too. */
const MOST_IN_A_JOB = 32

/** How long a look into the jobs counts, in ms, from its end. */
const LOOK_LASTS_MS = 500
/** A look reads each job, on the connection that customers' jobs are added with. */
const MOST_LOOKED_INTO = 2000

/** A fault lasts as long as it lasts. A try costs Catalog a call, and a customer's order waits at most so long after its return. */
export const MOST_BACKOFF_MS = 10_000
const FIRST_BACKOFF_MS = 200

/** @returns the pause after so many tries in vain, in ms: 0.2 s, 0.4 s, ... 10 s, less up to a half, so that they do not all come back at once */
export function paymentBackoffMs(tries: number, chance: () => number = Math.random): number {
  const most = exponentialBackoffMs(tries, FIRST_BACKOFF_MS, MOST_BACKOFF_MS)
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
  /**
   * A job for each; one that has its job already keeps it.
   * @throws at once where Redis is away; after a second where it stands still, and then they may have been added
   */
  add(events: readonly PaymentTask[]): Promise<void>
  /** For one that has lost its job: a job. @returns false where it has one of its own, which may only wait for its time */
  rescue(event: PaymentTask): Promise<boolean>
  /** How long the oldest job has waited for a worker, in ms; 0 where none waits. */
  oldestWaitingMs(): Promise<number>
  /** Jobs for many that have had none: an event in two jobs is driven twice, and one of the two in vain. @throws like `add` */
  addTogether(events: readonly PaymentTask[]): Promise<void>
  /** A job of its own for each, for later. @throws like `add` */
  addAgain(events: readonly PaymentTask[], delayMs: number): Promise<void>
  /**
   * Whether another job that waits or runs has this event in it: whoever drove it too would take over from an attempt that is at work.
   * True too where more than 2,000 jobs wait, which are too many to look into: a pause does no harm.
   * Asked of Redis twice a second at the most, for all events together.
   */
  isInAnotherJob(eventId: number, jobId: string): Promise<boolean>
  queue: Queue
  close(): Promise<void>
}

const jobOf = (payments: PaymentTask[], more: JobsOptions) => ({
  name: 'commit-and-mark-paid',
  data: { payments } satisfies PaymentPayload,
  opts: {
    ...options,
    ...more,
    jobId: payments.length === 1 ? paymentJobId(payments[0]!.eventId) : `payments-${payments[0]!.eventId}-${payments.at(-1)!.eventId}`,
  },
})

/**
 * @param redis a connection that fails fast
 * @param clock by which jobs are stamped: those of the hosts may differ
 */
export function createPaymentQueue(redis: RedisConnection, prefix: string, clock: Pick<Clock, 'wallTime'>): PaymentQueue {
  const queue = new Queue(PAYMENT_QUEUE, { connection: redis, prefix, skipWaitingForReady: true, streams: { events: { maxLen: 100 } } })
  queue.on('error', () => {}) // its connection is watched where it is made
  async function addJobs(jobs: ReturnType<typeof jobOf>[]): Promise<void> {
    if (jobs.length > 0) await queue.addBulk(jobs)
  }
  const stamp = () => ({ timestamp: Math.round(clock.wallTime()) })
  const add: PaymentQueue['add'] = (events) => addJobs(events.map((event) => jobOf([event], stamp())))
  let looked: { endedAt: number; jobsOf: ReturnType<typeof lookIntoJobs> } | undefined
  async function lookIntoJobs(): Promise<Map<number, Set<string>> | 'too many'> {
    if ((await queue.getWaitingCount()) > MOST_LOOKED_INTO) return 'too many'
    const jobsOf = new Map<number, Set<string>>()
    for (const job of await queue.getJobs(['waiting', 'active'])) {
      if (!job) continue // it ended meanwhile
      for (const { eventId } of paymentPayload.parse(job.data).payments) {
        const jobs = jobsOf.get(eventId) ?? new Set()
        jobsOf.set(eventId, jobs.add(job.id!))
      }
    }
    return jobsOf
  }
  return {
    add,
    async isInAnotherJob(eventId, jobId) {
      if (!looked || performance.now() - looked.endedAt > LOOK_LASTS_MS) {
        const look = { endedAt: Number.POSITIVE_INFINITY, jobsOf: lookIntoJobs() }
        look.jobsOf.catch(() => {}).finally(() => (look.endedAt = performance.now()))
        looked = look
      }
      const jobsOf = await looked.jobsOf
      return jobsOf === 'too many' || [...(jobsOf.get(eventId) ?? [])].some((one) => one !== jobId)
    },
    async rescue(event) {
      if (!(await freeJobId(queue, paymentJobId(event.eventId)))) return false
      await add([{ ...event, mayBeDriven: true }])
      return true
    },
    oldestWaitingMs: () => oldestWaitingMs(queue, clock.wallTime()),
    addTogether(events) {
      const jobs = []
      for (let first = 0; first < events.length; first += MOST_IN_A_JOB)
        jobs.push(jobOf(events.slice(first, first + MOST_IN_A_JOB), stamp()))
      return addJobs(jobs)
    },
    addAgain: (events, delay) => addJobs(events.map((event) => jobOf([event], { delay }))),
    queue,
    close: () => queue.close(),
  }
}
