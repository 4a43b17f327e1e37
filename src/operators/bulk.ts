/** Carries out bulk actions, a slice of their frozen set at a time. */
import { faultOf } from '../causes.ts'
import { endEmpty, type ItemOutcome, listRunning, lockRunning, nextItems, recordOutcomes, readAction } from '../db/operator-actions.ts'
import type { Pool, Transaction } from '../db/pool.ts'
import type { Logger } from '../telemetry/logger.ts'
import { actionOf } from './action-request.ts'
import { actOn } from './act-on.ts'
import { createVerbs, type ItemVerbName, type VerbDeps } from './verbs.ts'

/** Rows stay locked for so long as their transaction lasts. */
const MOST_IN_A_SLICE = 100

export interface BulkDeps extends VerbDeps {
  write(): Promise<Pool>
  logger: Logger
}

export interface BulkActions {
  /** Acts on as many items as the action's rate allows in a second. @returns false where nothing is left to do, or it does not run */
  runSecond(actionId: number): Promise<boolean>
  /** The actions that run. */
  running(): Promise<number[]>
}

export function createBulkActions(deps: BulkDeps): BulkActions {
  const verbs = createVerbs(deps)
  const { logger } = deps

  /** @returns how many items it acted on; 0 where none is left, or the action does not run */
  async function slice(pool: Pool, actionId: number, verbName: ItemVerbName, limit: number, reason: string): Promise<number> {
    const ids = await nextItems(pool, actionId, limit)
    if (ids.length === 0) {
      await pool.transaction(async (tx) => (await lockRunning(tx, actionId)) && endEmpty(tx, actionId))
      return 0
    }
    const act = (some: readonly number[]) => actOnSlice(pool, actionId, verbName, some, reason)
    try {
      return (await act(ids)) ? ids.length : 0
    } catch (error) {
      if (faultOf(error).cause !== 'internal-error') throw error
      logger.error({ err: error, action: actionId }, 'a slice of a bulk action failed; its items are tried one by one')
    }
    for (const id of ids) {
      try {
        if (!(await act([id]))) return 0
      } catch (error) {
        if (faultOf(error).cause !== 'internal-error') throw error
        await pool.transaction(async (tx) => {
          if (await lockRunning(tx, actionId))
            await recordOutcomes(tx, actionId, [
              { item: id, result: 'failed', detail: `a fault of this service: ${(error as Error).name}` },
            ])
        })
      }
    }
    return ids.length
  }

  /**
   * The action's row is locked before anything is done, and an item that has a result already is left alone: no item is acted on twice.
   * @returns false where the action does not run, or another worker is at it
   */
  async function actOnSlice(
    pool: Pool,
    actionId: number,
    verbName: ItemVerbName,
    ids: readonly number[],
    reason: string,
  ): Promise<boolean> {
    const inner = verbs[verbName]
    let runs = false
    const verb = {
      ...inner,
      async act(tx: Transaction, some: readonly number[], input: Parameters<typeof inner.act>[2]) {
        runs = (await lockRunning(tx, actionId)) !== undefined
        if (!runs) return { outcomes: [] as ItemOutcome[] }
        const left = new Set(await nextItems(tx, actionId, some.length))
        return inner.act(
          tx,
          some.filter((id) => left.has(id)),
          input,
        )
      },
    }
    await actOn(pool, { verb, ids, request: { reason, selection: {} }, logger }, async (tx, outcomes) => {
      if (outcomes.length > 0) await recordOutcomes(tx, actionId, outcomes)
    })
    return runs
  }

  return {
    async runSecond(actionId) {
      const pool = await deps.write()
      const row = await readAction(pool, actionId)
      if (row?.state !== 'RUNNING' || row.per_second === null) return false
      for (let left = row.per_second; left > 0; ) {
        const acted = await slice(pool, actionId, row.verb as ItemVerbName, Math.min(left, MOST_IN_A_SLICE), row.reason)
        if (acted === 0) break
        left -= acted
      }
      const after = await readAction(pool, actionId)
      if (after?.state !== 'RUNNING') {
        if (after) {
          const { verb, state, items, done, changed, failed } = actionOf(after)
          logger.info({ action: actionId, verb, state, items, done, changed, failed }, 'bulk action stopped')
        }
        return false
      }
      return true
    },
    running: async () => listRunning(await deps.write()),
  }
}
