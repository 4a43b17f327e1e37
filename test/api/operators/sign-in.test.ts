import test from 'ava'
import jwt from 'jsonwebtoken'
import { ask, cookieOf, openOperators, target } from './harness.ts'

const policy =
  /^default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; script-src 'self'; style-src 'self'; connect-src 'self'$/

test('the sign-in page is a form that needs no script', async (t) => {
  const operators = await openOperators(t)
  const page = await operators.visit('/order/admin/sign-in')
  t.is(page.status, 200)
  t.is(page.headers.get('content-type'), 'text/html; charset=utf-8')
  t.regex(page.text, /<form method="post" action="\/order\/admin\/sign-in">/)
  t.regex(page.text, /<label for="password">/)
  t.regex(page.text, /type="password" autocomplete="current-password"/)
  t.notRegex(page.text, /<script|style=/)
  const style = await operators.visit('/order/admin/style.css')
  t.is(style.headers.get('content-type'), 'text/css; charset=utf-8')
})

test('the right password opens the pages, for as long as the token lasts', async (t) => {
  const operators = await openOperators(t)
  const answer = await operators.signIn()
  t.is(answer.status, 303)
  t.is(target(answer), '/order/admin')
  t.deepEqual(operators.auth.logins, [{ email: 'admin@example.com', password: 'secret' }])

  const [nameAndValue, ...attributes] = answer.headers.get('set-cookie')!.split('; ')
  const { exp, role } = jwt.decode(nameAndValue!.split('=')[1]!) as { exp: number; role: string }
  t.is(role, 'admin')
  t.deepEqual(
    attributes.sort(),
    ['path=/order/admin', `expires=${new Date(exp * 1000).toUTCString()}`, 'samesite=strict', 'httponly'].sort(),
  )

  const cookie = cookieOf(answer)
  const home = await operators.visit('/order/admin', { cookie })
  t.is(home.status, 200)
  t.is((await operators.visit('/order/admin/queues', { cookie })).status, 200)
})

test('the cookie is Secure where the browser came by https to the gateway', async (t) => {
  const operators = await openOperators(t)
  for (const [proto, secure] of [
    ['https', true],
    ['https, http', true],
    ['http', false],
  ] as const) {
    const answer = await operators.signIn({}, { 'x-forwarded-proto': proto })
    t.is(/; secure/i.test(answer.headers.get('set-cookie')!), secure, proto)
  }
})

test('sign-in leads to the page that was asked for', async (t) => {
  const operators = await openOperators(t)
  const sent = await operators.visit('/order/admin/queues/queue/checkout?status=failed')
  t.is(sent.status, 303)
  const form = await operators.visit(target(sent)!)
  const next = /name="next" value="([^"]+)"/.exec(form.text)![1]!.replaceAll('&amp;', '&')
  t.is(target(await operators.signIn({ next })), '/order/admin/queues/queue/checkout?status=failed')
})

const elsewhere = [
  'https://evil.example/order/admin/queues',
  '//evil.example/order/admin/',
  '/\\evil.example/order/admin/',
  '\\\\evil.example/order/admin/',
  'javascript:alert(1)',
  '/order/v1/orders/1',
  '/order/admin/../v1/orders/1',
  '/order/admin/%2e%2e/%2e%2e/',
  '/order/administrator',
  'http://here@evil.example/order/admin/queues',
  '/order/admin/sign-in',
  '/order/admin/sign-in?next=/order/admin/sign-in',
  '\thttps://evil.example/',
  '',
]

test('a sign-in never leads anywhere else', async (t) => {
  const operators = await openOperators(t)
  for (const next of elsewhere) {
    const answer = await operators.signIn({ next })
    t.is(answer.status, 303)
    t.is(target(answer), '/order/admin', JSON.stringify(next))
    const form = await operators.visit(`/order/admin/sign-in?next=${encodeURIComponent(next)}`)
    t.regex(form.text, /name="next" value="\/order\/admin"/, JSON.stringify(next))
  }
})

test('the address in the sign-in page is shown as text, never as markup', async (t) => {
  const operators = await openOperators(t)
  const form = await operators.visit(`/order/admin/sign-in?next=${encodeURIComponent('/order/admin/queues?a="><script>alert(1)</script>')}`)
  t.notRegex(form.text, /<script/)
})

