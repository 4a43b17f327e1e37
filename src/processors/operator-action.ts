/** The processor of bulk actions: a run of the job acts on a second's worth of items, and puts the job back until the next second. */
import type { Job } from 'bullmq'
import type { BulkActions } from '../operators/bulk-actions.ts'
import { actionPayload } from '../queues/operator-actions.ts'
import { postpone } from './shared-job.ts'

const SECOND_MS = 1000

export function createActionProcessor(bulk: Pick<BulkActions, 'runSecond'>): (job: Job, token?: string) => Promise<void> {
  return async (job, token) => {
    const began = performance.now()
    const { actionId } = actionPayload.parse(job.data)
    if (await bulk.runSecond(actionId)) await postpone(job, token, Math.max(0, SECOND_MS - (performance.now() - began)))
  }
}
