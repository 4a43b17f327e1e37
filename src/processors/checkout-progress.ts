/** How an attempt at a checkout shows its progress: to the metrics, and in its job, for the operators' dashboard. */
import type { Job } from 'bullmq'
import type { Attempt } from '../db/checkout-rows.ts'
import type { StepName } from '../model.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { SagaObserver } from './saga.ts'

/** An attempt that takes longer shows its step in its job. */
const SLOW_MS = 1000

export interface Progress extends SagaObserver<StepName> {
  step: StepName
  /** Since this attempt began, in ms. */
  ms(): number
  /** Shows a message in the job's log. */
  report(message: string): Promise<void>
  stop(): void
}

/** From the second attempt on, or after a second, the job shows its step. A failure to show it has no effect on the checkout. */
export function watchProgress(job: Job, { orderId, attempt }: Attempt, metrics: Pick<Metrics, 'stepRetries' | 'stepSeconds'>): Progress {
  const began = performance.now()
  const title = () => `order ${orderId}, attempt ${attempt}, ${progress.step}`
  const show = () => job.updateProgress({ orderId, step: progress.step, attempt, since: new Date().toISOString() }).catch(() => {})
  const slow = setTimeout(() => {
    void show()
    void job.log(`${title()}: still running after 1 s`).catch(() => {})
  }, SLOW_MS)
  const progress: Progress = {
    step: 'reserve-stock',
    ms: () => performance.now() - began,
    began(step) {
      progress.step = step
      if (attempt > 1) {
        metrics.stepRetries.inc({ step })
        void show()
      }
    },
    ended(step, result, seconds) {
      metrics.stepSeconds.observe({ step, result }, seconds)
    },
    async report(message) {
      await Promise.all([show(), job.log(`${title()}: ${message}`).catch(() => {})])
    },
    stop: () => clearTimeout(slow),
  }
  return progress
}
