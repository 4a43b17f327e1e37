/** The records of what operators did: actions, and their items with results. They are written in the transaction of the act. */
import { sql } from 'slonik'
import { z } from 'zod'
import { nothing, type Pool, type Transaction } from './pool.ts'

export type ItemResult = 'changed' | 'unchanged' | 'failed'

/** The result of one item, with a sentence that says what became of it. */
export interface ItemOutcome {
  item: number
  result: ItemResult
  detail: string
}

const actionRow = z.object({
  id: z.int(),
  verb: z.string(),
  operator: z.string(),
  reason: z.string(),
  selection: z.record(z.string(), z.unknown()),
  state: z.enum(['RUNNING', 'PAUSED', 'ABORTED', 'DONE']),
  per_second: z.int().nullable(),
  items: z.int(),
  done: z.int(),
  changed: z.int(),
  failed: z.int(),
  created_at: z.date(),
  ended_at: z.date().nullable(),
})
/** An action as it is stored. */
export type ActionRow = z.infer<typeof actionRow>

// An edited message may have a megabyte: it is read with one action, and not with a list of them.
const columns = sql.fragment`id, verb, operator, reason, selection - 'value' as selection, state, per_second, items, done, changed, failed, created_at, ended_at`

export interface NewAction {
  verb: string
  operator: string
  reason: string
  /** As JSON text. */
  selection: string
  state: 'RUNNING' | 'DONE'
  perSecond: number | null
  items: number
}

/** @returns the id. @throws 23505 where the same action runs */
export async function insertAction(db: Pool | Transaction, action: NewAction): Promise<number> {
  const { verb, operator, reason, selection, state, perSecond, items } = action
  const row = await db.one(sql.type(z.object({ id: z.int() }))`
    insert into order_service.operator_actions (verb, operator, reason, selection, state, per_second, items, ended_at)
    values (${verb}, ${operator}, ${reason}, ${selection}::jsonb, ${state}, ${perSecond}, ${items},
      case when ${state} = 'DONE' then clock_timestamp() end) returning id`)
  return row.id
}

/** Freezes the set of a bulk action. @param ids a statement that selects `id`. @returns how many there are */
export async function freezeItems(tx: Transaction, actionId: number, ids: ReturnType<typeof sql.fragment>): Promise<number> {
  const { rowCount } = await tx.query(sql.type(nothing)`
    insert into order_service.operator_action_items (action_id, item) select ${actionId}, id from (${ids}) selected`)
  await tx.query(sql.type(nothing)`update order_service.operator_actions set items = ${rowCount} where id = ${actionId}`)
  return rowCount
}

/**
 * Locks a bulk action for its next items, so that no item is acted on twice.
 * @returns undefined where it does not run, or another worker is at it
 */
export async function lockRunning(tx: Transaction, id: number): Promise<ActionRow | undefined> {
  const row = await tx.maybeOne(sql.type(actionRow)`
    select ${columns} from order_service.operator_actions where id = ${id} and state = 'RUNNING' for no key update skip locked`)
  return row ?? undefined
}

/** Items without a result, in the order of their ids. */
export async function nextItems(db: Pool | Transaction, actionId: number, limit: number): Promise<number[]> {
  const rows = await db.any(sql.type(z.object({ item: z.int() }))`
    select item from order_service.operator_action_items where action_id = ${actionId} and result is null order by item limit ${limit}`)
  return rows.map(({ item }) => item)
}

/** Writes results, and counts them in the action. An action of which no item is left becomes DONE. */
export async function recordOutcomes(tx: Pool | Transaction, actionId: number, outcomes: readonly ItemOutcome[]): Promise<void> {
  await tx.query(sql.type(nothing)`
    with outcome as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(outcomes)}::jsonb) as t (item bigint, result text, detail text)
    ), recorded as (
      insert into order_service.operator_action_items (action_id, item, result, detail, at)
      select ${actionId}::bigint, item, result, detail, clock_timestamp() from outcome
      on conflict (action_id, item) do update set result = excluded.result, detail = excluded.detail, at = excluded.at
      where operator_action_items.result is null
      returning result
    ), counts as (
      select count(*)::int as done, (count(*) filter (where result = 'changed'))::int as changed,
        (count(*) filter (where result = 'failed'))::int as failed from recorded
    )
    update order_service.operator_actions a
    set done = a.done + c.done, changed = a.changed + c.changed, failed = a.failed + c.failed,
      state = case when a.state = 'RUNNING' and a.done + c.done >= a.items then 'DONE' else a.state end,
      ended_at = case when a.state = 'RUNNING' and a.done + c.done >= a.items then clock_timestamp() else a.ended_at end
    from counts c where a.id = ${actionId}`)
}

