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
import { open, token } from './harness.ts'

/** Sends bytes as they are. @returns all that comes back until the other side closes */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.on('data', (chunk) => (answer += chunk))
    socket.on('close', () => resolve(answer))
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

test('closing the server lets the request under way finish, drops idle connections and takes no new ones', async (t) => {
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

test('a request that never ends does not keep the server from closing', async (t) => {
  const { server, get, arrived } = await gated(t)
  const cut = t.throwsAsync(get('/slow'))
  await arrived
  await close(server, { withinMs: 20 })
  await cut
})

test('a port in use is reported at the start', async (t) => {
  const { server } = await gated(t)
  t.teardown(() => close(server, { withinMs: 1000 }))
  await t.throwsAsync(listen(new Koa(), { host: '127.0.0.1', port: portOf(server) }), { code: 'EADDRINUSE' })
})

test('a request that is not HTTP is a 400, headers beyond 16 kB are a 431, both with a detail', async (t) => {
  const api = await open(t)
  const port = portOf(api.server)
  t.regex(
    await raw(port, 'what?\r\n\r\n'),
    /^HTTP\/1\.1 400 Bad Request\r\nContent-Type: application\/json\r\n[^]*\{"detail":"Bad Request"\}$/,
  )
  const long = token({ note: 'x'.repeat(16_384) })
  t.regex(await raw(port, `GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${long}\r\n\r\n`), /^HTTP\/1\.1 431 [^]*\{"detail":/)
})

const lines = (...head: string[]) => `${head.join('\r\n')}\r\nConnection: close\r\n\r\n`
const refused = (status: number) =>
  new RegExp(`^HTTP/1\\.1 ${status} [^]*\\r\\nContent-Type: application/json\\r\\n[^]*\\{"detail":"[^"]+"\\}$`)
const bearer = `Authorization: Bearer ${token()}`

const odd: [what: string, status: number, bytes: string][] = [
  ['an expectation that nobody can meet', 417, lines('GET /order/health HTTP/1.1', 'Host: x', 'Expect: 200-maybe')],
  ['no Host', 400, lines('GET /order/health HTTP/1.1')],
  ['two Hosts', 400, lines('GET /order/health HTTP/1.1', 'Host: x', 'Host: y')],
  ['two tokens in two headers', 400, lines('POST /order/v1/orders/checkout HTTP/1.1', 'Host: x', bearer, 'Authorization: Bearer x')],
  ['two content types', 400, lines('GET /order/health HTTP/1.1', 'Host: x', 'Content-Type: text/plain', 'Content-Type: application/json')],
  ['a target that is no URL', 400, lines('GET http://[/order/health HTTP/1.1', 'Host: x')],
  ['the method CONNECT', 405, lines('CONNECT x:80 HTTP/1.1', 'Host: x:80')],
  [
    'a body whose chunks are none',
    400,
    `${lines('POST /order/v1/orders/checkout HTTP/1.1', 'Host: x', bearer, 'Content-Type: application/json', 'Transfer-Encoding: chunked')}zz\r\n{}`,
  ],
  [
    'a body whose end cannot be told',
    400,
    lines('POST /order/v1/orders/checkout HTTP/1.1', 'Host: x', bearer, 'Content-Type: application/json', 'Transfer-Encoding: gzip'),
  ],
]
for (const [what, status, bytes] of odd) {
  test(`a request with ${what} is a ${status} with a detail`, async (t) => {
    const api = await open(t)
    t.regex(await raw(portOf(api.server), bytes), refused(status))
    t.is(api.tables.intents.length, 0)
  })
}

test('an Expect that is empty, or that Node meets, changes nothing', async (t) => {
  const api = await open(t)
  for (const expected of ['', '100-Continue']) {
    t.regex(await raw(portOf(api.server), lines('GET /order/health HTTP/1.1', 'Host: x', `Expect: ${expected}`)), /HTTP\/1\.1 200 OK\r\n/)
  }
})

test('a body that does not come is a 408, and bytes behind a whole request never pass for its answer', async (t) => {
  const api = await open(t)
  const post = ['POST /order/v1/orders/checkout HTTP/1.1', 'Host: x', bearer, 'Content-Type: application/json']
  const body = JSON.stringify({ address_line1: '1 Demo Street', city: 'Dublin', country: 'IE', postcode: 'D01XYZ' })
  api.server.requestTimeout = 500
  api.server.headersTimeout = 400
  const late = raw(portOf(api.server), [...post, 'Content-Length: 100', '', '{'].join('\r\n'))

  let finish = () => {}
  api.worker = (job) => void (finish = () => api.reply(api.tables.complete(job.orderId)))
  const whole = raw(portOf(api.server), [...post, `Content-Length: ${body.length}`, '', `${body}what?\r\n\r\n`].join('\r\n'))
  await until(() => api.jobs.length === 1)
  t.is(await whole, '')
  finish()

  t.regex(await late, refused(408))
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
