/** The statements of operators' verbs, each for a set of ids. Rows that another session has locked are left out. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Cause, ServiceName } from '../causes.ts'
import { causeOfLetter } from '../causes.ts'
import {
  deadLetterFaults,
  type DeadLetterFault,
  type Line,
  paymentStates,
  type PaymentState,
  type ProductQty,
  productsOf,
} from '../model.ts'
import { type ProductCause, productsOf as productsWith } from './items-of-cause.ts'
import { nothing, type Transaction } from './pool.ts'
import { int4s, int8s } from './stock-calls.ts'

type Ids = ReturnType<typeof sql.fragment>

/**
 * A payment that is retried now gets a `touched_at` in the past. If this process dies before its job is there, the rescuer, which waits
 * for 40 s, adds one 5 s later.
 */
const PAYMENT_UNTOUCHED = sql.fragment`interval '35 s'`
/** The same for checkouts: the rescuer waits for 2 s. A checkout that was touched later may be in a job that it shares with others. */
const CHECKOUT_AT_WORK = sql.fragment`interval '2 s'`

/** As in the indexes by cause. null: of any service, or of none. */
const ofService = (service: ServiceName | null) =>
  service === null ? sql.fragment`true` : sql.fragment`coalesce(service, '~') = ${service}`

/** Ids of the items that have a cause now. The states are in the text, for the partial indexes. */
export const having = {
  payments: (cause: Cause, service: ServiceName | null): Ids =>
    sql.fragment`select id from order_service.payment_events where state = 'WAITING' and cause is not null and cause = ${cause} and ${ofService(service)}`,
  checkouts: (cause: Cause, service: ServiceName | null): Ids =>
    sql.fragment`select order_id as id from order_service.checkouts where state = 'OPEN' and cause is not null and cause = ${cause} and ${ofService(service)}`,
  products: (cause: Cause): Ids => sql.fragment`select id from (${productsWith(cause as ProductCause)}) p`,
  events: (): Ids => sql.fragment`select id from order_service.outbox where undeliverable_at is not null`,
  letters(cause: Cause): Ids {
    const faults = (Object.keys(deadLetterFaults) as DeadLetterFault[]).filter((fault) => causeOfLetter[fault] === cause)
    return sql.fragment`select id from order_service.dead_letters where state = 'WAITING' and fault = any(${sql.array(faults, 'text')})`
  },
}

const paymentRow = z.object({
  id: z.int(),
  order_id: z.int(),
  state: z.enum(Object.keys(paymentStates) as PaymentState[]),
  is_touched: z.boolean(),
})

/** Touches the payments that wait, and reads all of these. */
export async function touchPayments(tx: Transaction, ids: readonly number[]): Promise<readonly z.infer<typeof paymentRow>[]> {
  return tx.any(sql.type(paymentRow)`
    with free as materialized (
      select id from order_service.payment_events where id = any(${int8s(ids)}) and state = 'WAITING' order by id for update skip locked
    ), touched as (
      update order_service.payment_events set touched_at = clock_timestamp() - ${PAYMENT_UNTOUCHED}
      where id = any(array(select id from free)) returning id
    )
    select id, order_id, state, id in (select id from touched) as is_touched from order_service.payment_events where id = any(${int8s(ids)})`)
}

const checkoutRow = z.object({
  order_id: z.int(),
  state: z.enum(['OPEN', 'CREATED', 'REJECTED', 'CANCELLED']),
  lines: z.array(z.object({ product_id: z.int(), qty: z.int() })),
  deadline_at: z.date(),
  is_late: z.boolean(),
  is_at_work: z.boolean(),
  is_touched: z.boolean(),
})

export interface TouchedCheckout {
  orderId: number
  state: 'OPEN' | 'CREATED' | 'REJECTED' | 'CANCELLED'
  products: ProductQty[]
  /** Epoch ms. */
  deadline: number
  /** Past its deadline. */
  isLate: boolean
  /** A worker has touched it a moment ago. */
  isAtWork: boolean
  isTouched: boolean
}

