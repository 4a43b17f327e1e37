/** Jobs that may carry several tasks: how they run, and how a task that has to be repeated gets a job of its own. */
import { DelayedError, type Job } from 'bullmq'

export interface SharedJob<Task> {
  /** Runs the only task of the job. It throws to have the job repeated. */
  runAlone(task: Task): Promise<void>
  /** Runs one of several tasks. Where it has to be repeated, it gets a job of its own. */
  runShared(task: Task): Promise<void>
  /** Gives each task a job of its own. */
  split(tasks: readonly Task[]): Promise<void>
}

/** @throws what a task throws, after all of them have ended */
export async function runTasks<Task>(job: Job, tasks: readonly Task[], { runAlone, runShared, split }: SharedJob<Task>): Promise<void> {
  if (tasks.length === 1) return runAlone(tasks[0]!)
  // A second run of the job means that its worker died or stalled. Some tasks have jobs of their own by now, and keep them.
  if (job.attemptsStarted > 1) return split(tasks)
  // All tasks end before the job may run again: a second run would take over from attempts that are still at work.
  const ends = await Promise.allSettled(tasks.map(runShared))
  const failed = ends.find((end) => end.status === 'rejected')
  if (failed) throw failed.reason
}

/** Puts the job back into its queue for `pauseMs`. @throws DelayedError always, as BullMQ requires */
export async function postpone(job: Job, token: string | undefined, pauseMs: number): Promise<never> {
  await job.moveToDelayed(Date.now() + pauseMs, token)
  throw new DelayedError()
}
