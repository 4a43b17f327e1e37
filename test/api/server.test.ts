import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import Koa from 'koa'
import { close, listen, portOf } from '../../src/api/server.ts'
import { start } from '../support/services/processes.ts'
import { checkout } from '../support/services/state.ts'
import { until } from '../support/until.ts'
import { open, token } from './desk.ts'

/** Sends bytes as they are. @returns all that comes back until the other side closes */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.on('data', (chunk) => (answer += chunk))
    socket.on('end', () => resolve(answer))
    socket.on('error', reject)
  })
}

async function gated(t: ExecutionContext) {
  const gate = Promise.withResolvers<void>()
  const arrived = Promise.withResolvers<void>()
  const app = new Koa()
  app.use(async (ctx) => {
    if (ctx.path === '/slow') {
      arrived.resolve()
      await gate.promise
    }
    ctx.body = { path: ctx.path }
  })
  const server = await listen(app, { host: '127.0.0.1', port: 0 })
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => agent.destroy())
  const get = (path: string) =>
    new Promise<number>((resolve, reject) => {
      request({ host: '127.0.0.1', port: portOf(server), path, agent }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode!))
      })
        .on('error', reject)
        .end()
    })
  return { server, get, gate, arrived: arrived.promise }
}

test('closing lets the request under way finish, drops idle connections and takes no new ones', async (t) => {
  const { server, get, gate, arrived } = await gated(t)
  t.is(await get('/quick'), 200)
  const slow = get('/slow')
  await arrived
  const closed = close(server, { withinMs: 60_000 })
  await t.throwsAsync(get('/quick'))
  gate.resolve()
  t.is(await slow, 200)
  await closed // the connection is kept alive by the client: it does not hold us
  t.false(server.listening)
})

test('a request that never ends does not hold the closing for ever', async (t) => {
  const { server, get, arrived } = await gated(t)
  const cut = t.throwsAsync(get('/slow'))
  await arrived
  await close(server, { withinMs: 20 })
  await cut
})

test('a port in use is reported', async (t) => {
  const { server } = await gated(t)
  t.teardown(() => close(server, { withinMs: 1000 }))
  await t.throwsAsync(listen(new Koa(), { host: '127.0.0.1', port: portOf(server) }), { code: 'EADDRINUSE' })
})

test('what is no HTTP is a 400, headers beyond 16 kB are a 431, both with a detail', async (t) => {
  const desk = await open(t)
  const port = portOf(desk.server)
  t.regex(
    await raw(port, 'what?\r\n\r\n'),
    /^HTTP\/1\.1 400 Bad Request\r\nContent-Type: application\/json\r\n[^]*\{"detail":"Bad Request"\}$/,
  )
  const long = token({ note: 'x'.repeat(16_384) })
  t.regex(await raw(port, `GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${long}\r\n\r\n`), /^HTTP\/1\.1 431 [^]*\{"detail":/)
})

test('a thousand connections that come at once while the process is busy are all taken', async (t) => {
  if (Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8')) < 1000) return t.pass('this kernel takes fewer for anybody')
  const script = `import { listen, portOf } from './src/api/server.ts'
    console.log(portOf(await listen({ callback: () => () => {} }, { host: '127.0.0.1', port: 0 })))`
  const child = await start(
    { command: [process.execPath, '--input-type=module-typescript', '-e', script], directory: checkout, env: {} },
    'pipe',
  )
  t.teardown(child.end)
  const [port] = (await once(child.stdout!, 'data')) as [Buffer]
  process.kill(child.pid, 'SIGSTOP')
  let connected = 0
  const sockets = Array.from({ length: 1000 }, () => connect(Number(port), '127.0.0.1', () => (connected += 1)))
  t.teardown(() => sockets.forEach((socket) => socket.destroy()))

  await until(
    () => connected,
    (count) => count === 1000,
  )
  process.kill(child.pid, 'SIGCONT')
  t.pass()
})