/** @param delayed those with a delayed job: they are touched even if a worker has just been at work on them */
export async function touchCheckouts(tx: Transaction, ids: readonly number[], delayed: readonly number[]): Promise<TouchedCheckout[]> {
  const rows = await tx.any(sql.type(checkoutRow)`
    with free as materialized (
      select order_id, updated_at from order_service.checkouts
      where order_id = any(${int4s(ids)}) and state = 'OPEN' and deadline_at > clock_timestamp()
        and (order_id = any(${int4s(delayed)}) or updated_at < clock_timestamp() - ${CHECKOUT_AT_WORK})
      order by order_id for update skip locked
    ), touched as (
      update order_service.checkouts set updated_at = clock_timestamp() - ${CHECKOUT_AT_WORK}
      where order_id = any(array(select order_id from free)) returning order_id
    )
    select order_id, state, lines, deadline_at, deadline_at <= clock_timestamp() as is_late,
      updated_at >= clock_timestamp() - ${CHECKOUT_AT_WORK} as is_at_work, order_id in (select order_id from touched) as is_touched
    from order_service.checkouts where order_id = any(${int4s(ids)})`)
  return rows.map((row) => ({
    orderId: row.order_id,
    state: row.state,
    products: productsOf(row.lines as Line[]),
    deadline: row.deadline_at.getTime(),
    isLate: row.is_late,
    isAtWork: row.is_at_work,
    isTouched: row.is_touched,
  }))
}

/** @returns what became of those that exist */
export async function readCheckoutStates(tx: Transaction, ids: readonly number[]): Promise<Map<number, string>> {
  const rows = await tx.any(sql.type(z.object({ order_id: z.int(), state: z.string() }))`
    select order_id, state from order_service.checkouts where order_id = any(${int4s(ids)})`)
  return new Map(rows.map((row) => [row.order_id, row.state]))
}

/** Marks products for the reconciler, which finds them by itself if nobody wakes it. @returns those that exist */
export async function markToReconcile(tx: Transaction, ids: readonly number[]): Promise<number[]> {
  const rows = await tx.any(sql.type(z.object({ product_id: z.int() }))`
    with free as materialized (
      select product_id from order_service.products where product_id = any(${int4s(ids)}) order by product_id for no key update skip locked
    ), marked as (
      update order_service.products set reconciling_since = coalesce(reconciling_since, now())
      where product_id = any(array(select product_id from free))
    )
    select product_id from order_service.products where product_id = any(${int4s(ids)})`)
  return rows.map((row) => row.product_id)
}

const acceptedRow = z.object({ product_id: z.int(), entries: z.int(), too_many: z.int(), too_few: z.int() })

/** Stops listing what is ambiguous of products. @returns what it was, by product; those that have nothing ambiguous are left out */
export async function acceptAmbiguities(tx: Transaction, ids: readonly number[]): Promise<readonly z.infer<typeof acceptedRow>[]> {
  return tx.any(sql.type(acceptedRow)`
    with accepted as (
      update order_service.ambiguities set accepted_at = clock_timestamp()
      where product_id = any(${int4s(ids)}) and accepted_at is null returning product_id, too_many, too_few
    )
    select product_id, count(*) as entries, sum(too_many)::bigint as too_many, sum(too_few)::bigint as too_few from accepted group by product_id`)
}

const eventRow = z.object({ id: z.int(), is_offered: z.boolean(), is_sent: z.boolean(), is_undeliverable: z.boolean() })

/** Offers undeliverable events to Kafka again, and wakes the relay. */
export async function offerAgain(tx: Transaction, ids: readonly number[]): Promise<readonly z.infer<typeof eventRow>[]> {
  const rows = await tx.any(sql.type(eventRow)`
    with free as materialized (
      select id from order_service.outbox where id = any(${int8s(ids)}) and undeliverable_at is not null order by id for no key update skip locked
    ), offered as (
      update order_service.outbox set undeliverable_at = null, undeliverable_reason = null
      where id = any(array(select id from free)) returning id
    )
    select id, id in (select id from offered) as is_offered, sent_at is not null as is_sent, undeliverable_at is not null as is_undeliverable
    from order_service.outbox where id = any(${int8s(ids)})`)
  if (rows.some((row) => row.is_offered)) await tx.query(sql.type(nothing)`select pg_notify('order_outbox', '')`)
  return rows
}
