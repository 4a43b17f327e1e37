/** What verbs that act on items have in common. */
import type { sql } from 'slonik'
import type { Cause, ServiceName } from '../causes.ts'
import type { ItemOutcome } from '../db/operator-actions.ts'
import type { Transaction } from '../db/pool.ts'
import type { JobState } from '../queues/queue-state.ts'

/** What a verb gets besides the items. */
export interface ActInput {
  reason: string
  /** The edited bytes of a dead letter. */
  value?: Buffer | undefined
  /** What `prepare` returned. */
  jobs: ReadonlyMap<number, JobState>
}

/** The results in any order. `after` is called when the transaction is committed, and may be called again. */
export interface VerbResult {
  outcomes: ItemOutcome[]
  after?: () => Promise<void>
}

export interface ItemVerb {
  /** A statement that selects the `id` of each item that has a cause now. */
  having?: (cause: Cause, service: ServiceName | null) => ReturnType<typeof sql.fragment>
  /** Reads what only Redis knows, before the transaction. */
  prepare?: (ids: readonly number[]) => Promise<Map<number, JobState>>
  /** @throws ActionRefused where nothing is to be done at all */
  act(tx: Transaction, ids: readonly number[], input: ActInput): Promise<VerbResult>
}

/** Why nothing was done where another session has locked the item's row. */
export const LOCKED_ROW = 'its row is locked by another session; try again'

export const changed = (item: number, detail: string): ItemOutcome => ({ item, result: 'changed', detail })
export const unchanged = (item: number, detail: string): ItemOutcome => ({ item, result: 'unchanged', detail })
export const failed = (item: number, detail: string): ItemOutcome => ({ item, result: 'failed', detail })
