import test from 'ava'
import { Worker } from 'bullmq'
import { connectPatient } from '../../../src/redis/connection.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { openShop } from '../../support/shop.ts'
import { until } from '../../support/until.ts'
import { token } from '../harness.ts'
import { adminEmail, ask, openOperators } from './harness.ts'

const api = '/order/admin/queues/api/queues'

const task = (orderId: number) => ({
  orderId,
  products: [{ productId: 1, qty: 2 }],
  lease: null,
  deadline: Date.now() + 60_000,
  replyTo: '{order}:replies:1',
})

interface Shown {
  name: string
  counts: Record<string, number>
  jobs: Record<string, unknown>[]
}

test('the board finds its own files behind a gateway that strips no prefix', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  const board = await operators.visit('/order/admin/queues', session)
  t.regex(board.text, /<base href="\/order\/admin\/queues\/" \/>/)
  t.notRegex(board.text, /<script(?![^>]*(src="static|type="application\/json))/)
  for (const [, path] of board.text.matchAll(/(?:src|href)="(static[^"]+)"/g)) {
    const part = await operators.visit(`/order/admin/queues/${path}`, session)
    t.is(part.status, 200, path)
    t.true(part.text.length > 0)
  }
  t.is((await operators.visit('/order/admin/queues/queue/stock/product-1', session)).status, 200)
  t.is((await operators.visit('/order/admin/queues/api/nothing', session)).status, 404)
})

test('a URL with malformed percent-encoding is a 400 on every page, for programs with a detail', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  for (const path of [
    `${api}?activeQueue=%E0%A4%A`,
    `${api}/checkout/%E0%A4%A/logs`,
    '/order/admin/queues/%',
    '/order/admin/sign-in?next=%E0%A4%A',
    '/order/admin?%FF',
  ]) {
    const answer = await operators.ask(path, { headers: session })
    t.is(answer.status, 400, path)
    t.is(answer.text, '{"detail":"The URL has malformed percent-encoding"}')
    t.is((await operators.visit(path, session)).status, 400, path)
  }
  t.is(
    (await operators.ask(`${api}/checkout/%E0%A4%A/pause`, { method: 'PUT', headers: { ...session, 'sec-fetch-site': 'same-origin' } }))
      .status,
    400,
  )
})

test('a body that Bull Board cannot read is a 4xx, and an unknown method is a 405', async (t) => {
  const operators = await openOperators(t)
  const headers = { ...(await operators.session()), 'sec-fetch-site': 'same-origin', 'content-type': 'application/json' }
  for (const [body, more] of [
    ['{', {}],
    ['null', {}],
    ['{}', { 'content-encoding': 'rot13' }],
  ] as const) {
    t.is((await operators.ask(`${api}/checkout/add`, { method: 'POST', headers: { ...headers, ...more }, body })).status, 403)
    t.is((await operators.ask(`${api}/checkout/resume`, { method: 'PUT', headers: { ...headers, ...more }, body })).status, 200)
  }
  const propfind = await operators.ask('/order/admin/queues', { method: 'PROPFIND', headers })
  t.is(propfind.status, 405)
  t.is(propfind.text, '{"detail":"Method Not Allowed"}')
})

test('requests below the operators’ pages are logged under one pattern', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  await operators.visit('/order/admin', session)
  await operators.visit('/order/admin/queues', session)
  await operators.visit('/order/admin/queues')
  await operators.visit(`${api}?activeQueue=checkout`, session)
  const routes = operators.logged.map((line) => (JSON.parse(line) as { route: string }).route)
  const board = '/order/admin/queues{/*path}'
  t.deepEqual(routes, ['/order/admin/sign-in', '/order/admin', board, board, board])
})

test('the board shows all its queues and every job of them', async (t) => {
  const operators = await openOperators(t)
  await operators.checkoutQueue.add(task(7))
  const { text } = await operators.visit(`${api}?activeQueue=checkout`, await operators.session())
  const { queues } = JSON.parse(text) as { queues: Shown[] }
  t.deepEqual(
    queues.map(({ name, counts }) => [name, counts.waiting]),
    [
      ['checkout', 1],
      ['stock', 0],
    ],
  )
  t.is(queues[0]!.jobs[0]!.id, 'checkout-7')
})