const refusals: Record<
  string,
  { fields?: Record<string, string>; instead?: { status: number; body: unknown }; status: number; says: RegExp }
> = {
  'a wrong password': { fields: { password: 'wrong-8f3a' }, status: 401, says: /Email or password is wrong/ },
  'an email that is none': { fields: { email: 'nobody' }, status: 401, says: /Email or password is wrong/ },
  'a customer': { fields: { email: 'cust@example.com' }, status: 403, says: /has neither the admin nor the support role/ },
  'no password': { fields: { password: '' }, status: 400, says: /Enter your email and your password/ },
  'no email': { fields: { email: '' }, status: 400, says: /Enter your email and your password/ },
  'an Auth with a fault': { instead: { status: 500, body: {} }, status: 503, says: /Auth is unreachable/ },
  'an Auth at another address': { instead: { status: 404, body: { detail: 'Not Found' } }, status: 503, says: /Auth is unreachable/ },
  'an Auth that sends no token': { instead: { status: 200, body: {} }, status: 503, says: /Auth is unreachable/ },
  'an Auth of another secret': {
    instead: { status: 200, body: { access_token: jwt.sign({ sub: 'a@example.com', role: 'admin', type: 'access', exp: 9e9 }, 'other') } },
    status: 503,
    says: /token that this service does not accept/,
  },
}

test('a failed sign-in says why on the page, with a fitting status and no session', async (t) => {
  const operators = await openOperators(t)
  for (const [what, { fields = {}, instead, status, says }] of Object.entries(refusals)) {
    operators.auth.instead(instead)
    const answer = await operators.signIn({ next: '/order/admin/queues/queue/stock', ...fields })
    t.is(answer.status, status, what)
    t.regex(answer.text, says, what)
    t.regex(answer.text, /role="alert"/)
    t.regex(answer.text, /value="\/order\/admin\/queues\/queue\/stock"/)
    t.regex(answer.headers.get('content-security-policy')!, policy)
    t.is(answer.headers.get('set-cookie'), null, what)
    t.notRegex(answer.text, /wrong-8f3a|secret\b|eyJ|@example\.com/)
  }
})

test('a token from Auth that is no access token begins no session', async (t) => {
  const operators = await openOperators(t)
  for (const type of ['refresh', undefined]) {
    const access_token = operators.auth.token({ sub: 'a@example.com', role: 'admin', claims: { type } })
    operators.auth.instead({ status: 200, body: { access_token } })
    const answer = await operators.signIn()
    t.is(answer.status, 503)
    t.is(answer.headers.get('set-cookie'), null)
  }
})

test('an Auth that is away is a 503, and its return is noticed', async (t) => {
  const operators = await openOperators(t)
  await operators.auth.down()
  t.is((await operators.signIn()).status, 503)
  await operators.auth.up()
  t.is((await operators.signIn()).status, 303)
})

test('an Auth that does not answer is a 503 when its time is over, also for those who wait behind others', async (t) => {
  const operators = await openOperators(t, { authTimeoutMs: 1000 })
  operators.auth.instead('hang')
  // Seven times as many as it is asked at a time: who waited for a turn would have been asked about before the answer.
  const answers = await Promise.all(Array.from({ length: 28 }, (_, at) => operators.signIn({ email: `a${at}@example.com` })))
  t.deepEqual([...new Set(answers.map(({ status }) => status))], [503])
  t.true(operators.auth.logins.length < 28)
})

test('a guesser is stopped at ten tries for one account, whatever the address', async (t) => {
  const operators = await openOperators(t)
  const guess = (at: number) => operators.signIn({ password: `guess ${at}` }, { 'x-forwarded-for': `10.0.0.${at}` })
  for (let at = 1; at <= 10; at++) t.is((await guess(at)).status, 401)
  const stopped = await operators.signIn({ email: ' ADMIN@example.com' }, { 'x-forwarded-for': '10.0.0.99' })
  t.is(stopped.status, 429)
  t.regex(stopped.text, /Too many attempts. Try again in 10 min/)
  const seconds = Number(stopped.headers.get('retry-after'))
  t.true(seconds > 500 && seconds <= 600)
  t.is(operators.auth.logins.length, 10)
  t.is((await operators.signIn({ email: 'other@example.com' })).status, 403)
})