/** Ends an action whose set turned out to have no items left. */
export async function endEmpty(tx: Transaction, id: number): Promise<void> {
  await tx.query(sql.type(nothing)`
    update order_service.operator_actions set state = 'DONE', ended_at = clock_timestamp() where id = ${id} and state = 'RUNNING'`)
}

/** Pauses, resumes or aborts a bulk action. @returns false where it has ended, or is in that state already */
export async function changeState(tx: Transaction, id: number, to: 'PAUSED' | 'RUNNING' | 'ABORTED'): Promise<boolean> {
  const { rowCount } = await tx.query(sql.type(nothing)`
    update order_service.operator_actions set state = ${to}, ended_at = case when ${to} = 'ABORTED' then clock_timestamp() end
    where id = ${id} and state in ('RUNNING', 'PAUSED') and state <> ${to}`)
  return rowCount > 0
}

export async function readAction(db: Pool | Transaction, id: number): Promise<ActionRow | undefined> {
  return (await db.maybeOne(sql.type(actionRow)`select ${columns} from order_service.operator_actions where id = ${id}`)) ?? undefined
}

/** @returns the edited message of an action, in base64 */
export async function readEditedValue(db: Pool, id: number): Promise<string | undefined> {
  const row = await db.maybeOne(sql.type(z.object({ value: z.string().nullable() }))`
    select selection ->> 'value' as value from order_service.operator_actions where id = ${id}`)
  return row?.value ?? undefined
}

/** The action that runs, or is paused, with the same verb and selection. */
export async function readSame(db: Pool, verb: string, selection: string): Promise<ActionRow | undefined> {
  const row = await db.maybeOne(sql.type(actionRow)`
    select ${columns} from order_service.operator_actions
    where state in ('RUNNING', 'PAUSED') and verb = ${verb} and md5(selection::text) = md5(${selection}::jsonb::text)`)
  return row ?? undefined
}

/** The latest first. */
export async function listActions(
  db: Pool,
  { before, limit }: { before?: number | undefined; limit: number },
): Promise<readonly ActionRow[]> {
  const older = before === undefined ? sql.fragment`true` : sql.fragment`id < ${before}`
  return db.any(sql.type(actionRow)`select ${columns} from order_service.operator_actions where ${older} order by id desc limit ${limit}`)
}

/** Bulk actions that run, for whoever ensures that each has a job. The second condition is that of the partial index. */
export async function listRunning(db: Pool): Promise<number[]> {
  const rows = await db.any(sql.type(z.object({ id: z.int() }))`
    select id from order_service.operator_actions where state = 'RUNNING' and state in ('RUNNING', 'PAUSED')`)
  return rows.map(({ id }) => id)
}

const itemRow = z.object({
  item: z.int(),
  result: z.enum(['changed', 'unchanged', 'failed']).nullable(),
  detail: z.string().nullable(),
  at: z.date().nullable(),
})

// In the statement's text: with a parameter, the partial indexes would not be used.
const withResult = {
  changed: sql.fragment`result = 'changed'`,
  unchanged: sql.fragment`result = 'unchanged'`,
  failed: sql.fragment`result = 'failed'`,
  none: sql.fragment`result is null`,
  all: sql.fragment`true`,
}

/** In the order of their ids. @param result null: those without a result; undefined: all */
export async function listItems(
  db: Pool,
  actionId: number,
  { after = -1, limit, result }: { after?: number | undefined; limit: number; result?: ItemResult | null | undefined },
): Promise<readonly z.infer<typeof itemRow>[]> {
  const wanted = withResult[result === null ? 'none' : (result ?? 'all')]
  return db.any(sql.type(itemRow)`
    select item, result, detail, at from order_service.operator_action_items
    where action_id = ${actionId} and item > ${after} and ${wanted} order by item limit ${limit}`)
}

/** What was done with an item, the latest first. @param verbs those whose items are of its kind */
export async function listActionsOn(db: Pool, verbs: readonly string[], item: number, limit: number) {
  return db.any(sql.type(actionRow.extend({ result: itemRow.shape.result, detail: itemRow.shape.detail, at: itemRow.shape.at }))`
    select a.id, a.verb, a.operator, a.reason, a.selection - 'value' as selection, a.state, a.per_second, a.items, a.done, a.changed, a.failed,
      a.created_at, a.ended_at, i.result, i.detail, i.at
    from order_service.operator_action_items i join order_service.operator_actions a on a.id = i.action_id
    where i.item = ${item} and a.verb = any(${sql.array([...verbs], 'text')}) order by a.id desc limit ${limit}`)
}
