/**
 * The queue `payment`. Its jobs only wake a worker: the state of a payment event is in `order_service.payment_events`.
 * Events of one batch share jobs; an event that has to be tried again gets a job of its own.
 */
import type { JobsOptions, Queue } from 'bullmq'
import { z } from 'zod'
import { exponentialBackoffMs } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import type { RedisConnection } from '../redis/connection.ts'
import { freeJobId, type JobState, jobStates, oldestWaitingMs, openQueue, runNow } from './queue-state.ts'

export const PAYMENT_QUEUE = 'payment'

/**
 * `attempt` is null if an attempt may have begun before: then, and at any later start, the number comes from PostgreSQL.
 * `mayBeDriven`: another job may be working on the event, since only jobs with a single event have its id.
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

/** By the inbox's id: Payment's own id may contain anything. */
export const paymentJobId = (eventId: number) => `payment-${eventId}`

/** The most events in one job. A worker process takes a job whole, and a batch is to be shared by all of them. */
const MOST_IN_A_JOB = 32

/** How long the jobs that were read are valid, in ms, from the end of the read. */
const JOBS_VALID_MS = 500
/** Each of these jobs is read, on the connection that adds customers' jobs. */
const MOST_JOBS_READ = 2000

/** Faults may last long. A try costs Catalog a call, and an order waits at most this long after Catalog works again. */
export const MOST_BACKOFF_MS = 10_000
const FIRST_BACKOFF_MS = 200

/** @returns the pause after so many failed tries, in ms: 0.2 s, 0.4 s, ... 10 s, less a random part of up to a half, to spread the tries */
export function paymentBackoffMs(tries: number, chance: () => number = Math.random): number {
  const most = exponentialBackoffMs(tries, FIRST_BACKOFF_MS, MOST_BACKOFF_MS)
  return Math.round(most * (1 - chance() / 2))
}

const options: JobsOptions = {
  attempts: 1_000_000_000,
  backoff: { type: 'payment' }, // our own name: the worker calls paymentBackoffMs
  removeOnComplete: true,
  removeOnFail: { count: 1000 },
  keepLogs: 50, // a fault may last for days
}

export interface PaymentQueue {
  /**
   * Adds a job for each event that has none of its own.
   * @throws at once if Redis is away; after a second if it hangs, and then they may have been added
   */
  add(events: readonly PaymentTask[]): Promise<void>
  /** Adds a job for an event that has lost its job. @returns false if it has one of its own, which may be delayed */
  rescue(event: PaymentTask): Promise<boolean>
  /** Has payments tried now instead of at their next retry: promotes their jobs, and adds a job for each that has none. */
  retryNow(events: readonly Pick<PaymentTask, 'eventId' | 'orderId'>[]): Promise<void>
  /** The states of the events' own jobs, in their order. */
  jobStates(eventIds: readonly number[]): Promise<JobState[]>
  /** How long the oldest job has waited for a worker, in ms; 0 where none waits. */
  oldestWaitingMs(): Promise<number>
  /** Adds shared jobs for events that never had one: an event in two jobs would be processed twice. @throws like `add` */
  addTogether(events: readonly PaymentTask[]): Promise<void>
  /** Adds a delayed job for each event. @throws like `add` */
  addAgain(events: readonly PaymentTask[], delayMs: number): Promise<void>
  /**
   * Whether another job that waits or runs contains this event: a second attempt would take over from the one that runs.
   * Also true while more than 2,000 jobs wait, which are too many to read: a pause does no harm.
   * Reads Redis at most twice a second, for all events together.
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
 * @param clock for the jobs' timestamps: the clocks of hosts may differ
 */
export function createPaymentQueue(redis: RedisConnection, prefix: string, clock: Pick<Clock, 'databaseTime'>): PaymentQueue {
  const queue = openQueue(PAYMENT_QUEUE, redis, prefix)
  async function addJobs(jobs: ReturnType<typeof jobOf>[]): Promise<void> {
    if (jobs.length > 0) await queue.addBulk(jobs)
  }
  const stamp = () => ({ timestamp: Math.round(clock.databaseTime()) })
  const add: PaymentQueue['add'] = (events) => addJobs(events.map((event) => jobOf([event], stamp())))
  let lastRead: { endedAt: number; jobsOf: ReturnType<typeof readJobs> } | undefined
  async function readJobs(): Promise<Map<number, Set<string>> | 'too many'> {
    if ((await queue.getWaitingCount()) > MOST_JOBS_READ) return 'too many'
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
      if (!lastRead || performance.now() - lastRead.endedAt > JOBS_VALID_MS) {
        const read = { endedAt: Number.POSITIVE_INFINITY, jobsOf: readJobs() }
        read.jobsOf.catch(() => {}).finally(() => (read.endedAt = performance.now()))
        lastRead = read
      }
      const jobsOf = await lastRead.jobsOf
      return jobsOf === 'too many' || [...(jobsOf.get(eventId) ?? [])].some((one) => one !== jobId)
    },
    async rescue(event) {
      if (!(await freeJobId(queue, paymentJobId(event.eventId)))) return false
      await add([{ ...event, mayBeDriven: true }])
      return true
    },
    async retryNow(events) {
      await Promise.all(
        events.map(({ eventId, orderId }) =>
          runNow(queue, paymentJobId(eventId), () => add([{ eventId, orderId, attempt: null, mayBeDriven: true }])),
        ),
      )
    },
    jobStates: (eventIds) => jobStates(queue, eventIds.map(paymentJobId)),
    oldestWaitingMs: () => oldestWaitingMs(queue, clock.databaseTime()),
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
