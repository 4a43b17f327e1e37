/** Records the holds of calls to reserve that Catalog carried out. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { ProductQty } from '../model.ts'
import { LOCKED } from './locked.ts'
import type { Pool, Transaction } from './pool.ts'
import { int4s, productsOfCalls, recordCalls } from './stock-calls.ts'

/** A call to reserve that Catalog carried out, with its members. */
export interface Reserved {
  callId: number
  productIds: readonly number[]
  members: readonly { orderId: number; products: readonly ProductQty[] }[]
}

/** `orderIds`: the orders that have their hold. `missedProducts`: their rows are locked, so the caller applies their changes later. */
export interface ReserveRecorded {
  orderIds: number[]
  missedProducts: number[]
}

const reservedRow = z.object({ is_locked: z.boolean(), order_ids: z.array(z.int()), missed_products: z.array(z.int()) })

/** The input: `parts` are the products of each call, `items` what each member wants of them. */
function inputOf(calls: readonly Reserved[]): { parts: string; items: string; orderIds: number[] } {
  const parts = productsOfCalls(calls)
  const items = JSON.stringify(
    calls.flatMap(({ callId: call_id, members }) =>
      members.flatMap(({ orderId: order_id, products }) =>
        products.map(({ productId: product_id, qty }) => ({ call_id, order_id, product_id, qty })),
      ),
    ),
  )
  const orderIds = calls.flatMap(({ members }) => members.map((member) => member.orderId))
  return { parts, items, orderIds }
}

/** What each member of a call wants of a product. */
const wantedItems = (items: string) => sql.fragment`
  item as materialized (
    select * from jsonb_to_recordset(${items}::jsonb) as t (call_id bigint, order_id int, product_id int, qty bigint)
  )`

/** Locks the checkouts. Where one is locked and the caller is patient, there are no parts, and nothing is recorded. */
const lockMembers = (parts: string, orderIds: readonly number[], isPatient: boolean) => sql.fragment`
  lock as materialized (
    select order_id, state, recovery_point, call_id from order_service.checkouts
    where order_id = any(${int4s(orderIds)}) order by order_id for no key update skip locked
  ), part as materialized (
    select * from jsonb_to_recordset(${parts}::jsonb) as t (call_id bigint, product_id int)
    where not ${isPatient} or (select count(*) from lock) = ${orderIds.length}::int
  )`

/** Checkouts that are open and still in their call get their hold. `share`: the units of each product that they hold. */
const grantHolds = sql.fragment`
  granted as (
    update order_service.checkouts set recovery_point = 'reserve-stock', updated_at = now()
    where order_id = any(array(select l.order_id from lock l join item using (order_id, call_id) join part using (call_id, product_id)
      where l.state = 'OPEN' and l.recovery_point = 'intent'))
    returning order_id
  ), share as materialized (
    select i.call_id, i.product_id, sum(i.qty)::bigint as held, 0::bigint as expected_stock
    from item i join granted using (order_id) group by i.call_id, i.product_id
  )`

/**
 * Records the hold of each checkout that is open and still in its call, whichever attempt drives it. The units of a checkout that was
 * cancelled in the meantime become a hold correction, and the reconciler gives them back.
 * @param isPatient nothing is recorded while another session has locked one of the checkouts
 * @returns LOCKED where a checkout is locked and `isPatient`
 */
export async function recordHolds(
  db: Pool | Transaction,
  calls: readonly Reserved[],
  isPatient: boolean,
): Promise<ReserveRecorded | typeof LOCKED> {
  const { parts, items, orderIds } = inputOf(calls)
  const row = await db.one(sql.prepared('record-holds', reservedRow)`
    with ${wantedItems(items)}, ${lockMembers(parts, orderIds, isPatient)}, ${grantHolds},
    ${recordCalls(calls.flatMap((call) => call.productIds))}
    select not exists (select from part) as is_locked, array(select order_id from granted) as order_ids,
      array(select product_id from late) as missed_products`)
  return row.is_locked ? LOCKED : { orderIds: row.order_ids, missedProducts: row.missed_products }
}
