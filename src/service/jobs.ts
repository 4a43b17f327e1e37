/** BullMQ's workers, one a queue, and what their watchdogs check: a worker with room for a job must take one that waits. */
import type { Job, Queue, WorkerOptions } from 'bullmq'
import { faultOf } from '../causes.ts'
import { within } from '../within.ts'
import type { Config } from '../config.ts'
import { PatchedWorker } from '../patches/bullmq.ts'
import { waitsForWorker } from '../queues/queue-state.ts'
import { connectPatient, type RedisConnection } from '../redis/connection.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Probes } from './probes.ts'
import { restartable } from './restartable.ts'
import type { Watched } from './watchdog.ts'

/** Part of the 15 s in which a process has to end. Jobs that run longer are left to other workers. */
export const JOBS_END_MS = 3000
/** Longer than any try of a job: its own limits are 20 s for its products, a call, and the check after it. */
const longestJobMs = (callTimeoutMs: number) => 60_000 + 10 * callTimeoutMs

export interface JobsOptions {
  queue: Queue
  /** How many jobs run at a time. */
  concurrency: number
  processor: (job: Job, token?: string) => Promise<void>
  settings?: NonNullable<WorkerOptions['settings']>
  /** Whether the process is not ready while these jobs are stalled. */
  required: boolean
}

export interface Jobs {
  watched: Watched
  /** Runs at most so many jobs at a time from now on, and never more than `concurrency`; 0 takes none. Jobs that run continue. */
  limit(most: number): void
  /** Waits up to 3 s for the jobs that run. */
  stop(): Promise<void>
}

interface JobsDeps {
  config: Config
  logger: Logger
  metrics: Pick<Metrics, 'failures'>
  probes: Probes
}

/** Begins to take jobs at once. */
export function startJobs(deps: JobsDeps, options: JobsOptions): Jobs {
  const { config, probes } = deps
  const { queue, required } = options
  let concurrency = options.concurrency
  const worker = restartable(() => createWorker(deps, options, concurrency))
  worker.start()

  async function shouldTake(): Promise<boolean> {
    const { underWay, lastBegan } = worker.current().done
    // While all of its jobs run, other workers take what waits.
    if (concurrency === 0 || (underWay >= concurrency && performance.now() - lastBegan < longestJobMs(config.CALL_TIMEOUT_MS))) return false
    return waitsForWorker(queue)
  }

  return {
    watched: {
      name: `${queue.name}-worker`,
      required,
      async waiting() {
        const { begun, ended } = worker.current().done
        const [jobsWait] = await Promise.all([shouldTake(), worker.current().ping()])
        return jobsWait ? [{ what: 'jobs wait for a worker', mark: begun + ended }] : []
      },
      succeeded: () => worker.current().done.succeeded,
      probe: () => Promise.all([probes.redis(), probes.postgres()]),
      restart: worker.restart,
    },
    limit(most) {
      concurrency = Math.min(most, options.concurrency)
      worker.current().limit(concurrency)
    },
    stop: worker.stop,
  }
}

interface Done {
  begun: number
  /** Successful or not. */
  ended: number
  succeeded: number
  underWay: number
  /** On the monotonic clock. */
  lastBegan: number
}

/** A worker on a connection of its own, which counts its jobs. @param concurrency at the start; 0 takes none */
function createWorker({ config, logger, metrics }: JobsDeps, { queue, processor, settings }: JobsOptions, concurrency: number) {
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
    /** On the connection that fetches jobs. BullMQ itself watches the one on which it waits for them. */
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
        concurrency: Math.max(1, concurrency),
        autorun: concurrency > 0,
        settings: settings ?? {},
        // Another worker takes over a killed worker's jobs within 2 x 1.5 s + 3 s, inside a customer's budget.
        lockDuration: 3000,
        stalledInterval: 1500,
        // The deadline in PostgreSQL ends a checkout, not BullMQ's count of dead workers.
        maxStalledCount: 1000,
        // A frozen process may hold the wake-up of a job: the others poll after so many seconds.
        drainDelay: 1,
        // After a failed fetch, as from a dead node of a cluster, BullMQ would wait 15 s: twice as long as a customer.
        runRetryDelay: 500,
      }).beginAtOnce()
      worker.on('error', (error) => logger.debug({ err: error, queue: queue.name }, 'worker error'))
      worker.on('failed', (job, error) => {
        if (job && !job.finishedOn) return
        const { cause, service } = faultOf(error)
        metrics.failures.inc({ cause, service: service ?? '' })
        logger.error({ err: error, queue: queue.name, job: job?.id }, 'job failed for good')
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
