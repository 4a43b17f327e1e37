/** The queue `operator-actions`: one job carries out one bulk action, a second's worth of items at a time. What is to be done is in PostgreSQL. */
import type { JobsOptions, Queue } from 'bullmq'
import { z } from 'zod'
import type { RedisConnection } from '../redis/connection.ts'
import { freeJobId, openQueue } from './queue-state.ts'

export const ACTION_QUEUE = 'operator-actions'

export const actionPayload = z.object({ actionId: z.int() })

const actionJobId = (actionId: number) => `action-${actionId}`

/** It ends when its action does. */
const options: JobsOptions = {
  attempts: 1_000_000,
  backoff: { type: 'fixed', delay: 1000 },
  removeOnComplete: true,
  removeOnFail: { count: 1000 },
}

export interface ActionQueue {
  /**
   * Ensures that each action has a job. May be called again: one that waits for its next second stays as it is, so that the action keeps its
   * rate.
   */
  ensureJobs(actionIds: readonly number[]): Promise<void>
  queue: Queue
  close(): Promise<void>
}

/** @param redis a connection that fails fast */
export function createActionQueue(redis: RedisConnection, prefix: string): ActionQueue {
  const queue = openQueue(ACTION_QUEUE, redis, prefix)
  return {
    async ensureJobs(actionIds) {
      for (const actionId of actionIds) {
        const jobId = actionJobId(actionId)
        if (await freeJobId(queue, jobId)) await queue.add('act', { actionId }, { ...options, jobId })
      }
    },
    queue,
    close: () => queue.close(),
  }
}
