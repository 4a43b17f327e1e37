/** What a queue says of its jobs, and what is made of it. */
import type { Queue } from 'bullmq'

/**
 * Removes a job with this id that has ended; one that waits, or runs, stays. BullMQ keeps silent about an id that it still has, and a
 * rescued job needs its id free.
 */
export async function freeJobId(queue: Queue, jobId: string): Promise<void> {
  const state = await queue.getJobState(jobId)
  if (state === 'failed' || state === 'completed') await queue.remove(jobId)
}

/** How long the oldest job has waited for a worker, in ms; 0 where none waits. */
export async function oldestWaitingMs(queue: Queue): Promise<number> {
  const [oldest] = await queue.getJobs('waiting', 0, 0, true)
  return oldest ? Date.now() - oldest.timestamp : 0
}
