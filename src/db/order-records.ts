/** Reads all that is on record of one order: its checkout, its events, its payments, their dead letters, and what operators did. */
import { sql } from 'slonik'
import { z } from 'zod'
import { isCause, type ItemKind, services, type Verb, verbs } from '../causes.ts'
import { letterRow } from './dead-letters.ts'
import type { Pool } from './pool.ts'

const cause = z
  .string()
  .nullish()
  .transform((text) => (text != null && isCause(text) ? text : null))
const service = z
  .enum(services)
  .nullish()
  .catch(null)
  .transform((name) => name ?? null)
const failure = z.object({
  attempt: z.int().nullish(),
  step: z.string().nullish(),
  at: z.coerce.date(),
  ms: z.number().nullish(),
  error: z.string(),
  cause,
  service,
  stack: z.string().nullish(),
})
/** A failed attempt at a checkout or payment. */
export type Failure = z.infer<typeof failure>
const history = z.array(failure)
const line = z.object({ product_id: z.int(), qty: z.int(), unit_price_cents: z.int(), title_snapshot: z.string() })

const checkoutRow = z.object({
  email: z.string().nullable(),
  idempotency_key: z.string().nullable(),
  state: z.enum(['OPEN', 'CREATED', 'REJECTED', 'CANCELLED']),
  recovery_point: z.enum(['intent', 'reserve-stock']),
  lines: z.array(line),
  address: z.record(z.string(), z.string()).nullable(),
  total_cents: z.int(),
  currency: z.string(),
  deadline_at: z.date(),
  attempt: z.int(),
  last_error: z.string().nullable(),
  cause,
  service,
  outcome: z.object({ status: z.int(), detail: z.string() }).nullable(),
  history,
  created_at: z.date(),
  updated_at: z.date(),
  pruned_at: z.date().nullable(),
})

const orderRow = z.object({
  status: z.string(),
  email: z.string(),
  total_cents: z.int(),
  currency: z.string(),
  created_at: z.date(),
  updated_at: z.date(),
  lines: z.array(line),
})

const eventRow = z.object({
  id: z.int(),
  type: z.string(),
  created_at: z.date(),
  sent_at: z.date().nullable(),
  partition: z.int().nullable(),
  kafka_offset: z.int().nullable(),
  undeliverable_at: z.date().nullable(),
  undeliverable_reason: z.string().nullable(),
})

const paymentRow = z.object({
  id: z.int(),
  type: z.enum(['payment.succeeded', 'payment.failed']),
  state: z.enum(['WAITING', 'APPLIED', 'DEAD']),
  result: z.enum(['paid', 'already-paid', 'recorded']).nullable(),
  amount_cents: z.int().nullable(),
  currency: z.string().nullable(),
  provider: z.string().nullable(),
  payment_id: z.string().nullable(),
  last_error: z.string().nullable(),
  cause,
  service,
  history,
  topic: z.string(),
  partition: z.int(),
  kafka_offset: z.int(),
  sent_at: z.date(),
  received_at: z.date(),
  waiting_since: z.date(),
  touched_at: z.date(),
})

const orderLetterRow = letterRow
  .pick({ id: true, fault: true, reason: true, state: true, note: true, times: true, first_at: true, last_at: true })
  .extend({ event_id: z.int() })

const operatorActionRow = z.object({
  action_id: z.int(),
  verb: z.string(),
  operator: z.string(),
  reason: z.string(),
  item: z.int(),
  result: z.enum(['changed', 'unchanged', 'failed']).nullable(),
  detail: z.string().nullable(),
  at: z.date(),
})

const productRow = z.object({
  product_id: z.int(),
  call_verb: z.string().nullable(),
  call_qty: z.int().nullable(),
  call_expires_at: z.date().nullable(),
  is_ours: z.boolean(),
  is_settling: z.boolean(),
})

/** `operatorActions`: what operators did to the order's checkout, payments, events and letters. `products`: those of the checkout's lines. */
export interface OrderRecords {
  order: z.infer<typeof orderRow> | null
  checkout: z.infer<typeof checkoutRow> | null
  events: readonly z.infer<typeof eventRow>[]
  payments: readonly z.infer<typeof paymentRow>[]
  letters: readonly z.infer<typeof orderLetterRow>[]
  operatorActions: readonly z.infer<typeof operatorActionRow>[]
  products: readonly z.infer<typeof productRow>[]
  isDrained: boolean
}

/** More of one kind are not read: a payment that is repeated without end must not fill the page. */
const MOST = 200

