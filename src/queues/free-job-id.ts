/** BullMQ keeps silent about an id that it still has, also where that job has ended: a rescued one needs its id free. */
import type { Queue } from 'bullmq'

/** Removes a job with this id that has ended; one that waits, or runs, stays. */
export async function freeJobId(queue: Queue, jobId: string): Promise<void> {
  const state = await queue.getJobState(jobId)
  if (state === 'failed' || state === 'completed') await queue.remove(jobId)
}
