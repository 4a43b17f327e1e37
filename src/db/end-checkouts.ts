/** Ends checkouts without an order: REJECTED or CANCELLED. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Outcome, Rejection } from '../model.ts'
import { type FailedAttempt, historyEntry } from './checkout-attempts.ts'
import { idsOf, inOrder, outcomeOf, outcomeRow } from './checkout-rows.ts'
import { LOCKED } from './locked.ts'
import type { Pool, Transaction } from './pool.ts'

/** How a checkout ended. */
export interface Ended {
  outcome: Outcome
  /** Whether this call ended it. */
  won: boolean
  /** Products of which it gave up a hold, or may have: the reconciler has to read them. */
  toReconcile: number[]
}

export interface EndRequest extends Rejection {
  orderId: number
  /** undefined: any attempt */
  attempt: number | undefined
  state: 'REJECTED' | 'CANCELLED'
  /** How its last attempt failed, where the customer is not at fault. */
  failed?: FailedAttempt | undefined
}

const endedRow = outcomeRow.extend({ to_reconcile: z.array(z.int()).nullable(), is_locked: z.boolean() })

/** The checkouts to end, their rows locked. `ending`: those that are OPEN and driven by the given attempt. */
const lockEnding = (input: string, batch: readonly EndRequest[]) => sql.fragment`
  inp as materialized (
    select * from jsonb_to_recordset(${input}::jsonb) as t (order_id int, attempt int, state text, outcome jsonb, failed jsonb)
  ), lock as materialized (
    select order_id, state, attempt from order_service.checkouts
    where order_id = any(${idsOf(batch)}) order by order_id for update skip locked
  ), ending as materialized (
    select i.order_id, i.state, i.outcome, i.failed from inp i join lock l using (order_id)
    where l.state = 'OPEN' and (i.attempt is null or l.attempt = i.attempt)
  )`

/** Writes the outcomes. */
const writeOutcomes = (batch: readonly EndRequest[]) => sql.fragment`
  ended as (
    update order_service.checkouts c
    set state = i.state, outcome = i.outcome, idempotency_key = null, updated_at = now(),
      last_error = coalesce(i.failed ->> 'error', c.last_error), cause = coalesce(i.failed ->> 'cause', c.cause),
      service = case when i.failed ? 'cause' then i.failed ->> 'service' else c.service end,
      history = case when i.failed is null then c.history else c.history || i.failed end
    from ending i
    where c.order_id = i.order_id and c.order_id = any(${idsOf(batch)})
    returning c.order_id, c.state, c.total_cents, c.currency, c.outcome, c.lines, c.recovery_point, c.call_id
  )`

/** Gives back the holds on record, and marks the products whose call the checkout may be in. */
const giveBackHolds = sql.fragment`
  changed as (
    insert into order_service.product_changes (product_id, held)
    select l.product_id, case e.recovery_point when 'reserve-stock' then -sum(l.qty) else 0 end
    from ended e cross join lateral jsonb_to_recordset(e.lines) as l (product_id int, qty int)
    where e.recovery_point = 'reserve-stock'
      or exists (select from order_service.products p where p.product_id = l.product_id and p.call_id = e.call_id)
    group by e.order_id, e.recovery_point, l.product_id
    returning product_id
  )`

/**
 * Ends checkouts. The statement locks no product: what a checkout held is written to `product_changes` for the reconciler. A call that
 * the checkout may be in is written there too, since whoever cancels another attempt does not know what became of its call.
 * @returns for each item LOCKED where another session has locked its row; undefined where it is not this attempt's to end
 */
export async function endAll(pool: Pool | Transaction, batch: EndRequest[]): Promise<(Ended | typeof LOCKED | undefined)[]> {
  const input = JSON.stringify(
    batch.map(({ orderId: order_id, attempt, state, status, detail, failed }) => ({
      order_id,
      attempt,
      state,
      outcome: { status, detail },
      failed: failed && historyEntry(attempt ?? 0, failed),
    })),
  )
  const rows = await pool.any(sql.prepared('end', endedRow)`
    with ${lockEnding(input, batch)}, ${writeOutcomes(batch)}, ${giveBackHolds}
    select order_id, state, total_cents, currency, outcome, false as is_locked, array(select product_id from changed) as to_reconcile from ended
    union all
    select order_id, 'OPEN', 0, '', null, true, null from inp where order_id not in (select order_id from lock)`)
  return inOrder(batch, rows, (row) =>
    row.is_locked ? LOCKED : { outcome: outcomeOf(row)!, won: true, toReconcile: row.to_reconcile ?? [] },
  )
}