test('a job that failed is shown with its reason, and runs again when an operator says so', async (t) => {
  const operators = await openOperators(t)
  const { queue } = operators.stockQueue
  const connection = connectPatient(process.env.REDIS_URL!, createLogger('silent'))
  let runs = 0
  const worker = new Worker(
    'stock',
    async (job) => {
      runs += 1
      if (runs > 1) return
      job.opts.attempts = 1
      throw new Error('catalog read: status 500')
    },
    { connection, prefix: queue.opts.prefix! },
  )
  try {
    await operators.stockQueue.wake([3])
    const failed = async () =>
      JSON.parse((await operators.visit(`${api}?activeQueue=stock&status=failed`, session)).text).queues[1] as Shown
    const session = await operators.session()
    const { jobs } = await until(failed, ({ jobs: shown }) => shown.length === 1)
    t.like(jobs[0], { id: 'product-3', name: 'reconcile', failedReason: 'catalog read: status 500' })

    const headers = { ...session, 'sec-fetch-site': 'same-origin' }
    t.is((await operators.ask(`${api}/stock/product-3/retry`, { method: 'PUT', headers })).status, 204)
    await until(failed, ({ jobs: shown }) => shown.length === 0 && runs === 2)
    t.pass()
  } finally {
    await worker.close()
    connection.disconnect()
  }
})

test('what an operator changes is recorded, with a name for the log that is no email, which the operator can look up; what is refused is not', async (t) => {
  const operators = await openOperators(t)
  const session = await operators.session()
  const headers = { ...session, 'sec-fetch-site': 'same-origin' }
  const put = (path: string) => operators.ask(`${api}/${path}`, { method: 'PUT', headers })
  t.is((await put('stock/pause')).status, 200)
  for (const path of ['stock/empty', 'ada@example.com/pause', 'stock/ada@example.com/retry']) t.true((await put(path)).status >= 400)
  t.is((await put('stock/resume')).status, 200)

  const [paused, missing, resumed] = operators.recorded
  t.like(paused, { verb: 'pause-queue', selection: { queue: 'stock' }, operator: adminEmail, reason: 'with Bull Board' })
  t.like(missing, { verb: 'retry-jobs', selection: { queue: 'stock', job: 'ada@example.com' } }) // recorded before it fails
  t.like(resumed, { verb: 'resume-queue' })
  t.is(operators.recorded.length, 3)
  t.regex(paused!.loggedAs!, /^[0-9a-f]{12}$/)
  t.true((await operators.visit('/order/admin/sign-out', session)).text.includes(`Your name in the log is ${paused!.loggedAs}.`))
  t.notRegex(operators.logged.join('\n'), /@/)
})

test('actions that could make a second shipment or lose a checkout are refused on the board', async (t) => {
  const operators = await openOperators(t)
  await operators.checkoutQueue.addAgain({ ...task(7), tries: 1 }, 60_000)
  const headers = { ...(await operators.session()), 'sec-fetch-site': 'same-origin', 'content-type': 'application/json' }
  for (const [method, path, body] of [
    ['POST', 'checkout/add', { name: 'checkout', data: { checkouts: [task(7)] } }],
    ['PATCH', 'checkout/checkout-7/update-data', { jobData: {} }],
    ['PATCH', 'checkout/checkout-7/delay', { delay: 1 }],
    ['PATCH', 'checkout/checkout-7/priority', { priority: 1 }],
    ['PUT', 'checkout/checkout-7/clean', {}],
    ['PUT', 'checkout/clean/delayed', {}],
    ['PUT', 'checkout/empty', {}],
    ['PUT', 'checkout/obliterate', { force: true }],
    ['PUT', 'checkout/concurrency', { concurrency: 1 }],
    ['PUT', 'checkout/rate-limit', { max: 1, duration: 1000 }],
  ] as const) {
    const answer = await operators.ask(`${api}/${path}`, { method, headers, body: JSON.stringify(body) })
    t.is(answer.status, 403, path)
    t.regex(JSON.parse(answer.text).message, /This action is not allowed here/)
  }
  t.deepEqual(await operators.checkoutQueue.queue.getJobCounts('waiting', 'delayed'), { waiting: 0, delayed: 1 })

  t.is((await operators.ask(`${api}/checkout/checkout-7/promote`, { method: 'PUT', headers })).status, 204)
  t.deepEqual(await operators.checkoutQueue.queue.getJobCounts('waiting', 'delayed'), { waiting: 1, delayed: 0 })
})

