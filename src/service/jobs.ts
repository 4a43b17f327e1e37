/** BullMQ's workers, one a queue, and what is watched of them: one that has places free has to take what waits. */
import type { Job, Queue, WorkerOptions } from 'bullmq'
import { within } from '../within.ts'
import type { Config } from '../config.ts'
import { PatchedWorker } from '../patches/bullmq.ts'
import { waitsForWorker } from '../queues/queue-state.ts'
import { connectPatient, type RedisConnection } from '../redis/connection.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Probes } from './probes.ts'
import { restartable } from './restartable.ts'
import type { Watched } from './watchdog.ts'

/** Of the 15 s that a process has to end in: then the jobs are left to others. */
export const JOBS_END_MS = 3000
/** A job's own time limits end each try of it sooner: 20 s for its products, a call, and the check after it. */
const longestJobMs = (callTimeoutMs: number) => 60_000 + 10 * callTimeoutMs

export interface JobsOptions {
  queue: Queue
  /** Jobs under way at a time. */
  concurrency: number
  processor: (job: Job, token?: string) => Promise<void>
  settings?: NonNullable<WorkerOptions['settings']>
  /** Whether a process that takes none of these jobs is not ready. */
  required: boolean
}

export interface Jobs {
  watched: Watched
  /** At most so many jobs at a time from now on, and never more than `concurrency`; 0 takes none. Those under way go on. */
  limit(most: number): void
  /** Lets the jobs under way end, for 3 s. */
  stop(): Promise<void>
}

/** Starts to take jobs at once. */
export function startJobs(deps: { config: Config; logger: Logger; probes: Probes }, options: JobsOptions): Jobs {
  const { config, probes } = deps
  const { queue, required } = options
  let places = options.concurrency
  const worker = restartable(() => createWorker(deps, options, places))
  worker.start()

  async function isOursToTake(): Promise<boolean> {
    const { underWay, lastBegan } = worker.current().done
    // Others may take what waits for as long as these jobs go on.
    if (places === 0 || (underWay >= places && performance.now() - lastBegan < longestJobMs(config.CALL_TIMEOUT_MS))) return false
    return waitsForWorker(queue)
  }

  return {
    watched: {
      name: `${queue.name}-worker`,
      required,
      async waiting() {
        const { begun, ended } = worker.current().done
        const [isOurs] = await Promise.all([isOursToTake(), worker.current().ping()])
        return isOurs ? [{ what: 'jobs wait for a worker', mark: begun + ended }] : []
      },
      succeeded: () => worker.current().done.succeeded,
      probe: () => Promise.all([probes.redis(), probes.postgres()]),
      restart: worker.restart,
    },
    limit(most) {
      places = Math.min(most, options.concurrency)
      worker.current().limit(places)
    },
    stop: worker.stop,
  }
}

interface Done {
  begun: number
  /** With what failed, and without. */
  ended: number
  succeeded: number
  underWay: number
  /** On the monotonic clock. */
  lastBegan: number
}

/** A worker on a connection of its own, which counts what it does. @param places jobs at a time, to begin with; 0 takes none */
function createWorker({ config, logger }: { config: Config; logger: Logger }, { queue, processor, settings }: JobsOptions, places: number) {
  const done: Done = { begun: 0, ended: 0, succeeded: 0, underWay: 0, lastBegan: 0 }
  let connection: RedisConnection | undefined
  let worker: PatchedWorker | undefined

  async function counted(job: Job, token?: string): Promise<void> {
    done.begun += 1
    done.underWay += 1
    done.lastBegan = performance.now()
    try {
      await processor(job, token)
      done.succeeded += 1
    } finally {
      done.underWay -= 1
      done.ended += 1
    }
  }

  return {
    done,
    /** By the connection that jobs are taken with. BullMQ itself looks after the one on which it waits for them. */
    ping: async () => connection?.ping(),
    /** @param most 0 takes none */
    limit(most: number) {
      if (most === 0) return void worker?.pause(true)
      if (worker) worker.concurrency = most
      void worker?.resume()
    },
    start() {
      connection = connectPatient(config.REDIS_URL, logger)
      worker = new PatchedWorker(queue.name, counted, {
        connection,
        prefix: config.REDIS_PREFIX,
        concurrency: Math.max(1, places),
        autorun: places > 0,
        settings: settings ?? {},
        // A killed worker's jobs are taken up by another one within 2 x 1.5 s + 3 s, inside a customer's budget.
        lockDuration: 3000,
        stalledInterval: 1500,
        // PostgreSQL's deadline ends a checkout, not BullMQ's count of how often its worker died.
        maxStalledCount: 1000,
        // A frozen process may hold the wake-up of a job: the others look themselves after so many seconds.
        drainDelay: 1,
        // After a fetch that failed, as those to a cluster's node that died do, BullMQ waits for 15 s: twice as long as a customer.
        runRetryDelay: 500,
      }).beginAtOnce()
      worker.on('error', (error) => logger.debug({ err: error, queue: queue.name }, 'worker'))
      worker.on('failed', (job, error) => {
        if (!job || job.finishedOn) logger.error({ err: error, queue: queue.name, job: job?.id }, 'a job failed for good')
      })
    },
    async stop() {
      try {
        await within(JOBS_END_MS, worker?.close() ?? Promise.resolve())
      } catch (error) {
        await worker?.cutOff()
        throw error
      } finally {
        connection?.disconnect()
      }
    },
  }
}
