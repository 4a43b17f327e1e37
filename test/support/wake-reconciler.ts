/** Wakes the reconciler of a product, as the service does for what it is to correct. */
import { createStockQueue } from '../../src/queues/stock.ts'
import { connectPatient } from '../../src/redis/connection.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import type { Shop } from './shop.ts'

export async function wakeReconciler({ prefix }: Pick<Shop, 'prefix'>, productIds: readonly number[]): Promise<void> {
  const redis = connectPatient(process.env.REDIS_URL!, createLogger('silent'))
  const queue = createStockQueue(redis, prefix)
  await queue.wake(productIds)
  await queue.close()
  redis.disconnect()
}
