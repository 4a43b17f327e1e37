/** Carries out bulk actions, a slice of their frozen set at a time. */
import { faultOf } from '../causes.ts'
import { endEmpty, listRunning, lockRunning, nextItems, recordOutcomes, readAction } from '../db/operator-actions.ts'
import type { Pool } from '../db/pool.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Action } from './action.ts'
import { actionOf } from './check-action.ts'
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

interface Bulk extends BulkDeps {
  verbs: ReturnType<typeof createVerbs>
}

/** A part of an action: so many of its items, in one transaction. */
interface Slice {
  actionId: number
  verb: ItemVerbName
  reason: string
  ids: readonly number[]
}

export function createBulkActions(deps: BulkDeps): BulkActions {
  const bulk: Bulk = { ...deps, verbs: createVerbs(deps) }
  return {
    async runSecond(actionId) {
      const pool = await deps.write()
      const row = await readAction(pool, actionId)
      if (row?.state !== 'RUNNING' || row.per_second === null) return false
      for (let left = row.per_second; left > 0; ) {
        const acted = await runSlice(bulk, pool, { actionId, verb: row.verb as ItemVerbName, reason: row.reason }, left)
        if (acted === 0) break
        left -= acted
      }
      const after = await readAction(pool, actionId)
      if (after?.state === 'RUNNING') return true
      if (after) logEnd(deps.logger, actionOf(after))
      return false
    },
    running: async () => listRunning(await deps.write()),
  }
}

function logEnd(logger: Logger, { id: action, verb, state, items, done, changed, failed }: Action): void {
  logger.info({ action, verb, state, items, done, changed, failed }, 'bulk action stopped')
}

/** @returns how many items it acted on; 0 where none is left, or the action does not run */
async function runSlice(bulk: Bulk, pool: Pool, part: Omit<Slice, 'ids'>, most: number): Promise<number> {
  const { actionId } = part
  const ids = await nextItems(pool, actionId, Math.min(most, MOST_IN_A_SLICE))
  if (ids.length === 0) {
    await pool.transaction(async (tx) => (await lockRunning(tx, actionId)) && endEmpty(tx, actionId))
    return 0
  }
  try {
    return (await actOnSlice(bulk, pool, { ...part, ids })) ? ids.length : 0
  } catch (error) {
    if (faultOf(error).cause !== 'internal-error') throw error
    bulk.logger.error({ err: error, action: actionId }, 'a slice of a bulk action failed; its items are tried one by one')
    return oneByOne(bulk, pool, { ...part, ids })
  }
}

/** An item that cannot be acted on fails alone. @returns as `runSlice` */
async function oneByOne(bulk: Bulk, pool: Pool, slice: Slice): Promise<number> {
  const { actionId, ids } = slice
  for (const id of ids) {
    try {
      if (!(await actOnSlice(bulk, pool, { ...slice, ids: [id] }))) return 0
    } catch (error) {
      if (faultOf(error).cause !== 'internal-error') throw error
      const outcome = { item: id, result: 'failed', detail: `a fault of this service: ${(error as Error).name}` } as const
      await pool.transaction(async (tx) => (await lockRunning(tx, actionId)) && recordOutcomes(tx, actionId, [outcome]))
    }
  }
  return ids.length
}

/**
 * The action's row is locked before anything is done, and an item that has a result already is left alone: no item is acted on twice.
 * @returns false where the action does not run, or another worker is at it
 */
async function actOnSlice({ verbs, logger }: Bulk, pool: Pool, { actionId, verb: name, reason, ids }: Slice): Promise<boolean> {
  const inner = verbs[name]
  let runs = false
  const act: typeof inner.act = async (tx, some, input) => {
    runs = (await lockRunning(tx, actionId)) !== undefined
    if (!runs) return { outcomes: [] }
    const left = new Set(await nextItems(tx, actionId, some.length))
    return inner.act(
      tx,
      some.filter((id) => left.has(id)),
      input,
    )
  }
  await actOn(pool, { verb: { ...inner, act }, ids, request: { reason, selection: {} }, logger }, async (tx, outcomes) => {
    if (outcomes.length > 0) await recordOutcomes(tx, actionId, outcomes)
  })
  return runs
}