test('support sees the queues without a button, and changes nothing', async (t) => {
  const operators = await openOperators(t)
  const as = (role: string) => ({ authorization: `Bearer ${token({ sub: `${role}@example.com`, role })}` })
  const isReadOnly = async (role: string) => {
    const { status, text } = await operators.ask(api, { headers: as(role) })
    t.is(status, 200)
    return (JSON.parse(text) as { queues: { readOnlyMode: boolean }[] }).queues.map(({ readOnlyMode }) => readOnlyMode)
  }
  t.deepEqual(await isReadOnly('support'), [true, true])
  t.deepEqual(await isReadOnly('admin'), [false, false])
  t.is((await operators.visit('/order/admin/queues', as('support'))).status, 200)
  for (const [method, path] of [
    ['PUT', `${api}/checkout/pause`],
    ['PUT', `${api}/pause`],
    ['PUT', `${api}/checkout/checkout-7/promote`],
    ['POST', `${api}/checkout/add`],
    ['PATCH', `${api}/checkout/checkout-7/update-data`],
    ['DELETE', '/order/admin/queues'],
  ] as const) {
    const { status, text } = await operators.ask(path, { method, headers: as('support') })
    t.is(status, 403, `${method} ${path}`)
    t.is(text, '{"detail":"Only accounts with the admin role may do this"}')
  }
  t.false(await operators.checkoutQueue.queue.isPaused())
})

test('support sees why a job failed, without its stack trace and without emails', async (t) => {
  const operators = await openOperators(t)
  const { queue } = operators.stockQueue
  const connection = connectPatient(process.env.REDIS_URL!, createLogger('silent'))
  const worker = new Worker(
    'stock',
    async (job) => {
      job.opts.attempts = 1
      await job.log('asked for ada@example.com')
      throw new Error('refused for ada@example.com')
    },
    { connection, prefix: queue.opts.prefix! },
  )
  try {
    await operators.stockQueue.wake([3])
    await until(
      () => queue.getFailedCount(),
      (count) => count === 1,
    )
    const support = { authorization: `Bearer ${token({ sub: 'support@example.com', role: 'support' })}` }
    const admin = await operators.session()
    for (const path of [`${api}?activeQueue=stock&status=failed`, `${api}/stock/product-3`, `${api}/stock/product-3/logs`]) {
      const { status, text } = await operators.visit(path, support)
      t.is(status, 200, path)
      t.notRegex(text, /ada@example\.com|queues\.test\.ts/, path)
      t.regex((await operators.visit(path, admin)).text, /ada@example\.com/, path)
    }
  } finally {
    await worker.close()
    connection.disconnect()
  }
})

test('the board shows a delayed checkout with its step, the answer and the number of tries, and without an email', async (t) => {
  const shop = await openShop({ env: { CHECKOUT_BUDGET_MS: '60000' } })
  try {
    const shoes = shop.catalog.product({ stock: 10 })
    const customer = await shop.customer().wants({ product_id: shoes, qty: 2 })
    const fault = shop.catalog.fault({ fault: 'refuse', status: 503, detail: `no mail to <${customer.email}>`, call: 'reserve' })
    const answer = customer.checkout()
    answer.catch(() => {}) // whatever the test finds, it is awaited below

    const headers = { authorization: `Bearer ${shop.auth.token({ sub: 'admin@example.com', role: 'admin' })}` }
    const get = async (path: string) => JSON.parse((await ask(`${shop.url}${api}${path}`, { headers })).text)
    const shown = async () => ((await get('?activeQueue=checkout&status=delayed')) as { queues: Shown[] }).queues[0]!.jobs
    const [job] = await until(shown, ([first]) => (first?.progress as { attempt?: number } | undefined)?.attempt === 3)
    const orderId = Number(String(job!.id).replace('checkout-', ''))
    t.like(job, { name: 'checkout', failedReason: 'catalog reserve: no mail to <***>' })
    t.like(job!.progress, { orderId, step: 'reserve-stock' })
    const log = (await get(`/checkout/checkout-${orderId}/logs`)) as string[]
    t.true(log.includes(`order ${orderId}, attempt 1, reserve-stock: catalog reserve: no mail to <***>`))
    t.notRegex(JSON.stringify([job, log]), /@example\.com|Demo Street|eyJ/)

    fault.remove()
    t.is((await answer).status, 200)
  } finally {
    await shop.close()
  }
})
