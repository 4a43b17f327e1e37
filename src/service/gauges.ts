/** The gauges whose truth lies in PostgreSQL and Redis: asked when somebody scrapes. */
import { countLetters } from '../db/dead-letters.ts'
import { readLag } from '../db/outbox.ts'
import { readBridgeBooks } from '../db/inbox.ts'
import { readInventorySums } from '../db/inventory-view.ts'
import { evictionPolicies } from '../queues/eviction.ts'
import { oldestWaitingMs } from '../queues/queue-state.ts'
import type { Base } from './connect.ts'

export function watchGauges({ metrics, pool, redis, clock, checkoutQueue, stockQueue, paymentQueue }: Base): void {
  metrics.refreshed.push(
    async () => {
      const lag = await readLag(pool)
      metrics.outboxUnsent.set(lag.unsent)
      metrics.outboxLagSeconds.set(lag.oldestSeconds)
      metrics.outboxSetAside.set(lag.setAside)
    },
    async () => {
      const { passedBy, ...books } = await readBridgeBooks(pool)
      for (const [entry, count] of Object.entries(books)) metrics.bridgeBooks.set({ entry }, count)
      metrics.bridgeBooks.set({ entry: 'passed-by' }, passedBy)
    },
    async () => {
      const { waiting, unpublished } = await countLetters(pool)
      metrics.deadLettersWaiting.set(waiting)
      metrics.deadLettersUnpublished.set(unpublished)
    },
    async () => {
      const sums = await readInventorySums(pool)
      metrics.productsUnreconciled.set(sums.unreconciled)
      metrics.unitsOversold.set(sums.oversold)
      metrics.foreignHolds.set(sums.foreignHolds)
      metrics.corrections.set({ kind: 'hold' }, sums.holdCorrection)
      metrics.corrections.set({ kind: 'stock' }, sums.stockCorrection)
      metrics.ambiguousUnits.set(sums.ambiguous)
      metrics.unansweredCalls.set(sums.unanswered)
      metrics.unansweredOldestSeconds.set(sums.oldestUnansweredSeconds)
      metrics.reconcilingLongestSeconds.set(sums.longestReconcilingSeconds)
    },
    async () => {
      const policies = await evictionPolicies(redis)
      metrics.redisPolicies.reset()
      for (const [policy, servers] of policies) metrics.redisPolicies.set({ policy }, servers)
    },
    ...[checkoutQueue.queue, paymentQueue.queue, stockQueue.queue].map((queue) => async () => {
      const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'failed')
      for (const [state, count] of Object.entries(counts)) metrics.jobs.set({ queue: queue.name, state }, count)
      metrics.queuePaused.set({ queue: queue.name }, (await queue.isPaused()) ? 1 : 0)
      metrics.oldestJobSeconds.set({ queue: queue.name }, (await oldestWaitingMs(queue, clock.wallTime())) / 1000)
    }),
  )
}
