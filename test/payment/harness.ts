/** A harness beside a shop: events go into the inbox and get their jobs as the bridge does it, without Kafka. */
import { createHash } from 'node:crypto'
import { type ReadMessage, receive } from '../../src/db/inbox.ts'
import type { WaitingEvent } from '../../src/db/payment-events.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import type { PaymentEvent } from '../../src/model.ts'
import { createPaymentQueue, type PaymentQueue } from '../../src/queues/payment.ts'
import { connectFailFast, ready } from '../../src/redis/connection.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { hostClock } from '../support/clock.ts'
import type { Inventory, CartLine } from '../support/downstreams/index.ts'
import type { Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

export interface Bought {
  orderId: number
  totalCents: number
}

export interface EventRow extends Record<string, unknown> {
  state: 'WAITING' | 'APPLIED' | 'DEAD'
  result: string | null
  attempt: number
  last_error: string | null
  fault: string | null
  reason: string | null
}

export type Harness = Awaited<ReturnType<typeof openHarness>>

export const topic = 'payment.events'
let offsets = 0n

/** A payment of just what the order costs, unless told otherwise. */
export function paymentOf({ orderId, totalCents }: Bought, changes: Partial<PaymentEvent> = {}): ReadMessage {
  const event: PaymentEvent = {
    type: 'payment.succeeded',
    orderId,
    amountCents: totalCents,
    currency: 'USD',
    provider: null,
    paymentId: null,
    details: {},
    ...changes,
  }
  const value = Buffer.from(JSON.stringify(event))
  offsets += 1n
  return {
    offset: offsets,
    key: Buffer.from(String(orderId)),
    value,
    headers: [],
    sentAt: new Date(),
    read: 'event',
    event,
    identity: createHash('sha256').update(value).digest('hex'),
  }
}

export async function openHarness(shop: Shop) {
  const logger = createLogger('silent')
  const redis = connectFailFast(process.env.REDIS_URL!, logger)
  await ready(redis)
  const pool: Pool = await connectPool(shop.dsn, { size: 4, logger })
  const payments: PaymentQueue = createPaymentQueue(redis, shop.prefix, hostClock)

  const written = async (message: ReadMessage): Promise<WaitingEvent> => {
    const { waiting } = await receive(pool, { topic, partition: 0 }, [message])
    return waiting[0]!
  }
  const event = async (eventId: number): Promise<EventRow> => {
    const [row] = await shop.query<EventRow>(
      `select e.state, e.result, e.attempt, e.last_error, l.fault, l.reason from order_service.payment_events e
       left join order_service.dead_letters l on l.event_id = e.id where e.id = $1`,
      [eventId],
    )
    return row!
  }
  return {
    pool,
    payments,
    redis,
    /** An order of a real checkout. */
    async buys(...lines: CartLine[]): Promise<Bought> {
      const customer = await shop.customer().wants(...lines)
      const { status, body } = await customer.checkout()
      if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
      return { orderId: body.order_id, totalCents: body.total_cents }
    },
    written,
    /** The event has a job. @returns its id in the inbox */
    async paid(message: ReadMessage): Promise<number> {
      const one = await written(message)
      await payments.add([one])
      return one.eventId
    },
    event,
    /** Until nothing drives the event any more. */
    ended: (eventId: number) =>
      until(
        () => event(eventId),
        ({ state }) => state !== 'WAITING',
      ),
    /** Until the event has failed, or found nothing to do yet, so often. */
    tried: (eventId: number) =>
      until(
        () => event(eventId),
        (row) => row.last_error !== null,
      ),
    async statusOf({ orderId }: Pick<Bought, 'orderId'>): Promise<string> {
      return (await shop.get(`/order/v1/orders/${orderId}`)).body.status
    },
    /** Until Catalog says this of a product and our row says the same, with nothing left to put right or to find out. */
    async totalsAre(productId: number, expected: Inventory): Promise<void> {
      const ledger = `select expected_stock::int as in_stock from order_service.products p where product_id = $1
        and hold_correction = 0 and stock_correction = 0 and call_id is null
        and not exists (select from order_service.product_changes c where c.product_id = p.product_id)
        and not exists (select from order_service.unanswered_calls u where u.product_id = p.product_id and u.found is null)`
      await until(
        async () => [shop.catalog.inventory(productId), await shop.query<{ in_stock: number }>(ledger, [productId])] as const,
        ([says, [row]]) =>
          says?.in_stock === expected.in_stock && says.reserved === expected.reserved && row?.in_stock === expected.in_stock,
      )
    },
    /** How often Catalog took the units of a product, and how often that stands once what was restocked is taken off. */
    commits(productId: number, qty: number): { applied: number; net: number } {
      const applied = (call: 'commit' | 'restock') => shop.catalog.journal({ call, productId }).filter((entry) => entry.applied)
      const units = (call: 'commit' | 'restock') =>
        applied(call).reduce((sum, { items }) => sum + items.find((item) => item.product_id === productId)!.qty, 0)
      return { applied: applied('commit').length, net: (units('commit') - units('restock')) / qty }
    },
    /** An order as the predecessor left it. */
    async olderOrder(lines: readonly { productId: number; qty: number }[], status = 'CREATED'): Promise<Bought> {
      const totalCents = lines.reduce((sum, { qty }) => sum + 1000 * qty, 0)
      const [row] = await shop.query<{ id: number }>(
        `insert into public.orders (user_email, status, total_cents) values ('before@example.com', $1, $2) returning id`,
        [status, totalCents],
      )
      for (const { productId, qty } of lines) {
        await shop.query(
          `insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot) values ($1, $2, $3, 1000, '')`,
          [row!.id, productId, qty],
        )
      }
      return { orderId: row!.id, totalCents }
    },
    async close() {
      await payments.close()
      redis.disconnect()
      await pool.end()
    },
  }
}
