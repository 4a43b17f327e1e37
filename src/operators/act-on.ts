/** Acts on a set of items in the transaction that records it. */
import type { ItemOutcome } from '../db/operator-actions.ts'
import type { Pool, Transaction } from '../db/pool.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Selection } from './action.ts'
import type { ItemVerb } from './item-verb.ts'

export interface ActOnOptions {
  verb: ItemVerb
  ids: readonly number[]
  request: { reason: string; selection: Selection }
  logger: Logger
}

/**
 * @param record writes the results, in the transaction of the act
 * @returns what `record` returned. Workers and relay have been woken by then; if that failed, their timers find the work
 */
export async function actOn<T>(
  pool: Pool,
  { verb, ids, request, logger }: ActOnOptions,
  record: (tx: Transaction, outcomes: readonly ItemOutcome[]) => Promise<T>,
): Promise<T> {
  const jobs = (await verb.prepare?.(ids)) ?? new Map()
  const { selection, reason } = request
  const value = 'items' in selection ? selection.value : undefined
  const [recorded, after] = await pool.transaction(async (tx) => {
    const acted = await verb.act(tx, ids, { reason: reason.trim(), value, jobs })
    return [await record(tx, acted.outcomes), acted.after] as const
  })
  await after?.().catch((error) => logger.warn({ err: error }, 'nobody was woken after an operator action; timers find the work'))
  return recorded
}
