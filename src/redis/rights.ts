/** Tests the rights of the Redis user (docs/configuration.md) at start-up: otherwise a missing right would show at the first customer. */
import { randomUUID } from 'node:crypto'
import { isRefusedByRedis, type RedisConnection } from './connection.ts'

/** One command for each data type that BullMQ uses, in a script like its own. */
const useKey = ['SET k v', 'HSET k f v', 'LPUSH k v', 'SADD k v', 'ZADD k 1 v', 'XADD k * f v']
  .map((command) => command.split(' ').map((word) => (word === 'k' ? 'KEYS[1]' : `'${word}'`)))
  .map((words) => `redis.call(${words.join(', ')}) redis.call('DEL', KEYS[1])`)
  .join('\n')

/** @throws where Redis does not answer, or refuses something that the service needs: the message says what */
export async function requireRights(redis: RedisConnection, prefix: string): Promise<void> {
  const name = `${prefix}:probe:${randomUUID()}`
  const needs: Record<string, () => Promise<unknown>> = {
    'read cart:*': () => redis.hvals(`cart:${name}`),
    [`write ${prefix}*`]: () => redis.set(name, '', 'PX', 1000),
    [`run scripts on ${prefix}*`]: () => redis.eval(useKey, 1, name),
    [`publish on ${prefix}*`]: () => redis.publish(name, ''),
  }
  for (const [what, attempt] of Object.entries(needs)) {
    await attempt().catch((error: Error) => {
      throw isRefusedByRedis(error)
        ? new Error(`the Redis user has no right to ${what}; grant it with ACL SETUSER`, { cause: error })
        : error
    })
  }
}
