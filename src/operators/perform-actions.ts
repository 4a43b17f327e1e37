/** Carries out what operators decide, and records it: no action without its record. */
import { sql } from 'slonik'
import { z } from 'zod'
import { causes, isCause, type ItemKind, type Verb, verbs as allVerbs } from '../causes.ts'
import {
  changeState,
  freezeItems,
  insertAction,
  type ItemOutcome,
  listActions,
  listActionsOn,
  listItems,
  readAction,
  readEditedValue,
  readSame,
  recordOutcomes,
} from '../db/operator-actions.ts'
import { undoDrain } from '../db/drain.ts'
import { type Pool, sqlState, type Transaction } from '../db/pool.ts'
import { int8s } from '../db/stock-calls.ts'
import type { Logger } from '../telemetry/logger.ts'
import { type Action, type ActionRequest, type Actions, ActionRefused, AT_ONCE, type Selection, USUAL_PER_SECOND } from './action.ts'
import { actionOf, checkRequest, selectionText } from './check-action.ts'
import { actOn } from './act-on.ts'
import type { ItemVerb } from './item-verb.ts'
import { changeQueue, findQueue, type Queues } from './queue-verbs.ts'
import { createVerbs, type ItemVerbName, type VerbDeps } from './verbs.ts'

export interface ActionsDeps extends VerbDeps {
  /** For reading. */
  read(): Promise<Pool>
  /** For acting. To freeze a large set takes seconds: no customer should wait for its connection. */
  write(): Promise<Pool>
  queues(): Promise<Queues>
  logger: Logger
}

interface Acting extends ActionsDeps {
  verbs: Record<ItemVerbName, ItemVerb>
}

export function createActions(deps: ActionsDeps): Actions {
  const acting: Acting = { ...deps, verbs: createVerbs(deps) }
  const { read } = deps
  const actions: Actions = {
    async count(verb, selection) {
      if ('items' in selection) return new Set(selection.items).size
      if (!('cause' in selection)) return 1
      return (await read()).oneFirst(sql.type(countRow)`select count(*) from (${selectedIds(acting, verb, selection)}) selected`)
    },
    async sample(verb, selection, limit) {
      if (!('items' in selection || 'cause' in selection)) return []
      return readIds(await read(), selectedIds(acting, verb, selection), limit)
    },
    async act(request) {
      checkRequest(request)
      const { verb, selection } = request
      if (verb === 'accept-work') return actions.inTransaction(request, acceptWork)
      if (verb === 'resume-queue' || verb === 'pause-queue') {
        const queue = findQueue(await deps.queues(), selection)
        return actions.recordAround(request, () => changeQueue(queue, verb))
      }
      return actOnItems(acting, request, selectedIds(acting, verb, selection))
    },
    async inTransaction(request, run) {
      checkRequest(request)
      const id = await (await deps.write()).transaction(async (tx) => {
        const actionId = await insertDone(tx, request, 1)
        await recordOutcomes(tx, actionId, [{ item: 0, ...(await run(tx)) }])
        return actionId
      })
      return report(acting, request, id)
    },
    async recordAround(request, run) {
      checkRequest(request)
      const pool = await deps.write()
      const id = await insertDone(pool, request, 1)
      const outcome = await run().catch((error: Error) => error)
      const failed = outcome instanceof Error
      await recordOutcomes(pool, id, [
        failed ? { item: 0, result: 'failed', detail: 'it could not be carried out' } : { item: 0, ...outcome },
      ])
      if (failed) throw outcome
      return report(acting, request, id)
    },
    change: (id, to, by) => change(acting, id, to, by),
    list: async (options) => (await listActions(await read(), options)).map(actionOf),
    async read(id) {
      const row = await readAction(await read(), id)
      return row && actionOf(row)
    },
    async readEdited(id) {
      const value = await readEditedValue(await read(), id)
      return value === undefined ? undefined : Buffer.from(value, 'base64')
    },
    items: async (id, options) => [...(await listItems(await read(), id, options))],
    async historyOf(kind, item, limit) {
      const rows = await listActionsOn(await read(), verbsOf(kind), item, limit)
      return rows.map(({ result, detail, at, ...row }) => ({ ...actionOf(row), result, detail, at }))
    },
  }
  return actions
}

const countRow = z.object({ count: z.int() })
const idRow = z.object({ id: z.int() })

const verbsOf = (kind: ItemKind) => (Object.keys(allVerbs) as Verb[]).filter((verb) => allVerbs[verb].item === kind)

async function acceptWork(tx: Transaction): Promise<Pick<ItemOutcome, 'result' | 'detail'>> {
  if (await undoDrain(tx)) return { result: 'changed', detail: 'new orders and payments are accepted again' }
  return { result: 'unchanged', detail: 'the service was not drained' }
}

