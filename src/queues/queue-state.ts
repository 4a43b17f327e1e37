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

/**
 * For readiness: a queue that an operator has paused takes jobs, and nobody takes them from it.
 * @throws where it is paused, or Redis cannot say
 */
export async function requireRunning(queue: Queue): Promise<void> {
  if (await queue.isPaused()) throw new Error('paused by an operator')
}

/** How many of the oldest are read at first. One that never ran is mostly the very first; where it is not, each further read has ten times as many. */
const READ_FIRST = 10
const READ_AT_MOST = 1000

/**
 * How long the oldest job that never ran has waited for a worker, in ms; 0 where none waits. Those that were added for later say nothing,
 * and neither do those that ran before: they are as old as their first run.
 * @param now epoch ms, by the clock that jobs are stamped with
 */
export async function oldestWaitingMs(queue: Queue, now: number): Promise<number> {
  for (let from = 0, count = READ_FIRST; ; from += count, count = Math.min(READ_AT_MOST, count * 10)) {
    const jobs = await queue.getJobs('waiting', from, from + count - 1, true)
    const fresh = jobs.find((job) => job?.attemptsStarted === 0 && !job.opts.delay)
    if (fresh) return Math.max(0, now - fresh.timestamp)
    if (jobs.length === 0) return 0
  }
}

/**
 * Whether a job could be taken now: one that waits, or whose delay is over. Not so in a queue that its operators have paused.
 * @throws where Redis cannot say
 */
export async function waitsForWorker(queue: Queue): Promise<boolean> {
  const [isPaused, waiting, due] = await Promise.all([queue.isPaused(), queue.getWaitingCount(), queue.getDelayedCount(Date.now())])
  return !isPaused && waiting + due > 0
}
