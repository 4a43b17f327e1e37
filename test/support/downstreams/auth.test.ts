import test from 'ava'
import jwt from 'jsonwebtoken'
import { ask } from './caller.ts'
import { startDownstreams } from './index.ts'

const { auth, authBase, stop } = await startDownstreams({ jwtSecret: 'hush' })
test.after.always(stop)

const login = (body: unknown) => ask(`${authBase}/auth/login`, { body })

test('a login gives an access token and a refresh token', async (t) => {
  const { status, body } = await login({ email: 'cust@example.com', password: 'secret' })
  const { access_token, refresh_token, token_type } = body as Record<string, string>

  t.is(status, 200)
  t.is(token_type, 'bearer')
  const access = jwt.verify(access_token ?? '', 'hush', { algorithms: ['HS256'] }) as jwt.JwtPayload
  t.like(access, { sub: 'cust@example.com', role: 'customer', type: 'access' })
  t.truthy(access.exp)
  const refresh = jwt.verify(refresh_token ?? '', 'hush') as jwt.JwtPayload
  t.is(refresh.type, 'refresh')
  t.truthy(refresh.jti)
})

test('Auth has one admin account', async (t) => {
  const { body } = await login({ email: 'admin@example.com', password: 'secret' })
  t.like(jwt.decode((body as { access_token: string }).access_token), { role: 'admin' })
})

test('a login with a wrong password is a 401, a malformed one a 422', async (t) => {
  t.is((await login({ email: 'cust@example.com', password: 'wrong' })).status, 401)
  for (const body of ['{', 'null', '{}', { email: 'cust@example.com' }, { email: 1, password: 'secret' }])
    t.is((await login(body)).status, 422)
})

test('tokens can be made that Auth would never issue', (t) => {
  const read = (options: Parameters<typeof auth.token>[0]) => jwt.decode(auth.token(options), { complete: true })
  t.deepEqual(Object.keys(read({})?.payload ?? {}), ['role', 'type', 'exp', 'iat'])
  t.deepEqual(Object.keys(read({ sub: 'a', expiresInS: null })?.payload ?? {}), ['sub', 'role', 'type', 'iat'])
  t.throws(() => jwt.verify(auth.token({ sub: 'a', expiresInS: -1 }), 'hush'), { any: true, message: 'jwt expired' })
  t.throws(() => jwt.verify(auth.token({ sub: 'a', secret: 'other' }), 'hush'), { any: true, message: 'invalid signature' })
  t.is(read({ sub: 'a', algorithm: 'none' })?.header.alg, 'none')
  t.is(read({ sub: 'a', algorithm: 'HS512' })?.header.alg, 'HS512')
  t.like(read({ sub: 'a', type: 'refresh', claims: { jti: 'x', sub: 7 } })?.payload, { type: 'refresh', jti: 'x', sub: 7 })
})
