/**
 * Gauges that are read from PostgreSQL and Redis at each scrape. They use a PostgreSQL connection of their own: it takes none from
 * customers, and a scrape works even while all of the pool are in use.
 */
import { type Cause, causeOfLetter } from '../causes.ts'
import { countLetters } from '../db/dead-letters.ts'
import { readDrain } from '../db/drain.ts'
import { readLag } from '../db/outbox.ts'
import { readBridgeTotals } from '../db/inbox.ts'
import { readInventorySums } from '../db/inventory-view.ts'
import { lazyPool } from '../db/lazy-pool.ts'
import { readProcesses } from '../db/processes.ts'
import { readNumbersLeft } from '../db/sequences.ts'
import type { DeadLetterFault } from '../model.ts'
import { evictionPolicies } from '../redis/eviction.ts'
import { oldestWaitingMs } from '../queues/queue-state.ts'
import { allRoles, type Base } from './connect.ts'

/** Dead letters by cause, 0 where none waits: an alert ends only when the gauge is 0 again. */
function lettersByCause(byFault: Partial<Record<DeadLetterFault, number>>): Map<Cause, number> {
  const letters = new Map<Cause, number>()
  for (const [fault, cause] of Object.entries(causeOfLetter)) {
    letters.set(cause, (letters.get(cause) ?? 0) + (byFault[fault as DeadLetterFault] ?? 0))
  }
  return letters
}

export function watchGauges(base: Base): void {
  const { config, logger, metrics, redis, clock, checkoutQueue, stockQueue, paymentQueue, actionQueue, closers } = base
  const { connected: own, end } = lazyPool(config.POSTGRES_DSN, {
    size: 1,
    statementTimeoutMs: config.POSTGRES_STATEMENT_TIMEOUT_MS,
    logger,
  })
  closers.push(end)
  metrics.refreshed.push(
    async () => {
      const lag = await readLag(await own())
      metrics.outboxUnsent.set(lag.unsent)
      metrics.outboxLagSeconds.set(lag.oldestSeconds)
      metrics.outboxUndeliverable.set(lag.undeliverable)
    },
    async () => {
      const { ignored, ...totals } = await readBridgeTotals(await own())
      for (const [entry, count] of Object.entries(totals)) metrics.bridgeTotals.set({ entry }, count)
      metrics.bridgeTotals.set({ entry: 'ignored' }, ignored)
    },
    async () => {
      const { byFault, unpublished } = await countLetters(await own())
      for (const [cause, letters] of lettersByCause(byFault)) metrics.deadLettersWaiting.set({ cause }, letters)
      metrics.deadLettersUnpublished.set(unpublished)
    },
    async () => {
      const sums = await readInventorySums(await own())
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
      const seen = (await readProcesses(await own())).flatMap(({ roles }) => roles)
      // Also 0: an alert about a role that nobody has needs its series.
      for (const role of allRoles) metrics.processes.set({ role }, seen.filter((one) => one === role).length)
    },
    async () => metrics.drained.set((await readDrain(await own())) ? 1 : 0),
    async () => {
      for (const [sequence, left] of await readNumbersLeft(await own())) metrics.numbersLeft.set({ sequence }, left)
    },
    async () => {
      const policies = await evictionPolicies(redis)
      metrics.redisPolicies.reset()
      for (const [policy, servers] of policies) metrics.redisPolicies.set({ policy }, servers)
    },
    ...[checkoutQueue.queue, paymentQueue.queue, stockQueue.queue, actionQueue.queue].map((queue) => async () => {
      const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'failed')
      for (const [state, count] of Object.entries(counts)) metrics.jobs.set({ queue: queue.name, state }, count)
      metrics.queuePaused.set({ queue: queue.name }, (await queue.isPaused()) ? 1 : 0)
      metrics.oldestJobSeconds.set({ queue: queue.name }, (await oldestWaitingMs(queue, clock.databaseTime())) / 1000)
    }),
  )
}
