import { createSecretKey } from 'node:crypto'
import test from 'ava'
import fetch from 'node-fetch'
import type { OperatorDeps } from '../../../src/api/operators/routes.ts'
import { operatorRoutes } from '../../../src/api/operators/routes.ts'
import { tokenReader } from '../../../src/api/auth.ts'
import { readConfig } from '../../../src/config.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { openHarness, paymentOf, type Harness } from '../../payment/harness.ts'
import { createPaymentEvents } from '../../../src/db/payment-events.ts'
import { hostClock } from '../../support/clock.ts'
import { openShop, type Shop } from '../../support/shop.ts'
import { until } from '../../support/until.ts'

let shop: Shop
let harness: Harness
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'] })
  harness = await openHarness(shop)
})
test.after.always(async () => {
  await harness?.close()
  await shop?.close()
})

type Role = 'admin' | 'support'
const html = 'text/html'
const emailOf = (role: Role) => `${role}@example.com`

interface Asked {
  method?: string
  as?: Role
  accept?: string
  json?: object
  form?: Record<string, string> | [string, string][]
  headers?: Record<string, string>
}

async function ask(path: string, { method = 'GET', as = 'admin', accept = 'application/json', json, form, headers = {} }: Asked = {}) {
  const token = shop.auth.token({ sub: emailOf(as), role: as })
  const body = json ? JSON.stringify(json) : form ? new URLSearchParams(form) : undefined
  const answer = await fetch(`${shop.url}/order/admin${path}`, {
    method,
    redirect: 'manual',
    headers: { authorization: `Bearer ${token}`, accept, ...(json && { 'content-type': 'application/json' }), ...headers },
    ...(body !== undefined && { body }),
  })
  const text = await answer.text()
  const isJson = answer.headers.get('content-type')?.includes('json')
  // oxlint-disable-next-line typescript/no-explicit-any -- a test asserts on it
  return { status: answer.status, text, body: (isJson ? JSON.parse(text) : undefined) as any, location: answer.headers.get('location') }
}
const post = (path: string, json: object, more: Asked = {}) => ask(path, { method: 'POST', json, ...more })
const visit = (path: string, more: Asked = {}) => ask(path, { accept: html, ...more })
const send = (path: string, form: Asked['form'], more: Asked = {}) => ask(path, { method: 'POST', accept: html, form: form!, ...more })

const actionsSoFar = async () => (await shop.query<{ n: number }>('select count(*)::int as n from order_service.operator_actions'))[0]!.n

let orders = 900_000
/** The letter of a payment with a wrong amount. */
async function letter(fields: object = {}) {
  orders += 1
  const { eventId, attempt } = await harness.written(paymentOf({ orderId: orders, totalCents: 5 }, fields))
  await createPaymentEvents(harness.pool, hostClock).deadLetter({ eventId, attempt: attempt! }, 'wrong-amount', 'so <b>it</b> was')
  const [row] = await shop.query<{ id: number }>('select id::int from order_service.dead_letters where event_id = $1', [eventId])
  return { id: row!.id, eventId, orderId: orders }
}

test.serial('an action begins on a page that says what will happen, and its own page says what became of it', async (t) => {
  const { id } = await letter()
  const form = await visit(`/actions/new?verb=discard-letters&item=${id}`)
  t.is(form.status, 200)
  t.regex(form.text, /This marks each message as not to be applied/)
  t.regex(form.text, new RegExp(`<input type="hidden" name="item" value="${id}">`))
  t.notRegex(form.text, /perSecond/, 'one item is acted on at once')

  const begun = await send('/actions', { verb: 'discard-letters', item: String(id), reason: 'refunded <script>' })
  t.is(begun.status, 303)
  const page = await visit(begun.location!.replace('/order/admin', ''))
  t.regex(page.text, /1 of 1 done: 1 changed, 0 unchanged, 0 failed/)
  t.regex(page.text, /refunded &lt;script&gt;/)
  t.regex(page.text, /admin@example\.com/)
  t.notRegex((await visit(begun.location!.replace('/order/admin', ''), { as: 'support' })).text, /admin@example\.com/)
  t.regex((await visit('/actions', { as: 'support' })).text, /a\*\*\*@example\.com/)
  t.like((await ask(begun.location!.replace('/order/admin', ''))).body, { state: 'DONE', results: [{ item: id, result: 'changed' }] })
})

