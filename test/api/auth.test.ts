import { createHmac, generateKeyPairSync } from 'node:crypto'
import test from 'ava'
import { open, SECRET, token } from './harness.ts'

const past = Math.floor(Date.now() / 1000) - 10
const claims = { sub: 'cust@example.com', type: 'access', exp: past + 1000 }
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string

const bad: Record<string, string | undefined> = {
  'no header': undefined,
  'an empty header': '',
  'another scheme': `Basic ${token()}`,
  'a scheme alone': 'Bearer ',
  'no scheme': token(),
  'two tokens': `Bearer ${token()} ${token()}`,
  rubbish: 'Bearer rubbish',
  'a refresh token': `Bearer ${token({ type: 'refresh', jti: '1' })}`,
  'a token without a type': `Bearer ${token({ type: undefined })}`,
  'an expired token': `Bearer ${token({ exp: past })}`,
  'a token that is not valid yet': `Bearer ${token({ nbf: past + 1000 })}`,
  'a token without an end': `Bearer ${token({ exp: undefined })}`,
  'a token of a foreign secret': `Bearer ${token({}, 'a foreign secret')}`,
  'a token of another algorithm': `Bearer ${token({}, SECRET, { algorithm: 'HS512' })}`,
  'a token signed by a key pair': `Bearer ${token({}, rsa, { algorithm: 'RS256' })}`,
  'a token without a signature': `Bearer ${encode({ alg: 'none', typ: 'JWT' })}.${encode(claims)}.`,
  'a token changed after it was signed': `Bearer ${token().replace(/\.[^.]+\./, `.${encode({ ...claims, sub: 'rich@example.com' })}.`)}`,
  'a token that is text alone': `Bearer ${token({ sub: undefined, type: undefined, exp: undefined })}`,
  'no sub': `Bearer ${token({ sub: undefined })}`,
  'an empty sub': `Bearer ${token({ sub: '' })}`,
  'a sub of 256 characters': `Bearer ${token({ sub: 'x'.repeat(256) })}`,
  'a NUL in sub': `Bearer ${token({ sub: 'a\0@example.com' })}`,
}

for (const [what, authorization] of Object.entries(bad)) {
  test(`${what} is a 401 that asks for a bearer token`, async (t) => {
    const api = await open(t)
    const answer = await api.get('/order/v1/orders/checkout', {
      method: 'POST',
      headers: authorization === undefined ? {} : { authorization },
    })
    t.is(answer.status, 401)
    t.is(typeof answer.body.detail, 'string')
    t.is(answer.headers.get('www-authenticate'), 'Bearer')
    t.is(answer.headers.get('content-type'), 'application/json')
    t.is(api.tables.intents.length, 0)
  })
}

/** Signed as Auth signs, with a header and claims that its library would refuse to make. */
function signed(header: object, more: object): string {
  const payload = `${encode({ alg: 'HS256', typ: 'JWT', ...header })}.${encode({ ...claims, ...more })}`
  return `${payload}.${createHmac('sha256', SECRET).update(payload).digest('base64url')}`
}

test('a token with a critical extension is a 401', async (t) => {
  const api = await open(t)
  t.is((await api.checkout({ headers: { authorization: `Bearer ${signed({}, {})}` } })).status, 200)
  for (const header of [{ crit: ['exp'], exp: claims.exp }, { crit: ['b64'], b64: true }, { crit: [] }, { crit: null }]) {
    const answer = await api.checkout({ headers: { authorization: `Bearer ${signed(header, {})}` } })
    t.is(answer.status, 401, JSON.stringify(header))
    t.is(answer.headers.get('www-authenticate'), 'Bearer')
  }
})

test('a token issued at no time or in the future is a 401, one by a clock that is a little ahead is not', async (t) => {
  const api = await open(t)
  for (const [iat, status] of [
    [past, 200],
    [past + 0.5, 200],
    [past + 60, 200],
    [past + 3600, 401],
    [1e300, 401],
    ['yesterday', 401],
    [String(past), 401],
    [null, 401],
    [[past], 401],
  ] as const) {
    t.is((await api.checkout({ headers: { authorization: `Bearer ${signed({}, { iat })}` } })).status, status, JSON.stringify(iat))
  }
})

for (const sub of [7, null, ['a@example.com'], { email: 'a@example.com' }]) {
  test(`a token whose sub is ${JSON.stringify(sub)} is a 401`, async (t) => {
    const api = await open(t)
    t.is((await api.checkout({ headers: { authorization: `Bearer ${signed({}, { sub })}` } })).status, 401)
  })
}

test('the scheme bearer is accepted in upper and lower case', async (t) => {
  const api = await open(t)
  for (const scheme of ['bearer', 'BEARER', 'Bearer']) {
    t.is((await api.checkout({ headers: { authorization: `${scheme} ${token()}` } })).status, 200)
  }
})

test('the customer is sub exactly as the token has it, of any role', async (t) => {
  const api = await open(t)
  for (const sub of ['MiXed@Example.com ', 'ünï@例え.jp', 'no address at all', 'x'.repeat(255)]) {
    t.is((await api.checkout({ headers: { authorization: `Bearer ${token({ sub, role: 'admin' })}` } })).status, 200)
    t.is(api.tables.intents.at(-1)!.userEmail, sub)
  }
})

test('a token in a cookie or a query is not accepted', async (t) => {
  const api = await open(t)
  const answer = await api.get(`/order/v1/orders/checkout?token=${token()}`, { method: 'POST', headers: { cookie: `token=${token()}` } })
  t.is(answer.status, 401)
})

test('neither tokens nor addresses nor emails are in the log', async (t) => {
  const api = await open(t)
  const authorization = `Bearer ${token({ sub: 'secret.person@example.com' })}`
  await api.checkout({ headers: { authorization, 'idempotency-key': 'k1' } })
  await api.checkout({ headers: { authorization }, body: { address_line1: 'Demo' } })
  await api.checkout({ headers: { authorization: 'Bearer rubbish' } })
  t.is(api.logged.length, 3)
  t.notRegex(api.logged.join('\n'), /secret|Demo|rubbish|eyJ|Dublin/)
})
