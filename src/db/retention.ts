/**
 * The reaper prunes payloads and personal data of ended work, in batches. Keys, identities and outcomes stay, so that a repeated request,
 * or a replay of the whole payment topic, still finds them. Locked rows are left for the next run.
 */
import { sql } from 'slonik'
import { nothing, type Pool } from './pool.ts'

/** Prunes at most `limit` rows that are older than `ageMs`. @returns the number of pruned rows. If it is below `limit`, no more are due */
export type Prune = (pool: Pool, ageMs: number, limit: number) => Promise<number>

// clock_timestamp() could not use an index.
const before = (ageMs: number) => sql.fragment`now() - ${ageMs}::float8 * interval '1 ms'`

/** Deletes events that Kafka has acknowledged. Waiting and refused events stay. Event ids come from a sequence and are never reused. */
export const pruneOutbox: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-outbox', nothing)`
    delete from order_service.outbox where id = any(array(
      select id from order_service.outbox where sent_at < ${before(ageMs)} order by sent_at limit ${limit} for update skip locked))`)
  return rowCount
}

/**
 * Removes address and cart of ended checkouts, and the email of those without an order. With an order the email stays: the row in `public`
 * has it as well, and the customer may repeat the key.
 */
export const pruneCheckouts: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-checkouts', nothing)`
    update order_service.checkouts
    set pruned_at = now(), address = null, lines = '[]', history = '[]', user_email = case when state = 'CREATED' then user_email end
    where order_id = any(array(
      select order_id from order_service.checkouts
      where state <> 'OPEN' and pruned_at is null and created_at < ${before(ageMs)}
      order by created_at limit ${limit} for update skip locked))`)
  return rowCount
}

/** Removes the bytes of applied payment events. Order, amount, payment id and result stay. */
export const pruneInbox: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-inbox', nothing)`
    update order_service.payment_events set pruned_at = now(), key = null, value = null, headers = '[]', details = '{}'
    where id = any(array(
      select id from order_service.payment_events where state = 'APPLIED' and pruned_at is null and received_at < ${before(ageMs)}
      order by received_at limit ${limit} for update skip locked))`)
  return rowCount
}

/**
 * Removes the bytes of dead letters that a person has handled, and the bytes of their events. A dead letter stays whole while it waits for
 * a person, is driven again, or is not on its topic yet.
 */
export const pruneDeadLetters: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-dead-letters', nothing)`
    with due as materialized (
      select id, event_id from order_service.dead_letters l
      where state <> 'WAITING' and pruned_at is null and last_at < ${before(ageMs)}
        and (published_at is not null or undeliverable_reason is not null)
        and not exists (select from order_service.payment_events e where e.id = l.event_id and e.state = 'WAITING')
      order by last_at limit ${limit} for update skip locked
    ), events as (
      update order_service.payment_events set pruned_at = now(), key = null, value = null, headers = '[]', details = '{}'
      where id = any(array(select event_id from due)) and state = 'DEAD' and pruned_at is null
    )
    update order_service.dead_letters set pruned_at = now(), key = null, value = null, headers = '[]'
    where id = any(array(select id from due))`)
  return rowCount
}

/** Deletes the oldest rows first. Ids rise with time, and every row may be deleted. */
export const pruneReconciliations: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-reconciliations', nothing)`
    delete from order_service.reconciliations where id = any(array(
      select id from order_service.reconciliations order by id limit ${limit})) and at < ${before(ageMs)}`)
  return rowCount
}

/** Deletes ambiguities in the same way as their reconciliations. */
export const pruneAmbiguities: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-ambiguities', nothing)`
    delete from order_service.ambiguities where id = any(array(
      select id from order_service.ambiguities order by id limit ${limit})) and at < ${before(ageMs)}`)
  return rowCount
}

/** Deletes items of operators' actions that ended so long ago; the actions themselves stay. */
export const pruneActionItems: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-action-items', nothing)`
    delete from order_service.operator_action_items where (action_id, item) in (
      select i.action_id, i.item from order_service.operator_actions a join order_service.operator_action_items i on i.action_id = a.id
      where a.ended_at < ${before(ageMs)} limit ${limit})`)
  return rowCount
}

/** Removes the edited messages from the records of edits. Who edited which letter, when and why stays. */
export const pruneEditedMessages: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-edited-messages', nothing)`
    update order_service.operator_actions set selection = selection - 'value'
    where id = any(array(
      select id from order_service.operator_actions
      where verb = 'edit-letter' and jsonb_exists(selection, 'value') and ended_at < ${before(ageMs)} order by ended_at limit ${limit}))`)
  return rowCount
}

/** Deletes the rows of the operators' charts. */
export const pruneMinutes: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-minutes', nothing)`
    delete from order_service.minutes where minute = any(array(
      select minute from order_service.minutes where minute < ${before(ageMs)} order by minute limit ${limit}))`)
  return rowCount
}

/** Deletes what processes that have ended reported of themselves. There are few of them. */
export const pruneProcesses: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-processes', nothing)`
    delete from order_service.processes where process = any(array(
      select process from order_service.processes where seen_at < ${before(ageMs)} order by process limit ${limit}))`)
  return rowCount
}

/** Deletes unanswered calls whose result is known, or that are too old to act. */
export const pruneUnansweredCalls: Prune = async (pool, ageMs, limit) => {
  const { rowCount } = await pool.query(sql.prepared('prune-unanswered-calls', nothing)`
    delete from order_service.unanswered_calls where (call_id, product_id) in (
      select call_id, product_id from order_service.unanswered_calls
      where found is not null and since < ${before(ageMs)} order by call_id limit ${limit})`)
  return rowCount
}