test.serial('programs act with JSON, and get the reason of a refusal as `detail`', async (t) => {
  const { id } = await letter()
  const done = await post('/actions', { verb: 'discard-letters', items: [id], reason: 'a program' })
  t.is(done.status, 201)
  t.like(done.body, { verb: 'discard-letters', operator: 'admin@example.com', changed: 1, selection: { items: [id] } })
  t.deepEqual((await post('/actions', { verb: 'discard-letters', items: [id], reason: '' })).body, { detail: 'The reason is missing' })
  for (const [json, status] of [
    [{ verb: 'nothing', reason: 'x' }, 422],
    [{ verb: 'discard-letters', items: ['x'], reason: 'x' }, 422],
    [{ verb: 'discard-letters', cause: 'nothing', reason: 'x' }, 422],
    [{ verb: 'discard-letters', cause: 'product-oversold', reason: 'x' }, 422],
    [{ verb: 'discard-letters', items: [1], cause: 'payment-mismatch', reason: 'x' }, 422],
    [{ verb: 'discard-letters', items: [1], reason: 'x', perSecond: 'many' }, 422],
    [{ verb: 'discard-letters', cause: 'message-unreadable', reason: 'x' }, 404],
    [{ verb: 'edit-letter', items: [id], value: '!', reason: 'x' }, 422],
    [{ verb: { a: 1 }, reason: 'x' }, 422],
    [{ verb: 'replay-letters', items: [id], value: 'e30=', reason: 'x' }, 422],
  ] as const) {
    const refused = await post('/actions', json)
    t.is(refused.status, status, JSON.stringify(json))
    t.is(typeof refused.body.detail, 'string')
  }
  t.is((await ask('/actions', { method: 'POST', headers: { 'content-type': 'text/plain' } })).status, 415)
  t.is((await ask('/actions/999999')).status, 404)
  t.is((await ask('/actions/x')).status, 404)
})

