/** Opens queues, and reads the state of a queue and of its jobs. */
import { type Job, Queue } from 'bullmq'
import type { RedisConnection } from '../redis/connection.ts'

/** @param redis a connection that fails fast */
export function openQueue(name: string, redis: RedisConnection, prefix: string): Queue {
  const queue = new Queue(name, {
    connection: redis,
    prefix,
    skipWaitingForReady: true,
    // BullMQ's event stream is not used: replies have their own channel.
    streams: { events: { maxLen: 100 } },
  })
  queue.on('error', () => {}) // redis/connection.ts logs the errors of its connection
  return queue
}

/**
 * Removes a job with this id if it has ended; one that waits or runs stays. BullMQ silently ignores a new job whose id still exists, and
 * a rescued job needs its id.
 * @returns whether it is free
 */
export async function freeJobId(queue: Queue, jobId: string): Promise<boolean> {
  const state = await queue.getJobState(jobId)
  if (state === 'failed' || state === 'completed') await queue.remove(jobId)
  return state === 'failed' || state === 'completed' || state === 'unknown'
}

/**
 * Has a job run now: promotes it if it is delayed, and adds it if there is none. A job that waits or runs stays as it is. Calling it again does no harm.
 */
export async function runNow(queue: Queue, jobId: string, add: () => Promise<unknown>): Promise<void> {
  if ((await queue.getJobState(jobId)) === 'delayed') {
    const job = await queue.getJob(jobId)
    await job?.promote().catch(() => {}) // it has become due meanwhile
  } else if (await freeJobId(queue, jobId)) await add()
}

export type JobState = Awaited<ReturnType<Queue['getJobState']>>

/** The states of jobs, in the order of their ids; `unknown` where there is none. */
export const jobStates = (queue: Queue, jobIds: readonly string[]): Promise<JobState[]> =>
  Promise.all(jobIds.map((jobId) => queue.getJobState(jobId)))

/**
 * For readiness: a queue that an operator has paused accepts jobs, but no worker takes them.
 * @throws where it is paused, or Redis does not answer
 */
export async function requireRunning(queue: Queue): Promise<void> {
  if (await queue.isPaused()) throw new Error('paused by an operator')
}

/** How many of the oldest jobs are read at first. Mostly the first never ran; if all of them did, each further read has ten times as many. */
const READ_FIRST = 10
const READ_AT_MOST = 1000
/** After a long fault a hundred thousand jobs may wait for another run. To read so many takes seconds, on the connection of customers' jobs. */
const READ_IN_ALL = 2000

/**
 * How long the oldest job that never ran has waited for a worker, in ms; 0 where none waits. Delayed jobs do not count, and neither do
 * jobs that ran before, whose age is that of their first run. Where thousands of those wait in front, only the newest jobs are read: the
 * oldest may then have waited for longer.
 * @param now epoch ms, by the clock of the jobs' timestamps
 */
export async function oldestWaitingMs(queue: Queue, now: number): Promise<number> {
  const ageOf = (jobs: readonly (Job | undefined)[]) => {
    const fresh = jobs.find((job) => job?.attemptsStarted === 0 && !job.opts.delay)
    return fresh && Math.max(0, now - fresh.timestamp)
  }
  for (let from = 0, count = READ_FIRST; from < READ_IN_ALL; from += count, count = Math.min(READ_AT_MOST, count * 10)) {
    const jobs = await queue.getJobs('waiting', from, from + count - 1, true)
    const age = ageOf(jobs)
    if (age !== undefined) return age
    if (jobs.length === 0) return 0
  }
  return ageOf((await queue.getJobs('waiting', 0, READ_AT_MOST - 1)).toReversed()) ?? 0
}

/**
 * Whether a worker could take a job now: one waits, or its delay is over, and operators have not paused the queue.
 * @throws where Redis does not answer
 */
export async function waitsForWorker(queue: Queue): Promise<boolean> {
  const [isPaused, waiting, due] = await Promise.all([queue.isPaused(), queue.getWaitingCount(), queue.getDelayedCount(Date.now())])
  return !isPaused && waiting + due > 0
}

/** BullMQ keeps delayed jobs by this: the time in ms, shifted by 12 bits for a counter. */
const DELAYED_SHIFT = 4096

/** When a job runs next: the end of its delay; `now` where it waits or runs; undefined where it does not exist, or has ended. */
export async function nextRun(queue: Queue, jobId: string): Promise<Date | 'now' | undefined> {
  const client = await queue.getBackend().client
  const score = await client.zscore(queue.toKey('delayed'), jobId)
  if (score !== null) return new Date(Math.floor(Number(score) / DELAYED_SHIFT))
  const state = await queue.getJobState(jobId)
  return state === 'waiting' || state === 'active' || state === 'prioritized' ? 'now' : undefined
}

/** When delayed jobs run next, in one call: undefined for a job that is not delayed. */
export async function nextRuns(queue: Queue, jobIds: readonly string[]): Promise<(Date | undefined)[]> {
  if (jobIds.length === 0) return []
  const client = await queue.getBackend().client
  const scores = await (client as unknown as RedisConnection).zmscore(queue.toKey('delayed'), ...jobIds)
  return scores.map((score) => (score === null ? undefined : new Date(Math.floor(Number(score) / DELAYED_SHIFT))))
}
