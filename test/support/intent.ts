/** Open checkouts, as an intent leaves them. */
import { createIntents } from '../../src/db/intents.ts'
import type { Pool } from '../../src/db/pool.ts'
import { demoAddress } from './shop.ts'

/** A new checkout of so many pieces of one product, at 100 cents each. */
export async function opened(
  pool: Pool,
  { productId, qty, userEmail = 'ada@example.com' }: { productId: number; qty: number; userEmail?: string },
) {
  const intent = await createIntents(pool).intend({
    userEmail,
    idempotencyKey: 'key',
    requestHash: 'hash',
    lines: [{ product_id: productId, qty, unit_price_cents: 100, title_snapshot: 'Air Zoom' }],
    address: demoAddress,
    totalCents: qty * 100,
    budgetMs: 8000,
  })
  if (intent.claim !== 'new') throw new Error('not a new one')
  return intent
}
