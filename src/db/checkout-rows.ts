/**
 * What the statements on checkouts share: their types, the reading of their rows, and the order of a batch.
 *
 * - Statements that come often take many rows at once.
 * - A decision is written only where the row is still OPEN and, for the attempt that drives it, its attempt is the latest.
 * - Rows are locked in the order of their ids, and checkouts before products, so that no two statements wait for each other.
 * - Rows are found by their ids alone. The partial index of OPEN rows is full of dead entries, and the planner would choose it.
 */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Address, Outcome } from '../model.ts'

/** One attempt at a checkout. Its writes count only while it is the latest attempt. */
export interface Attempt {
  orderId: number
  attempt: number
}

export type Created = Extract<Outcome, { state: 'CREATED' }>

export interface Delivery {
  userEmail: string
  address: Address
}

export const outcomeRow = z.object({
  order_id: z.int(),
  state: z.enum(['OPEN', 'CREATED', 'REJECTED', 'CANCELLED']),
  total_cents: z.int(),
  currency: z.string(),
  outcome: z.object({ status: z.int(), detail: z.string() }).nullable(),
})

export const createdRow = z.object({ order_id: z.int(), attempt: z.int(), total_cents: z.int(), currency: z.string() })

export const createdOf = (row: Omit<z.infer<typeof createdRow>, 'attempt'>): Created => ({
  state: 'CREATED',
  orderId: row.order_id,
  totalCents: row.total_cents,
  currency: row.currency,
})

export function outcomeOf(row: z.infer<typeof outcomeRow>): Outcome | undefined {
  if (row.state === 'OPEN') return undefined
  return row.state === 'CREATED' ? createdOf(row) : { state: row.state, orderId: row.order_id, ...row.outcome! }
}

/** The result of each item of a batch, in its order; undefined where the statement returned no row for it. */
export function inOrder<In extends { orderId: number }, Row extends { order_id: number }, Out>(
  batch: In[],
  rows: readonly Row[],
  toOut: (row: Row) => Out,
): (Out | undefined)[] {
  const byId = new Map(rows.map((row) => [row.order_id, row]))
  return batch.map(({ orderId: id }) => {
    const row = byId.get(id)
    return row && toOut(row)
  })
}

export const idsOf = (batch: readonly { orderId: number }[]) =>
  sql.array(
    batch.map((item) => item.orderId),
    'int4',
  )
