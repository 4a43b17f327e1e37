/** What comes over the wire in place of a downstream service's own answer: from gateways, proxies and servers that misbehave. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { createCatalog } from '../../src/clients/catalog.ts'
import { type Answer, createDownstream, NoAnswer } from '../../src/clients/http.ts'
import { createShipping } from '../../src/clients/shipping.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { demoAddress } from '../support/shop.ts'

const TIMEOUT_MS = 20_000

/** A server that says this, byte for byte, to each request. */
async function says(t: ExecutionContext, ...parts: string[]) {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    socket.on('data', () => {
      for (const part of parts) socket.write(part)
    })
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const http = createDownstream({
    name: 'downstream',
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    headers: {},
    concurrency: 1,
    timeoutMs: TIMEOUT_MS,
    metrics: createMetrics(),
  })
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    await Promise.all([http.close(), new Promise((closed) => server.close(closed))])
  })
  const catalog = createCatalog(http)
  const shipping = createShipping(http)
  return {
    post: (): Promise<Answer> => http.call({ name: 'create', method: 'POST', path: '/', body: {} }),
    reserve: () => catalog.change({ verb: 'reserve', items: [{ productId: 1, qty: 1 }], idempotencyKey: 'k' }),
    commit: () => catalog.change({ verb: 'commit', items: [{ productId: 1, qty: 1 }], idempotencyKey: 'k' }),
    read: () => catalog.read(1),
    create: () => shipping.create({ order_id: 1, user_email: 'ada@example.com', ...demoAddress }, 'k'),
  }
}

function message(status: string, body: string, headers: readonly string[] = []): string {
  return [`HTTP/1.1 ${status}`, `content-length: ${Buffer.byteLength(body)}`, ...headers, '', body].join('\r\n')
}
const reserved = message('200 OK', '{"status":"reserved"}', ['content-type: application/json'])
const page = ['content-type: text/html']

for (const [what, status, body] of [
  ['a 404 in plain text', '404 Not Found', '404 page not found\n'],
  ['a 404 whose JSON has no detail', '404 Not Found', '{"error":"no route"}'],
  ['a 409 in plain text', '409 Conflict', 'conflict'],
  ['a 422 in plain text', '422 Unprocessable Entity', 'no'],
] as const) {
  test(`${what} is a gateway's: Catalog and Shipping have said nothing, and may have acted`, async (t) => {
    const { commit, read, create } = await says(t, message(status, body, page))
    const began = performance.now()
    for (const call of [commit, read, create]) {
      const { sent, settlesAt } = await t.throwsAsync<NoAnswer>(call, { instanceOf: NoAnswer })
      t.true(sent)
      t.true(settlesAt - began < TIMEOUT_MS, 'a gateway that refuses has nothing under way')
    }
  })
}

test('a 404 of another service at the address of Catalog says nothing of a product', async (t) => {
  const { commit, read } = await says(t, message('404 Not Found', '{"detail":"Not Found"}'))
  t.like(await t.throwsAsync(commit, { instanceOf: NoAnswer }), { sent: true })
  await t.throwsAsync(read, { instanceOf: NoAnswer })
})

test('a 404 in Catalog’s own words is an answer of Catalog', async (t) => {
  const { commit, read } = await says(t, message('404 Not Found', '{"detail":"Inventory missing for product_id 1"}'))
  t.like(await commit(), { answer: 'refused', status: 404, detail: 'Inventory missing for product_id 1' })
  t.deepEqual(await read(), { inStock: 0, reserved: 0 })
})

for (const [what, body] of [
  ['a page', '<html>It works!</html>'],
  ['nothing', ''],
  ['JSON that is a number', '1'],
  ['JSON that is null', 'null'],
  ['a JSON list', '[]'],
] as const) {
  test(`a 200 with ${what} in place of a JSON object is no answer: the call may have been carried out, or still be`, async (t) => {
    const { reserve, create } = await says(t, message('200 OK', body))
    const began = performance.now()
    for (const call of [reserve, create]) {
      const { sent, settlesAt } = await t.throwsAsync<NoAnswer>(call, { instanceOf: NoAnswer })
      t.true(sent)
      t.true(settlesAt - began >= TIMEOUT_MS)
    }
  })
}

test('an answer of more than 1 MB is cut off and does not count as an answer', async (t) => {
  const MB = 1_048_576
  const json = (bytes: number) => `{"a":"${'x'.repeat(bytes - 8)}"}`
  const much = await says(t, message('200 OK', json(MB)))
  t.is((await much.post()).status, 200)
  const more = await says(t, message('200 OK', json(MB + 1)))
  t.like(await t.throwsAsync(more.post, { instanceOf: NoAnswer }), { sent: true })
})

for (const [status, headers] of [
  ['100 Continue', []],
  ['103 Early Hints', ['link: </style.css>; rel=preload']],
  ['102 Processing', []],
] as const) {
  const interim = [`HTTP/1.1 ${status}`, ...headers, '', ''].join('\r\n')
  test(`an unasked ${status} before an answer is ignored, whether it comes with the answer or by itself`, async (t) => {
    const together = await says(t, interim + reserved)
    t.deepEqual(await together.reserve(), { answer: 'done' })
    t.deepEqual(await together.reserve(), { answer: 'done' }, 'the connection goes on')
    const apart = await says(t, interim, reserved)
    t.deepEqual(await apart.reserve(), { answer: 'done' })
    const twice = await says(t, interim + interim, reserved)
    t.deepEqual(await twice.reserve(), { answer: 'done' })
  })
}

const inAMinute = 'Sat, 01 Jan 2000 00:01:00 GMT'
for (const [what, headers, ms] of [
  ['seconds', ['retry-after: 3'], 3000],
  ['a date, by the clock of the server', [`retry-after: ${inAMinute}`, 'date: Sat, 01 Jan 2000 00:00:00 GMT'], 60_000],
  ['a date that is over', [`retry-after: ${inAMinute}`], 0],
  ['something else', ['retry-after: soon'], undefined],
] as const) {
  for (const status of ['429 Too Many Requests', '503 Service Unavailable']) {
    test(`a ${status} with a Retry-After in ${what} is reported with that time`, async (t) => {
      const { post } = await says(t, message(status, '{"detail":"later"}', headers))
      t.is((await post()).retryAfterMs, ms)
    })
  }
}
