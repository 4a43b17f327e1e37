import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import test from 'ava'
import { connectFailFast, ready } from '../../src/redis/connection.ts'
import { createLogger } from '../../src/telemetry/logger.ts'

test('a command that was carried out and whose answer got lost with the connection is not sent again after a reconnect', async (t) => {
  const { hostname, port } = new URL(process.env.REDIS_URL!)
  let breaks = false
  const line = createServer((near) => {
    const far = connect(Number(port), hostname)
    near.pipe(far).on('data', (answer) => {
      if (breaks) near.destroy()
      else near.write(answer)
    })
    near.on('error', () => {}).on('close', () => far.destroy())
  }).listen(0, '127.0.0.1')
  await once(line, 'listening')
  const redis = connectFailFast(`redis://127.0.0.1:${(line.address() as AddressInfo).port}`, createLogger('silent'))
  const direct = new Redis(process.env.REDIS_URL!)
  const list = `test:${randomUUID()}`
  t.teardown(async () => {
    redis.disconnect()
    await direct.del(list)
    direct.disconnect()
    line.close()
  })
  await ready(redis)

  breaks = true
  const lost = redis.rpush(list, 'once').catch((error: Error) => error)
  await once(redis, 'close')
  breaks = false
  await ready(redis)
  await redis.ping() // after it, whatever would be sent again

  t.true((await lost) instanceof Error)
  t.is(await direct.llen(list), 1)
})