/** @param id must fit into PostgreSQL's `integer` */
export async function readOrderRecords(pool: Pool, id: number): Promise<OrderRecords | undefined> {
  const [order, checkout] = await Promise.all([readOrder(pool, id), readCheckout(pool, id)])
  if (!order && !checkout) return undefined
  const [events, payments] = await Promise.all([readEvents(pool, id), readPayments(pool, id)])
  const letters =
    payments.length > 0
      ? await readLetters(
          pool,
          payments.map((one) => one.id),
        )
      : []
  const items: Record<Extract<ItemKind, 'checkout' | 'payment' | 'event' | 'letter'>, number[]> = {
    checkout: [id],
    payment: payments.map((one) => one.id),
    event: events.map((one) => one.id),
    letter: letters.map((one) => one.id),
  }
  const [operatorActions, products, isDrained] = await Promise.all([
    readOperatorActions(pool, items),
    checkout ? readProducts(pool, id) : [],
    pool.exists(sql.type(z.object({}))`select from order_service.drain`),
  ])
  return { order, checkout, events, payments, letters, operatorActions, products, isDrained }
}

const readOrder = (pool: Pool, id: number) =>
  pool.maybeOne(sql.type(orderRow)`
    select o.status, o.user_email as email, o.total_cents, o.currency, o.created_at, o.updated_at, (
      select coalesce(jsonb_agg(jsonb_build_object('product_id', i.product_id, 'qty', i.qty,
        'unit_price_cents', i.unit_price_cents, 'title_snapshot', i.title_snapshot) order by i.id), '[]')
      from public.order_items i where i.order_id = o.id) as lines
    from public.orders o where o.id = ${id}`)

const readCheckout = (pool: Pool, id: number) =>
  pool.maybeOne(sql.type(checkoutRow)`
    select user_email as email, idempotency_key, state, recovery_point, lines, address, total_cents, currency, deadline_at, attempt,
      last_error, cause, service, outcome, history, created_at, updated_at, pruned_at
    from order_service.checkouts where order_id = ${id}`)

const readEvents = (pool: Pool, id: number) =>
  pool.any(sql.type(eventRow)`
    select id, type, created_at, sent_at, partition, kafka_offset, undeliverable_at, undeliverable_reason
    from order_service.outbox where order_id = ${id} order by outbox.id + 0 limit ${MOST}`)

// `id + 0`: otherwise PostgreSQL may read the whole table in the order of its key.
const readPayments = (pool: Pool, id: number) =>
  pool.any(sql.type(paymentRow)`
    select id, type, state, result, amount_cents, currency, provider, payment_id, last_error, cause, service, history, topic, partition,
      kafka_offset, sent_at, received_at, waiting_since, touched_at
    from order_service.payment_events where order_id = ${id} order by id + 0 limit ${MOST}`)

const readLetters = (pool: Pool, eventIds: readonly number[]) =>
  pool.any(sql.type(orderLetterRow)`
    select id, event_id, fault, reason, state, note, times, first_at, last_at
    from order_service.dead_letters where event_id = any(${sql.array([...eventIds], 'int8')}) order by id + 0`)

/** The same number may be the id of an order and of a letter: the verb tells which one was meant. */
async function readOperatorActions(pool: Pool, items: Partial<Record<ItemKind, readonly number[]>>) {
  const ids = Object.values(items).flat()
  const rows = await pool.any(sql.type(operatorActionRow)`
    select a.id as action_id, a.verb, a.operator, a.reason, i.item, i.result, i.detail, coalesce(i.at, a.created_at) as at
    from (select action_id, item, result, detail, at from order_service.operator_action_items
      where item = any(${sql.array(ids, 'int8')}) order by action_id + 0 desc limit ${MOST}) i
    join order_service.operator_actions a on a.id = i.action_id`)
  const kindOf = (verb: string) => (Object.hasOwn(verbs, verb) ? verbs[verb as Verb].item : undefined)
  return rows.filter(({ verb, item }) => items[kindOf(verb)!]?.includes(item))
}

/** What a checkout gives up is written down as it ends, and its reconciliation begins at the next timer at the latest. */
const SETTLES = '5 minutes'

/** `is_settling`: the reconciler still has to read the product, since this checkout ended; later endings of others do not count. */
const readProducts = (pool: Pool, id: number) =>
  pool.any(sql.type(productRow)`
    select p.product_id, p.call_verb, p.call_qty, p.call_expires_at, coalesce(p.call_id = l.call_id, false) as is_ours,
      (coalesce(p.reconciling_since <= l.updated_at + ${SETTLES}::interval, false) or exists (
        select from order_service.product_changes c where c.product_id = p.product_id
          and c.created_at between l.updated_at and l.updated_at + ${SETTLES}::interval)) as is_settling
    from (
      select distinct x.product_id, c.call_id, c.updated_at from order_service.checkouts c
      cross join lateral jsonb_to_recordset(c.lines) as x (product_id int) where c.order_id = ${id}) l
    cross join lateral (select * from order_service.products where product_id = l.product_id limit 1) p order by 1`)