test('a guesser is stopped at thirty tries from one address, whatever the accounts and what was forwarded before', async (t) => {
  const operators = await openOperators(t)
  const guess = (at: number) =>
    operators.signIn({ email: `a${at}@example.com`, password: 'guess' }, { 'x-forwarded-for': `10.9.9.${at}, 10.0.0.1` })
  for (let at = 1; at <= 30; at++) t.is((await guess(at)).status, 401)
  t.is((await guess(31)).status, 429)
  t.is((await operators.signIn({}, { 'x-forwarded-for': '10.0.0.2' })).status, 303)
})

test('guesses at one moment do not outrun the count', async (t) => {
  const operators = await openOperators(t)
  const answers = await Promise.all(Array.from({ length: 25 }, () => operators.signIn({ password: 'guess' })))
  t.is(answers.filter(({ status }) => status === 401).length, 10)
})

test('neither an outage of Auth nor mistyping before the right password uses up the tries', async (t) => {
  const operators = await openOperators(t)
  operators.auth.instead({ status: 500, body: {} })
  for (let at = 1; at <= 12; at++) t.is((await operators.signIn()).status, 503)
  operators.auth.instead()
  for (let round = 1; round <= 2; round++) {
    for (let at = 1; at <= 9; at++) t.is((await operators.signIn({ password: 'mistyped' })).status, 401)
    t.is((await operators.signIn()).status, 303)
  }
})

test('sign-in works without Redis, and guesses are still counted', async (t) => {
  const operators = await openOperators(t, { redisUrl: 'redis://127.0.0.1:1/0' })
  t.is((await operators.signIn()).status, 303)
  for (let at = 1; at <= 10; at++) t.is((await operators.signIn({ password: 'guess' })).status, 401)
  t.is((await operators.signIn()).status, 429)
})

test('a sign-in form that is too large or missing is refused', async (t) => {
  const operators = await openOperators(t)
  t.is((await operators.signIn({ password: 'x'.repeat(9000) })).status, 413)
  const json = await ask(`${operators.url}/order/admin/sign-in`, {
    method: 'POST',
    body: JSON.stringify({ email: 'admin@example.com', password: 'secret' }),
    headers: { 'content-type': 'application/json', origin: operators.url },
  })
  t.is(json.status, 400)
  t.deepEqual(operators.auth.logins, [])
})

test('no log line of a sign-in has the password, the token or the email', async (t) => {
  const operators = await openOperators(t, { authTimeoutMs: 2000 })
  const session = await operators.session()
  await operators.visit('/order/admin/queues', session)
  await operators.signIn({ password: 'wrong-8f3a' })
  operators.auth.instead('hang')
  await operators.signIn({ password: 'wrong-8f3a' })
  await operators.auth.down()
  await operators.signIn({ password: 'wrong-8f3a' })
  await operators.post('/order/admin/sign-out', {}, session)

  const log = operators.logged.join('\n')
  t.true(operators.logged.length >= 6)
  t.notRegex(log, /wrong-8f3a|secret|eyJ|@example\.com/)
  t.regex(log, /"route":"\/order\/admin\/sign-in","status":401/)
})

test('a person who comes by a link from another site is told why the session is not seen', async (t) => {
  const operators = await openOperators(t)
  const page = await operators.visit('/order/admin/sign-in?next=/order/admin/queues', { 'sec-fetch-site': 'cross-site' })
  t.regex(page.text, /<a href="\/order\/admin\/queues">continue here<\/a>/)
  t.notRegex((await operators.visit('/order/admin/sign-in', { 'sec-fetch-site': 'same-origin' })).text, /continue here/)
})

test('a sign-in form that is not UTF-8, or of an unknown content coding, is a 400', async (t) => {
  const operators = await openOperators(t)
  const common = { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' }
  for (const [body, more] of [
    [Buffer.from('email=\xfc', 'latin1'), {}],
    ['email=a', { 'content-encoding': 'rot13' }],
  ] as const) {
    const answer = await operators.ask('/order/admin/sign-in', { method: 'POST', body, headers: { ...common, ...more } })
    t.is(answer.status, 400)
    t.is(answer.text, '{"detail":"The form cannot be read"}')
  }
  const types = { ...common, 'content-type': 'Application/X-WWW-Form-Urlencoded; utf-8' }
  const right = await operators.ask('/order/admin/sign-in', {
    method: 'POST',
    body: 'email=admin@example.com&password=secret',
    headers: types,
  })
  t.is(right.status, 303)
})
