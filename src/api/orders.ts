/** Reads orders for customers and other services. */
import type { Middleware } from 'koa'
import type { OrderView } from '../db/orders.ts'
import { MAX_INTEGER } from '../model.ts'
import { answer, Refusal, RETRY_SOON } from './refusal.ts'
import { within } from '../within.ts'

/** If PostgreSQL does not answer within this time, the customer gets a 503. An order is normally read in 1 ms. */
const READ_MS = 2000

export interface OrderDeps {
  /** @param orderId within PostgreSQL's `integer` */
  readOrder(orderId: number): Promise<OrderView | undefined>
}

/** Answers `GET /order/v1/orders/{id}`. It is public, because the contract requires no token here. */
export function orderHandler(deps: () => OrderDeps): Middleware {
  return async (ctx) => {
    const text = String(ctx.params.id)
    if (!/^[+-]?\d+$/.test(text)) throw new Refusal(422, 'The order id is not an integer')
    const id = Number(text)
    const order = id >= 1 && id <= MAX_INTEGER ? await read(deps(), id) : undefined
    if (!order) throw new Refusal(404, 'Order not found')
    ctx.state.orderId = id
    const { status, totalCents, currency, items, reason } = order
    answer(ctx, 200, { id, status, total_cents: totalCents, currency, items, ...(reason === undefined ? {} : { reason }) })
  }
}

async function read(deps: OrderDeps, id: number): Promise<OrderView | undefined> {
  try {
    return await within(READ_MS, deps.readOrder(id))
  } catch (cause) {
    throw new Refusal(503, 'Orders cannot be read at the moment', { headers: RETRY_SOON, cause })
  }
}
