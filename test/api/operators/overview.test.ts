import test from 'ava'
import { lazyPool } from '../../../src/db/lazy-pool.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { itemWith, minuteWith, overviewsWith, problemWith, since } from '../../support/problems.ts'
import { openShop } from '../../support/shop.ts'
import { until } from '../../support/until.ts'
import { token } from '../harness.ts'
import { ask, openOperators } from './harness.ts'

const as = (role: string) => ({ authorization: `Bearer ${token({ sub: `${role}@example.com`, role })}` })
const markup = `<img src=x onerror="alert('1')">`
const escaped = '&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;'

test('the first page of a quiet service says that all is well', async (t) => {
  const operators = await openOperators(t)
  const { status, text } = await operators.visit('/order/admin', as('support'))
  t.is(status, 200)
  t.regex(text, /<title>All well - Order service<\/title>/)
  t.regex(text, /<h1 data-announce>All well<\/h1>/)
  t.notRegex(text, /class="problem/)
})

test('a problem on the first page has its sentence, count, age, evidence, next step, runbook and actions', async (t) => {
  const operators = await openOperators(t, { overview: overviewsWith({ problems: [problemWith(), problemWith({ cause: 'no-bridge' })] }) })
  const { text } = await operators.visit('/order/admin', as('admin'))
  for (const said of [
    /<h1 data-announce>2 problems, the worst: Catalog refuses connections<\/h1>/,
    /<a href="\/order\/admin\/problems\/downstream-unreachable\?service=catalog">Catalog refuses connections<\/a>/,
    /Customers are refused/,
    /more than 10,000 payments/,
    /<time datetime="2026-11-28T14:03:22.000Z">2026-11-28 14:03:22 UTC<\/time>/,
    /<a href="\/order\/admin\/orders\/7">payment of order 7<\/a>/,
    /connect ECONNREFUSED/,
    /Payments are retried within 10 s/,
    /<a href="\/order\/admin\/runbook#downstream-unreachable">/,
    /actions\/new\?verb=retry-payments&amp;cause=downstream-unreachable&amp;service=catalog">Retry now: all payments<\/a>/,
  ])
    t.regex(text, said)
})

test('a paused queue and a drain are ended by actions that name no items', async (t) => {
  const paused = problemWith({ cause: 'queue-paused', service: null, queue: 'checkout', counts: [], actions: ['resume-queue'] })
  const drained = problemWith({ cause: 'drained', service: null, counts: [], actions: ['accept-work'] })
  const operators = await openOperators(t, { overview: overviewsWith({ problems: [paused, drained] }) })
  const { text } = await operators.visit('/order/admin', as('admin'))
  t.regex(text, /actions\/new\?verb=resume-queue&amp;queue=checkout">Resume the queue<\/a>/)
  t.regex(text, /actions\/new\?verb=accept-work">Accept new orders<\/a>/)
})

test('support sees the problems and no action', async (t) => {
  const overview = overviewsWith({ problems: [problemWith()] })
  const operators = await openOperators(t, { overview, items: async () => ({ items: [itemWith()], next: null }) })
  for (const path of ['/order/admin', '/order/admin/problems/downstream-unreachable?service=catalog']) {
    const { status, text } = await operators.visit(path, as('support'))
    t.is(status, 200)
    t.regex(text, /Catalog refuses connections/)
    t.notRegex(text, /actions\/new|type="checkbox"|<button/)
    t.regex((await operators.visit(path, as('admin'))).text, /actions\/new/)
  }
})

test('programs get the first page as JSON', async (t) => {
  const minutes = [minuteWith({ created: 3 })]
  const operators = await openOperators(t, { overview: overviewsWith({ problems: [problemWith()], minutes }) })
  const { headers, text } = await operators.ask('/order/admin', { headers: as('support') })
  t.regex(headers.get('content-type')!, /application\/json/)
  t.like(JSON.parse(text), {
    problems: [{ cause: 'downstream-unreachable', service: 'catalog', counts: [{ n: 10_000, isMore: true }], since: since.toISOString() }],
    minutes: [{ created: 3 }],
    isComplete: true,
  })
})

test('markup in what a page shows of problems, services and items is shown as text', async (t) => {
  const problem = problemWith({ sentence: markup, evidence: markup, next: markup })
  const service = { service: 'catalog', state: 'failing', since, lastAnswerAt: null, calls: 2, failures: 1, error: markup } as const
  const operators = await openOperators(t, {
    overview: overviewsWith({ problems: [problem], afterEffects: [problem], services: [service] }),
    items: async () => ({ items: [itemWith({ evidence: markup })], next: markup }),
  })
  const first = await operators.visit('/order/admin', as('admin'))
  t.is(first.text.split(escaped).length - 1, 7) // title, heading, sentence, evidence, next; the after-effect's sentence; the service's error
  const page = await operators.visit('/order/admin/problems/downstream-unreachable?service=catalog', as('admin'))
  t.is(page.text.split(escaped).length - 1, 5) // title, heading, evidence, next, the item's evidence
  for (const { text } of [first, page]) t.false(text.includes('<img'))
})

test('while PostgreSQL or Redis does not answer, the first page comes and says so', async (t) => {
  const away = Object.assign(new Error('terminating connection'), { code: '57P01', severity: 'FATAL' })
  const refusing = lazyPool('postgres://order@127.0.0.1:1/order', { size: 2, statementTimeoutMs: 2000, logger: createLogger('silent') })
  const refused = () => refusing.connected().then(() => t.fail() as never)
  const broken: (() => Promise<never>)[] = [() => Promise.reject(away), () => new Promise(() => {}), refused]
  for (const overview of broken) {
    const operators = await openOperators(t, { overview: { overview, problems: overview } })
    const { status, text } = await operators.visit('/order/admin', as('support'))
    t.is(status, 200)
    t.regex(text, /<h1 data-announce>1 problem: PostgreSQL does not answer in time<\/h1>/)
    t.false(JSON.parse((await operators.ask('/order/admin', { headers: as('support') })).text).isComplete)
  }
  const lost = Object.assign(new Error('Connection is closed.'), { name: 'Error' })
  const operators = await openOperators(t, { overview: { ...overviewsWith(), overview: () => Promise.reject(lost) } })
  t.regex((await operators.visit('/order/admin', as('support'))).text, /1 problem: Redis does not answer/)
})

test('a page whose reading fails is an error page with the navigation, and the error is in the log', async (t) => {
  const away = Object.assign(new Error('terminating connection'), { code: '57P01', severity: 'FATAL' })
  for (const [error, status, says, logs] of [
    [away, 503, /<p>PostgreSQL does not answer in time\.<\/p>/, /57P01/],
    [new TypeError('a fault of ours'), 500, /<p>This page failed; the log has the error\.<\/p>/, /"err":/],
  ] as const) {
    const operators = await openOperators(t, { items: () => Promise.reject(error) })
    const page = await operators.visit('/order/admin/problems/no-worker', as('support'))
    t.is(page.status, status)
    t.regex(page.text, says)
    t.regex(page.text, /<nav aria-label="Operators">/)
    t.notRegex(page.text, /terminating|a fault of ours/)
    t.is((await operators.ask('/order/admin/problems/no-worker', { headers: as('support') })).status, status)
    t.regex(operators.logged[0]!, logs)
  }
})

test('the page of a cause lists its items as a form for selected ones, and for all', async (t) => {
  const asked: unknown[] = []
  const operators = await openOperators(t, {
    overview: overviewsWith({ problems: [problemWith()] }),
    items: async (query) => {
      asked.push(query)
      return { items: [itemWith(), itemWith({ id: 78, orderId: null, attempts: null, nextTryAt: null })], next: 'a+b' }
    },
  })
  const { text } = await operators.visit('/order/admin/problems/downstream-unreachable?service=catalog&after=x', as('admin'))
  t.deepEqual(asked, [{ cause: 'downstream-unreachable', service: 'catalog', after: 'x', limit: 50 }])
  for (const said of [
    /<form action="\/order\/admin\/actions\/new">/,
    /<input type="checkbox" name="item" value="77" aria-label="Select payment 77">/,
    /<button name="verb" value="retry-payments">Retry now: the selected ones<\/button>/,
    /verb=retry-checkouts&amp;cause=downstream-unreachable/,
    /payment 78/,
    /<a href="\/order\/admin\/problems\/downstream-unreachable\?service=catalog&amp;after=a%2Bb" rel="next">/,
  ])
    t.regex(text, said)
  t.notRegex(text, /<button name="verb" value="retry-checkouts">/)
})

test('the page of a cause that nothing has says so, and an unknown cause or service is a 404', async (t) => {
  const operators = await openOperators(t)
  t.regex(
    (await operators.visit('/order/admin/problems/no-worker', as('support'))).text,
    /<h1 data-announce>No worker runs<\/h1>[^]*not a problem at the moment/,
  )
  for (const path of ['nothing', 'toString', 'no-worker?service=auth', encodeURIComponent(markup)]) {
    const page = await operators.visit(`/order/admin/problems/${path}`, as('support'))
    t.is(page.status, 404, path)
    t.notRegex(page.text, /<img/)
    t.is((await operators.ask(`/order/admin/problems/${path}`, { headers: as('support') })).status, 404)
  }
})

test('an unknown address below the pages is a 404 with the navigation for operators, and a sign-in for others', async (t) => {
  const operators = await openOperators(t)
  const page = await operators.visit('/order/admin/nothing/here', as('support'))
  t.is(page.status, 404)
  t.regex(page.text, /<nav[^]*There is no page at this address/)
  t.is((await operators.ask('/order/admin/nothing', { headers: as('support') })).text, '{"detail":"There is no page at this address"}')
  t.is((await operators.visit('/order/admin/nothing')).status, 303)
})

test('the navigation names who is signed in, with which role and on which page', async (t) => {
  const operators = await openOperators(t)
  const hostile = token({ sub: markup, role: 'support' })
  const { text } = await operators.visit('/order/admin', { authorization: `Bearer ${hostile}` })
  t.true(text.includes(`<p class="who">${escaped} <span class="role">support</span></p>`))
  t.regex(text, /<a href="\/order\/admin" aria-current="page">Overview<\/a>/)
  t.is(text.match(/aria-current/g)?.length, 1)
  t.regex(text, /<script src="\/order\/admin\/pages\.js" defer><\/script>/)
  const script = await operators.visit('/order/admin/pages.js')
  t.regex(script.headers.get('content-type')!, /javascript/)
})

test('the first page of a running service has its services, and no problem', async (t) => {
  const shop = await openShop()
  const headers = { authorization: `Bearer ${shop.auth.token({ sub: 'ada@example.com', role: 'support' })}` }
  const read = async () => JSON.parse((await ask(`${shop.url}/order/admin`, { headers })).text)
  try {
    const shoes = shop.catalog.product({ stock: 10 })
    t.is((await (await shop.customer().wants({ product_id: shoes, qty: 1 })).checkout()).status, 200)
    const seen = await until(read, ({ services, problems }) => services[0]?.state === 'works' && problems.length === 0)
    t.deepEqual(
      [seen.isComplete, seen.services.map(({ service }: { service: string }) => service)],
      [true, ['catalog', 'shipping', 'kafka']],
    )
    const page = await ask(`${shop.url}/order/admin`, { headers: { ...headers, accept: 'text/html' } })
    t.regex(page.text, /<h1 data-announce>[^]*<svg/)
  } finally {
    await shop.close()
  }
})
