/**
 * The reaper prunes rows whose retention has ended. It runs in every worker by a timer. Two reapers share the work, since each takes rows
 * that the other has not locked.
 */
import type { Pool } from '../db/pool.ts'
import {
  type Prune,
  pruneActionItems,
  pruneAmbiguities,
  pruneCheckouts,
  pruneDeadLetters,
  pruneEditedMessages,
  pruneInbox,
  pruneMinutes,
  pruneOutbox,
  pruneProcesses,
  pruneReconciliations,
  pruneUnansweredCalls,
} from '../db/retention.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** How long rows are kept, in ms. */
export interface Retention {
  /** Outbox: after the acknowledgement. */
  outboxMs: number
  /** Address and cart of a checkout: after its beginning. */
  checkoutMs: number
  /** Bytes of payment events after they came, of dead letters and of edited messages after they were dealt with. */
  inboxMs: number
  /** What was reconciled, what stayed ambiguous, and the items of operators' actions. */
  reconciliationsMs: number
}

export interface ReaperDeps {
  pool: Pool
  retention: Retention
  logger: Logger
  metrics: Pick<Metrics, 'pruned'>
  /** Rows per statement: they stay locked for some 10 ms. */
  batchRows?: number
  /** Between two statements, so that customers' statements go first. */
  pause?: () => Promise<unknown>
}

/** Of the operators' charts. */
const MINUTES_MS = 30 * 86_400_000
/** A process that reported nothing for so long has ended. */
const PROCESSES_MS = 3_600_000
const BATCH_ROWS = 500
const PAUSE_MS = 50
const aWhile = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS))

/** One run, until nothing is due. @returns rows pruned, by table. @throws where the run failed; rows pruned before stay pruned */
export type Reaper = (signal?: AbortSignal) => Promise<Record<string, number>>

export function createReaper({ pool, retention, logger, metrics, batchRows = BATCH_ROWS, pause = aWhile }: ReaperDeps): Reaper {
  const tables: [table: string, prune: Prune, ageMs: number][] = [
    ['outbox', pruneOutbox, retention.outboxMs],
    ['checkouts', pruneCheckouts, retention.checkoutMs],
    ['payment_events', pruneInbox, retention.inboxMs],
    ['dead_letters', pruneDeadLetters, retention.inboxMs],
    ['reconciliations', pruneReconciliations, retention.reconciliationsMs],
    ['ambiguities', pruneAmbiguities, retention.reconciliationsMs],
    ['unanswered_calls', pruneUnansweredCalls, retention.reconciliationsMs],
    ['operator_actions', pruneEditedMessages, retention.inboxMs],
    ['operator_action_items', pruneActionItems, retention.reconciliationsMs],
    ['minutes', pruneMinutes, MINUTES_MS],
    ['processes', pruneProcesses, PROCESSES_MS],
  ]

  async function pruneAll(prune: Prune, ageMs: number, table: string, signal: AbortSignal | undefined): Promise<number> {
    for (let total = 0; ; await pause()) {
      const rows = await prune(pool, ageMs, batchRows)
      metrics.pruned.inc({ table }, rows)
      total += rows
      if (rows < batchRows || signal?.aborted) return total
    }
  }

  return async (signal) => {
    const pruned: Record<string, number> = {}
    for (const [table, prune, ageMs] of tables) {
      if (signal?.aborted) break
      pruned[table] = await pruneAll(prune, ageMs, table, signal)
    }
    if (Object.values(pruned).some((rows) => rows > 0)) logger.info({ pruned }, 'expired rows pruned')
    return pruned
  }
}
