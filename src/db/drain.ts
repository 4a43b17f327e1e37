/**
 * Draining, before the predecessor comes back: one row in PostgreSQL stops new checkouts and new payments in every process. The
 * statements that would accept them read the row themselves, so that no process acts on an outdated answer.
 */
import { sql } from 'slonik'
import { z } from 'zod'
import { nothing, type Pool, type Transaction } from './pool.ts'
import { mayAct } from './reconciliation.ts'

/** Whether the service is drained. Part of the statements that write an intent, and that count a batch of payments as received. */
export const isDrained = sql.fragment`exists (select from order_service.drain)`

/** A new payment was not received, since the service is drained. Its message waits on the topic. */
export class Drained extends Error {
  override name = 'Drained'
}

/** @returns since when the service is drained; undefined where it accepts new work */
export async function readDrain(pool: Pool): Promise<Date | undefined> {
  const row = await pool.maybeOne(sql.prepared('read-drain', z.object({ since: z.date() }))`select since from order_service.drain`)
  return row?.since
}

/** Transactions with a row lock on a table that receives new work; `of` limits them to those named. */
const entering = (of = sql.fragment`true`) => sql.fragment`
  select distinct virtualtransaction as transaction from pg_locks
  where locktype = 'relation' and database = (select oid from pg_database where datname = current_database())
    and relation in ('order_service.checkouts'::regclass, 'order_service.bridge_totals'::regclass)
    and mode = 'RowExclusiveLock' and granted and ${of}`
const enteringRow = z.object({ transaction: z.string() })

/** Drains the service: once this is committed it accepts no new work. @returns false where it was drained already */
export async function drain(pool: Pool | Transaction): Promise<boolean> {
  const { rowCount } = await pool.query(sql.type(nothing)`insert into order_service.drain default values on conflict do nothing`)
  return rowCount > 0
}

/**
 * To be called when the drain is committed.
 *
 * PostgreSQL locks the tables of a statement before it takes the snapshot that the statement sees. So a statement that did not see the row
 * has its lock by now, and all others do see it. No session is blocked, as a lock on the table would.
 * @returns the transactions that began before, and may still let something in
 */
export async function readEntering(pool: Pool): Promise<string[]> {
  const rows = await pool.any(sql.type(enteringRow)`${entering()}`)
  return rows.map(({ transaction }) => transaction)
}

/** Accepts new work again. @returns whether the service was drained */
export async function undoDrain(pool: Pool | Transaction): Promise<boolean> {
  const { rowCount } = await pool.query(sql.type(nothing)`delete from order_service.drain`)
  return rowCount > 0
}

/** Work in progress that only this service can finish. */
export interface OpenWork {
  /** Transactions that began before the drain and may still let something in. */
  transactions: number
  checkouts: number
  /** Received, and neither applied nor dead. */
  payments: number
  /** In the outbox, and not acknowledged by Kafka. */
  events: number
  /** Products that have a call to Catalog under way, or are being reconciled. */
  products: number
}

/** What is reported and not waited for: the first three wait for a person, perhaps for ever. */
export interface NotWaitedFor {
  deadLetters: number
  /** Events that brokers refuse for good. */
  undeliverable: number
  /** Products of which Catalog lacks units that were promised, and has none left to hold. */
  oversold: number
  /** Calls without an answer that were checked and had not happened: until they are ten minutes old they may act late. */
  lateCalls: number
}

const openRow = z.object({
  is_drained: z.boolean(),
  checkouts: z.int(),
  payments: z.int(),
  events: z.int(),
  products: z.int(),
  dead_letters: z.int(),
  undeliverable: z.int(),
  oversold: z.int(),
  late_calls: z.int(),
})

/** @param earlier what `drain` returned. @returns undefined where the drain was undone */
export async function readOpenWork(
  pool: Pool,
  earlier: readonly string[],
): Promise<{ open: OpenWork; notWaitedFor: NotWaitedFor } | undefined> {
  // Before the snapshot of the counts: what these let in until they end is counted then.
  const { length: transactions } = await pool.any(
    sql.type(enteringRow)`${entering(sql.fragment`virtualtransaction = any(${sql.array([...earlier], 'text')})`)}`,
  )
  const row = await pool.one(sql.type(openRow)`
    select ${isDrained} as is_drained, (select count(*) from order_service.checkouts where state = 'OPEN') as checkouts,
      (select count(*) from order_service.payment_events where state = 'WAITING') as payments,
      (select count(*) from order_service.outbox where sent_at is null and undeliverable_at is null) as events,
      (select count(*) from (
        select product_id from order_service.products
        where hold_correction <> 0 or stock_correction <> 0 or (reconciling_since is not null and foreign_holds >= 0)
        union select product_id from order_service.products where call_verb <> 'check'
        union select c.product_id from order_service.product_changes c join order_service.products p using (product_id)
        union select product_id from order_service.unanswered_calls where found is null) busy) as products,
      (select count(*) from order_service.dead_letters where state = 'WAITING') as dead_letters,
      (select count(*) from order_service.outbox where undeliverable_at is not null) as undeliverable,
      (select count(*) from order_service.products where foreign_holds < 0) as oversold,
      (select count(*) from order_service.unanswered_calls u where ${mayAct} and u.found is not null) as late_calls`)
  const { is_drained, dead_letters: deadLetters, undeliverable, oversold, late_calls: lateCalls, ...open } = row
  if (!is_drained) return undefined
  return { open: { transactions, ...open }, notWaitedFor: { deadLetters, undeliverable, oversold, lateCalls } }
}
