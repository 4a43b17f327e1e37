/** What a queue says of its jobs, and what is made of it. */
import type { Queue } from 'bullmq'

/**
 * Removes a job with this id that has ended; one that waits, or runs, stays. BullMQ keeps silent about an id that it still has, and a
 * rescued job needs its id free.
 * @returns whether it is free
 */
export async function freeJobId(queue: Queue, jobId: string): Promise<boolean> {
  const state = await queue.getJobState(jobId)
  if (state === 'failed' || state === 'completed') await queue.remove(jobId)
  return state === 'failed' || state === 'completed' || state === 'unknown'
}

/** How many of the oldest are looked at: those that ran before are as old as their first run, and say nothing of how long they wait. */
const LOOKED_AT = 10

/**
 * How long the oldest job that never ran has waited for a worker, in ms; 0 where none waits. Those that were added for later say nothing.
 * @param now epoch ms, by the clock that jobs are stamped with
 */
export async function oldestWaitingMs(queue: Queue, now: number): Promise<number> {
  const jobs = await queue.getJobs('waiting', 0, LOOKED_AT - 1, true)
  const fresh = jobs.find((job) => job?.attemptsStarted === 0 && !job.opts.delay)
  return fresh ? Math.max(0, now - fresh.timestamp) : 0
}

/**
 * Whether a job could be taken now: one that waits, or whose delay is over. Not so in a queue that its operators have paused.
 * @throws where Redis cannot say
 */
export async function waitsForWorker(queue: Queue): Promise<boolean> {
  const [isPaused, waiting, due] = await Promise.all([queue.isPaused(), queue.getWaitingCount(), queue.getDelayedCount(Date.now())])
  return !isPaused && waiting + due > 0
}