/** A statement that selects the `id` of each item. @throws ActionRefused 422 */
function selectedIds({ verbs }: Acting, verb: Verb, selection: Selection) {
  const itemVerb = Object.hasOwn(verbs, verb) ? verbs[verb as ItemVerbName] : undefined
  if (itemVerb && 'items' in selection) return sql.fragment`select distinct id from unnest(${int8s(selection.items)}) as t (id)`
  if (!itemVerb?.having || !('cause' in selection) || !isCause(selection.cause))
    throw new ActionRefused(422, `The action ${verb} cannot be carried out on this selection`)
  const { cause, service } = selection
  if (!(causes[cause].actions as readonly Verb[]).includes(verb))
    throw new ActionRefused(422, `The action ${verb} does not help with ${cause}`)
  return itemVerb.having(cause, service)
}

async function readIds(db: Pool, ids: ReturnType<typeof sql.fragment>, limit: number): Promise<number[]> {
  const rows = await db.any(sql.type(idRow)`select id from (${ids}) selected order by id limit ${limit}`)
  return rows.map(({ id }) => id)
}

async function actOnItems(acting: Acting, request: ActionRequest, ids: ReturnType<typeof sql.fragment>): Promise<Action> {
  const pool = await acting.write()
  const first = await readIds(pool, ids, AT_ONCE + 1)
  if (first.length === 0) throw new ActionRefused(404, 'There is nothing to act on: no item is in this state any more')
  if (first.length > AT_ONCE) return startBulk(acting, request, ids)
  const verb = acting.verbs[request.verb as ItemVerbName]
  const id = await actOn(pool, { verb, ids: first, request, logger: acting.logger }, async (tx, outcomes) => {
    const actionId = await insertDone(tx, request, first.length)
    await recordOutcomes(tx, actionId, outcomes)
    return actionId
  })
  return report(acting, request, id)
}

const insertDone = (db: Pool | Transaction, { verb, operator, reason, selection }: ActionRequest, items: number) =>
  insertAction(db, { verb, operator, reason: reason.trim(), selection: selectionText(selection), state: 'DONE', perSecond: null, items })

/** Freezes the set in the transaction that creates the action, and adds its job. */
async function startBulk(acting: Acting, request: ActionRequest, ids: ReturnType<typeof sql.fragment>): Promise<Action> {
  const { verb, operator, reason, selection, perSecond = USUAL_PER_SECOND } = request
  const pool = await acting.write()
  const text = selectionText(selection)
  let id: number
  try {
    id = await pool.transaction(async (tx) => {
      const actionId = await insertAction(tx, {
        verb,
        operator,
        reason: reason.trim(),
        selection: text,
        state: 'RUNNING',
        perSecond,
        items: 0,
      })
      await freezeItems(tx, actionId, ids)
      return actionId
    })
  } catch (error) {
    if (sqlState(error) !== '23505') throw error
    const same = await readSame(pool, verb, text)
    if (!same) throw error
    const when = same.created_at.toISOString()
    const how = same.state === 'PAUSED' ? 'is paused' : 'runs'
    throw new ActionRefused(
      409,
      `The same action ${how} already: ${same.operator} started it at ${when}, as action ${same.id}`,
      actionOf(same),
    )
  }
  await addJob(acting, id)
  return report(acting, request, id)
}

/** A job that cannot be added is added by a worker's timer. */
async function addJob({ queues, logger }: Acting, id: number): Promise<void> {
  await queues()
    .then(({ actionQueue }) => actionQueue.ensureJobs([id]))
    .catch((error) => logger.warn({ err: error, action: id }, 'job of a bulk action not added; a worker adds it'))
}

const changes = { PAUSED: 'pause-action', RUNNING: 'resume-action', ABORTED: 'abort-action' } as const
const now = { PAUSED: 'paused', RUNNING: 'resumed', ABORTED: 'aborted' }

async function change(
  acting: Acting,
  id: number,
  to: 'PAUSED' | 'RUNNING' | 'ABORTED',
  by: Pick<ActionRequest, 'operator' | 'reason' | 'loggedAs'>,
): Promise<Action> {
  const request: ActionRequest = { ...by, verb: changes[to], selection: { items: [id] } }
  checkRequest(request)
  const changed = await (await acting.write()).transaction(async (tx) => {
    if (!(await changeState(tx, id, to))) return undefined
    const actionId = await insertDone(tx, request, 1)
    await recordOutcomes(tx, actionId, [{ item: id, result: 'changed', detail: `action ${id} was ${now[to]}` }])
    return actionId
  })
  const action = await readAction(await acting.write(), id)
  if (!action) throw new ActionRefused(404, `There is no action ${id}`)
  if (changed === undefined) throw new ActionRefused(409, `Action ${id} is ${action.state}; nothing was changed`)
  if (to === 'RUNNING') await addJob(acting, id)
  await report(acting, request, changed)
  return actionOf(action)
}

/** Logs the action by the operator's name in the log, never by the email. */
async function report({ write, logger }: Acting, { loggedAs }: ActionRequest, id: number): Promise<Action> {
  const row = await readAction(await write(), id)
  const action = actionOf(row!)
  const { verb, state, items, changed, failed } = action
  logger.info({ operator: loggedAs, action: id, verb, state, items, changed, failed }, 'operator action')
  return action
}
