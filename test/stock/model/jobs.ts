/** BullMQ as the worker processes meet it: a job runs in one process, again after a pause, and elsewhere when its process falls silent. */
import { DelayedError, type Job } from 'bullmq'
import { CHECKOUT_QUEUE, backoffMs } from '../../../src/queues/checkout.ts'
import { PAYMENT_QUEUE, paymentBackoffMs } from '../../../src/queues/payment.ts'
import type { STOCK_QUEUE } from '../../../src/queues/stock.ts'
import type { Life, World } from './world.ts'

export type QueueName = typeof CHECKOUT_QUEUE | typeof PAYMENT_QUEUE | typeof STOCK_QUEUE

export type Processor = (job: Job, token?: string) => Promise<void>

/** A process that takes jobs. */
export interface Taker {
  life: Life
  processors: Record<QueueName, Processor>
}

export interface Jobs {
  /** One with this id that is there already stays. @param delayMs how long until it is due */
  add(queue: QueueName, id: string, data: unknown, delayMs?: number): void
  /** A job that waits for its time is due now. */
  promote(id: string): void
  has(id: string): boolean
  /** The data of the jobs that are due or under way, by id. */
  due(): [id: string, data: unknown][]
  /** A process was killed or stopped: where it stays silent, others take its jobs after 3 to 6 s. */
  silent(life: Life): void
  /** FLUSHALL. What runs goes on. */
  flush(): void
}

interface Held {
  queue: QueueName
  data: unknown
  started: number
  /** Tries that failed. */
  made: number
  /** Raised with each start and each pause: what belongs to an earlier one is void. */
  turn: number
  life: Life | undefined
  isDelayed: boolean
}

const NOBODY_FREE_MS = 100
/** Pauses are given as times of the host's clock, which goes on for some ms meanwhile: one seed has to be one history all the same. */
const PAUSES_ARE_MULTIPLES_OF_MS = 250

/** @param free a process that takes jobs now, if there is one */
export function playJobs(world: World, free: () => Taker | undefined): Jobs {
  const jobs = new Map<string, Held>()

  function plan(id: string, job: Held, ms: number, isDelayed: boolean): void {
    job.turn += 1
    job.life = undefined
    job.isDelayed = isDelayed
    const { turn } = job
    world.after(ms, () => {
      if (jobs.get(id) === job && job.turn === turn) start(id, job)
    })
  }

  function start(id: string, job: Held): void {
    const taker = free()
    if (!taker) return plan(id, job, NOBODY_FREE_MS, false)
    job.turn += 1
    job.started += 1
    job.life = taker.life
    job.isDelayed = false
    void drive(id, job, taker)
  }

  async function drive(id: string, job: Held, { life, processors }: Taker): Promise<void> {
    const { turn } = job
    const isOurs = () => jobs.get(id) === job && job.turn === turn
    let pauseMs: number | undefined
    const handed = {
      id,
      data: job.data,
      attemptsStarted: job.started,
      attemptsMade: job.made,
      async updateProgress() {},
      log: async () => 0,
      async moveToDelayed(at: number) {
        if (!isOurs()) throw new Error(`Missing lock for job ${id}. moveToDelayed`)
        pauseMs = Math.ceil((at - Date.now()) / PAUSES_ARE_MULTIPLES_OF_MS) * PAUSES_ARE_MULTIPLES_OF_MS
      },
    }
    let failed = false
    try {
      await processors[job.queue](handed as unknown as Job, 'token')
    } catch (error) {
      // A fault of the shop is met by another try; one in its code ends the history.
      if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) throw error
      failed = !(error instanceof DelayedError)
    }
    world.deliver(life, 0.1, () => {
      if (!isOurs()) return
      if (failed) {
        job.made += 1
        plan(id, job, backoffOf(job), true)
      } else if (pauseMs !== undefined) {
        plan(id, job, pauseMs, true)
      } else {
        jobs.delete(id)
      }
    })
  }

  function backoffOf({ queue, made }: Held): number {
    if (queue === CHECKOUT_QUEUE) return backoffMs(made) * world.chance.between(0.5, 1)
    return queue === PAYMENT_QUEUE ? paymentBackoffMs(made, () => world.chance.between(0, 1)) : 10_000
  }

  return {
    add(queue, id, data, delayMs = 0) {
      if (jobs.has(id)) return
      const job = { queue, data, started: 0, made: 0, turn: 0, life: undefined, isDelayed: delayMs > 0 }
      jobs.set(id, job)
      plan(id, job, delayMs + world.chance.between(0.2, 1), delayMs > 0)
    },
    promote(id) {
      const job = jobs.get(id)
      if (job?.isDelayed) plan(id, job, world.chance.between(0.2, 1), false)
    },
    has: (id) => jobs.has(id),
    due: () => [...jobs].filter(([, job]) => !job.isDelayed).map(([id, { data }]) => [id, data]),
    silent(life) {
      for (const [id, job] of jobs) {
        if (job.life !== life) continue
        const { turn } = job
        world.after(world.chance.between(3000, 6000), () => {
          const isSilent = !life.alive || life.thawsAt > world.now()
          if (isSilent && jobs.get(id) === job && job.turn === turn) plan(id, job, 0, false)
        })
      }
    },
    flush: () => jobs.clear(),
  }
}
