/** Operators' actions on a database and queues of their own, without workers: what is to be done stays to be seen. */
import { randomUUID } from 'node:crypto'
import { receive } from '../../src/db/inbox.ts'
import { createPaymentEvents } from '../../src/db/payment-events.ts'
import { connectPool } from '../../src/db/pool.ts'
import type { DeadLetterFault } from '../../src/model.ts'
import type { ActionRequest, Actions } from '../../src/operators/action.ts'
import { createActions } from '../../src/operators/perform-actions.ts'
import { createBulkActions } from '../../src/operators/bulk-actions.ts'
import { openQueues } from '../../src/admin/queues.ts'
import { readPaymentMessage, unreadable } from '../../src/kafka/payment-message.ts'
import { connectFailFast, ready } from '../../src/redis/connection.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { hostClock } from '../support/clock.ts'
import { createDatabase, query } from '../support/database.ts'

export const by = { operator: 'ada@example.com', reason: 'the test says so' }
const topic = 'payment.events'

export type OperatorsHarness = Awaited<ReturnType<typeof openActions>>

export async function openActions() {
  const logger = createLogger('silent')
  const database = await createDatabase()
  const pool = await connectPool(database.dsn, { size: 6, logger, statementTimeoutMs: 30_000 })
  const redis = connectFailFast(process.env.REDIS_URL!, logger)
  await ready(redis)
  const queues = openQueues(redis, `{actions-${randomUUID().slice(0, 8)}}`)
  const deps = { read: async () => pool, write: async () => pool, queues: async () => queues, logger }
  const actions: Actions = createActions(deps)
  const ask = <Row extends Record<string, unknown>>(text: string, values?: unknown[]) => query<Row>(database.dsn, text, values)
  const events = createPaymentEvents(pool, hostClock)
  let offset = 0n

  /** A message as it came from the topic. */
  function message(fields: object | string) {
    offset += 1n
    const value = Buffer.from(typeof fields === 'string' ? fields : JSON.stringify(fields))
    return { offset, key: Buffer.from('k'), value, headers: [], sentAt: new Date() }
  }

  return {
    pool,
    queues,
    actions,
    bulk: createBulkActions(deps),
    ask,
    dsn: database.dsn,
    /** The results of an action, by item. */
    async results(request: Omit<ActionRequest, 'operator' | 'reason'>) {
      const action = await actions.act({ ...request, ...by })
      const items = await actions.items(action.id, { limit: 1000 })
      return { action, items: Object.fromEntries(items.map(({ item, result, detail }) => [item, [result, detail]])) }
    },
    /** A payment that waits. @returns its id */
    async payment(orderId: number, cause: string | null = null, service: string | null = null): Promise<number> {
      const { waiting } = await receive(pool, { topic, partition: 0 }, [
        readPaymentMessage(
          message({ type: 'payment.succeeded', order_id: orderId, amount_cents: 5, currency: 'USD', payment_id: `p-${offset}` }),
        ),
      ])
      const { eventId } = waiting[0]!
      await ask('update order_service.payment_events set cause = $2, service = $3 where id = $1', [eventId, cause, service])
      return eventId
    },
    /** Many payments that wait, of orders 1 to n. */
    async payments(count: number, cause: string): Promise<void> {
      await ask(
        `insert into order_service.payment_events (identity, type, order_id, state, topic, partition, kafka_offset, value, headers, sent_at, cause, service)
         select 'i' || n, 'payment.succeeded', n, 'WAITING', 't', 0, n, '', '[]', now(), $2, 'catalog' from generate_series(1, $1) n`,
        [count, cause],
      )
    },
    /** A checkout. @returns its order id */
    async checkout(orderId: number, { state = 'OPEN', cause = null as string | null, untouchedMs = 10_000 } = {}): Promise<number> {
      await ask(
        `insert into order_service.checkouts (order_id, user_email, request_hash, state, outcome, lines, address, total_cents, deadline_at, updated_at, cause)
         values ($1, 'c@example.com', 'hash', $2, $3, '[{"product_id": 1, "qty": 1}]', '{}', 1, now() + interval '1 min', now() - $4 * interval '1 ms', $5)`,
        [orderId, state, state === 'OPEN' ? null : '{"status": 503, "detail": "no"}', untouchedMs, cause],
      )
      return orderId
    },
    /** The letter of a payment that died. */
    async died(fields: object, fault: DeadLetterFault = 'wrong-amount'): Promise<{ letterId: number; eventId: number }> {
      const { waiting } = await receive(pool, { topic, partition: 0 }, [readPaymentMessage(message(fields))])
      const { eventId, attempt } = waiting[0]!
      await events.deadLetter({ eventId, attempt: attempt! }, fault, 'so it was')
      const [row] = await ask<{ id: number }>('select id::int from order_service.dead_letters where event_id = $1', [eventId])
      return { letterId: row!.id, eventId }
    },
    /** The letter of a message that could not be read. */
    async unread(text: string): Promise<number> {
      const one = message(text)
      await receive(pool, { topic, partition: 0 }, [unreadable(one, 'the value is not JSON')])
      const [row] = await ask<{ id: number }>('select id::int from order_service.dead_letters where kafka_offset = $1', [
        String(one.offset),
      ])
      return row!.id
    },
    async close() {
      await queues.close()
      redis.disconnect()
      await pool.end()
      await database.drop()
    },
  }
}