test.serial('a message is edited with its difference shown, and its page follows the payment until the order is paid', async (t) => {
  const bought = await harness.buys({ product_id: shop.catalog.product({ stock: 10 }), qty: 2 })
  const fields = { type: 'payment.succeeded', order_id: bought.orderId, amount_cents: 5, currency: 'USD', note: '<b>&' }
  const { eventId, attempt } = await harness.written({ ...paymentOf(bought), value: Buffer.from(JSON.stringify(fields)) })
  await createPaymentEvents(harness.pool, hostClock).deadLetter({ eventId, attempt: attempt! }, 'wrong-amount', 'not what it costs')
  const [{ id } = { id: 0 }] = await shop.query<{ id: number }>('select id::int from order_service.dead_letters where event_id = $1', [
    eventId,
  ])
  const page = await visit(`/dead-letters/${id}`)
  t.regex(page.text, /its amount or currency differs from the order/)
  t.regex(page.text, /<textarea[^>]*>\n\{&quot;type&quot;/)

  const edited = JSON.stringify({ ...fields, amount_cents: bought.totalCents })
  const preview = await send(`/dead-letters/${id}/preview`, { text: edited })
  t.is(preview.status, 200)
  t.regex(preview.text, /<del class="diff-old">5<\/del><ins class="diff-new">2000<\/ins>/)
  t.notRegex(preview.text, /<b>&/)
  t.regex(preview.text, new RegExp(`<dt>Amount</dt><dd>${bought.totalCents} USD`))
  const before = await actionsSoFar()
  const broken = await send(`/dead-letters/${id}/preview`, { text: `${edited}}` })
  t.regex(broken.text, /The reader refuses it: the value is not JSON/)
  t.notRegex(broken.text, /Apply the edited message/)
  t.is(await actionsSoFar(), before, 'a preview changes nothing')

  const refused = await send('/actions', { verb: 'edit-letter', item: String(id), text: '{', reason: 'x' })
  t.is(refused.status, 422)
  t.regex(refused.text, /The edited message cannot be applied: the value is not JSON/)

  const applied = await send('/actions', { verb: 'edit-letter', item: String(id), text: edited, reason: 'Payment confirmed the amount' })
  t.is(applied.location, `/order/admin/dead-letters/${id}`)
  const paid = await until(
    () => visit(`/dead-letters/${id}`),
    ({ text }) => /It was applied/.test(text),
  )
  t.regex(paid.text, new RegExp(`order ${bought.orderId}</a> is PAID by it`))
  t.regex(paid.text, /Payment confirmed the amount/)
  t.regex(paid.text, /5,&quot;currency/, 'the message as it was sent stays')
  t.is(await harness.statusOf(bought), 'PAID')
})

test.serial('support sees letters without emails, and no button that changes something', async (t) => {
  orders += 1
  const { id } = await letter({ provider: 'ada@example.com' })
  const pages = [`/dead-letters/${id}`, '/dead-letters', '/actions']
  for (const path of pages) {
    const { status, text } = await visit(path, { as: 'support' })
    t.is(status, 200, path)
    t.notRegex(text.replace(/support@example\.com/g, ''), /ada@example\.com|method="post"|actions\/new/, path)
  }
  t.notRegex((await ask(`/dead-letters/${id}`, { as: 'support' })).text, /ada@example\.com/)
  t.regex((await visit(`/dead-letters/${id}`)).text, /ada@example\.com/)
  t.regex((await visit('/dead-letters')).text, /so &lt;b&gt;it&lt;\/b&gt; was/)
})

test.serial('support sees no email that an operator typed, that a provider sent, or that is escaped in JSON', async (t) => {
  const { id } = await letter({ value: Buffer.from('{"note": "ada\\u0040example.com"}') })
  const { eventId, attempt } = await harness.written({
    ...paymentOf({ orderId: orders + 1000, totalCents: 5 }),
    value: Buffer.from(
      JSON.stringify({ type: 'payment.failed', order_id: 1, reason: 'card of ada@example.com', payment_id: 'ada@example.com' }),
    ),
  })
  await createPaymentEvents(harness.pool, hostClock).deadLetter({ eventId, attempt: attempt! }, 'wrong-amount', 'x')
  const [other] = await shop.query<{ id: number }>('select id::int from order_service.dead_letters where event_id = $1', [eventId])
  const { body } = await post('/actions', { verb: 'discard-letters', items: [id], reason: 'ada@example.com asked for it' })
  const again = await post('/actions', { verb: 'discard-letters', items: [id], reason: 'twice' })
  for (const path of [`/dead-letters/${id}`, `/dead-letters/${other!.id}`, `/actions/${body.id}`, `/actions/${again.body.id}`, '/actions'])
    for (const accept of [html, 'application/json'])
      t.notRegex((await ask(path, { as: 'support', accept })).text, /ada(@|\\+u0040)example\.com/, `${path} as ${accept}`)
  t.regex((await visit(`/actions/${body.id}`)).text, /ada@example\.com asked for it/)
})

test.serial('a form with hundreds of thousands of items is refused at once', async (t) => {
  const form: [string, string][] = [
    ['verb', 'discard-letters'],
    ['reason', 'x'],
    ...Array.from({ length: 300_000 }, () => ['item', '1'] as [string, string]),
  ]
  const began = performance.now()
  t.is((await send('/actions', form)).status, 422)
  t.true(performance.now() - began < 5000)
})

test.serial('a message that is not text is shown as bytes', async (t) => {
  const { eventId, attempt } = await harness.written({
    ...paymentOf({ orderId: 7, totalCents: 5 }),
    value: Buffer.from([0xff, 0x41, 0x00]),
  })
  await createPaymentEvents(harness.pool, hostClock).deadLetter({ eventId, attempt: attempt! }, 'wrong-amount', 'x')
  const [{ id } = { id: 0 }] = await shop.query<{ id: number }>('select id::int from order_service.dead_letters where event_id = $1', [
    eventId,
  ])
  t.regex((await visit(`/dead-letters/${id}`)).text, /000000 {2}ff 41 00 +\.A\./)
  t.deepEqual((await ask(`/dead-letters/${id}`)).body.letter.value, { base64: '/0EA' })
  t.deepEqual((await ask(`/dead-letters/${id}`, { as: 'support' })).body.letter.value, { bytes: 3 })
})

test.serial('a bulk action is begun, paused, resumed and aborted on its page, and a second one is led to it', async (t) => {
  for (let n = 0; n < 25; n++) await letter()
  const cause = { verb: 'discard-letters', cause: 'payment-mismatch' }
  t.regex((await visit(`/actions/new?${new URLSearchParams(cause)}`)).text, /name="perSecond"/)
  const { location } = await send('/actions', { ...cause, reason: 'all of them', perSecond: '1' })
  const path = location!.replace('/order/admin', '')
  const second = await send('/actions', { ...cause, reason: 'once more', perSecond: '1' })
  t.is(second.status, 409)
  t.regex(second.text, /admin@example\.com started it at/)
  t.true(second.text.includes(`href="${location}"`))
  t.like((await post('/actions', { ...cause, reason: 'once more' })).body, { runs: location })

  t.is((await send(`${path}/pause`, {})).status, 422, 'a reason is missing')
  t.is((await send(`${path}/pause`, { reason: 'wait' })).status, 303)
  const paused = await visit(path)
  t.regex(paused.text, /The action is paused/)
  t.regex(paused.text, /data-live/)
  t.is((await post(`${path}/pause`, { reason: 'again' })).status, 409)
  t.like((await post(`${path}/resume`, { reason: 'go on' })).body, { state: 'RUNNING' })
  t.is((await send(`${path}/abort`, { reason: 'enough' })).status, 303)
  t.regex((await visit(path)).text, /The action was aborted/)
  t.notRegex((await visit(path)).text, /data-live/)
  t.regex((await visit(`${path}?result=left`)).text, /to do/)
  await until(
    () => ask('/dead-letters?state=DISCARDED'),
    ({ body }) => body.letters.length > 0,
  )
})

/** The routes that change something, each with a request that is allowed. */
async function allowedChanges(): Promise<Record<string, [path: string, asked: Asked][]>> {
  const { id } = await letter()
  for (let n = 0; n < 25; n++) await letter()
  const begun = await post('/actions', { verb: 'discard-letters', cause: 'payment-mismatch', reason: 'x', perSecond: 1 })
  const action = `/actions/${begun.body.id}`
  const json = { reason: 'x' }
  const queue = '/queues/api/queues/payment'
  const changed = (path: string, body: object = json): [string, Asked] => [path, { method: 'POST', json: body }]
  const board = (path: string): [string, Asked] => [path, { method: 'PUT' }]
  return {
    '/order/admin/actions': [changed('/actions', { verb: 'discard-letters', items: [id], ...json })],
    '/order/admin/actions/:id/pause': [changed(`${action}/pause`)],
    '/order/admin/actions/:id/resume': [changed(`${action}/resume`)],
    '/order/admin/actions/:id/abort': [changed(`${action}/abort`)],
    '/order/admin/queues{/*path}': [
      board(`${queue}/pause`),
      board(`${queue}/resume`),
      board(`${queue}/promote`),
      board(`${queue}/retry/failed`),
    ],
  }
}
/** They change no order and no queue. */
const recordless = ['/order/admin/sign-in', '/order/admin/sign-out', '/order/admin/dead-letters/:id/preview']

test.serial('every route that changes something leaves a record, for admins, and does nothing for support', async (t) => {
  const config = readConfig(shop.env)
  const { stack } = operatorRoutes(() => undefined as OperatorDeps | undefined, {
    readToken: tokenReader({ ...config, now: Date.now }),
    jwtKey: createSecretKey('x', 'utf8'),
    logger: createLogger('silent'),
  })
  const paths = stack
    .filter(({ methods }) => methods.some((method) => !/^(GET|HEAD|OPTIONS)$/.test(method)))
    .map(({ path }) => String(path))
  const known = await allowedChanges()
  t.deepEqual([...new Set(paths)].sort(), [...Object.keys(known), ...recordless].sort(), 'this test knows every route')
  for (const [route, requests] of Object.entries(known)) {
    for (const [path, asked] of requests) {
      const before = await actionsSoFar()
      t.is((await ask(path, { ...asked, as: 'support' })).status, 403, path)
      t.is(await actionsSoFar(), before, route)
      const answer = await ask(path, asked)
      t.true(answer.status < 300, `${path}: ${answer.status} ${answer.text}`)
      t.is(await actionsSoFar(), before + 1, path)
    }
  }
  const [last] = (await ask('/actions')).body.actions
  t.like(last, {
    verb: 'retry-jobs',
    selection: { queue: 'payment', jobs: 'failed' },
    operator: 'admin@example.com',
    reason: 'with Bull Board',
  })
})

test.serial('no change is made by another site, without a session, or with a body that is too large', async (t) => {
  const { id } = await letter()
  const before = await actionsSoFar()
  const form = { verb: 'discard-letters', item: String(id), reason: 'x' }
  const url = `${shop.url}/order/admin/actions`
  const cookie = `order_operator=${shop.auth.token({ sub: 'admin@example.com', role: 'admin' })}`
  const forged = await fetch(url, { method: 'POST', body: new URLSearchParams(form), headers: { cookie, origin: 'https://evil.example' } })
  t.is(forged.status, 403)
  t.is((await fetch(url, { method: 'POST', body: new URLSearchParams(form), headers: { 'sec-fetch-site': 'same-origin' } })).status, 401)
  t.is((await send('/actions', { ...form, text: 'x'.repeat(4 * 1024 * 1024) })).status, 413)
  t.is((await send('/actions', { ...form, verb: 'edit-letter', text: 'x'.repeat(1024 * 1024 + 1) })).status, 422)
  t.is(await actionsSoFar(), before)
})
