/** The queues, for commands. Loaded at first use: commands that do not need it start in half the time. */
import type { RedisConnection } from '../redis/connection.ts'
import type { Queues } from '../operators/queue-verbs.ts'
import { createCheckoutQueue } from '../queues/checkout.ts'
import { createActionQueue } from '../queues/operator-actions.ts'
import { createPaymentQueue } from '../queues/payment.ts'
import { createStockQueue } from '../queues/stock.ts'

export function openQueues(redis: RedisConnection, prefix: string): Queues & { close(): Promise<unknown> } {
  const clock = { databaseTime: Date.now }
  const queues = {
    checkoutQueue: createCheckoutQueue(redis, prefix, clock),
    paymentQueue: createPaymentQueue(redis, prefix, clock),
    stockQueue: createStockQueue(redis, prefix),
    actionQueue: createActionQueue(redis, prefix),
  }
  return { ...queues, close: () => Promise.all(Object.values(queues).map((queue) => queue.close())) }
}
