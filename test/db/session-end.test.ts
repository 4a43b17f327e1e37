/** A PostgreSQL that ends a session in the moment in which it has begun: between two answers, when nobody waits for any. */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import test from 'ava'
import { connectPool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'

/** https://www.postgresql.org/docs/current/protocol-message-formats.html */
function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}
const welcome = [message('R', Buffer.alloc(4)), message('Z', Buffer.from('I'))]
const farewell = message('E', Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0'))

test('a session that PostgreSQL ends rejects its query and does not end the process', async (t) => {
  let sessions = 0
  const server = createServer((socket) => {
    sessions += 1
    socket.on('error', () => {})
    socket.once('data', () => socket.end(Buffer.concat([...welcome, farewell])))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo

  const dsn = `postgresql://somebody@127.0.0.1:${port}/shop`
  await t.throwsAsync(connectPool(dsn, { size: 1, logger: createLogger('silent') }))

  t.is(sessions, 1)
})
