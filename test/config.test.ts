import test, { type ExecutionContext } from 'ava'
import { ConfigError, readConfig } from '../src/config.ts'
import { readPostgresDsn } from '../src/config/postgres-dsn.ts'
import { readRedisUrl } from '../src/config/redis-url.ts'

test('an empty environment gives the documented defaults', (t) => {
  const config = readConfig({})
  t.is(config.POSTGRES_DSN, 'postgresql://postgres:postgres@postgres:5432/appdb')
  t.deepEqual(config.KAFKA_BOOTSTRAP, ['kafka:9092'])
  t.is(config.CATALOG_BASE, 'http://catalog:8000')
  t.is(config.PORT, 8000)
})

test('a driver name behind the scheme of POSTGRES_DSN is removed', (t) => {
  t.is(readConfig({ POSTGRES_DSN: 'postgresql+psycopg://u:p%40@db/x' }).POSTGRES_DSN, 'postgresql://u:p%40@db/x')
})

test('all configuration faults are reported at once, each in a line that names its variable, none with a secret', (t) => {
  const error = t.throws(
    () =>
      readConfig({
        NODE_ENV: 'production',
        POSTGRES_DSN: 'mysql://root:hunter2@db/x',
        KAFKA_BOOTSTRAP: 'kafka',
        CHECKOUT_BUDGET_MS: 'soon',
        JWT_SECRET: 'hunter3',
        RETENTION_INBOX_DAYS: '0',
      }),
    { instanceOf: ConfigError },
  )
  const named = error.faults.map((line) => line.split(' ')[0])
  t.deepEqual(named.sort(), ['CHECKOUT_BUDGET_MS', 'KAFKA_BOOTSTRAP', 'POSTGRES_DSN', 'RETENTION_INBOX_DAYS', 'SVC_INTERNAL_KEY'])
  t.false(error.message.includes('hunter'))
})

test('the development secrets are refused in production only', (t) => {
  t.throws(() => readConfig({ NODE_ENV: 'production' }), { message: /JWT_SECRET is the development secret/ })
  t.notThrows(() => readConfig({ NODE_ENV: 'production', JWT_SECRET: 'ours', SVC_INTERNAL_KEY: 'ours too' }))
})

/** The faults of this environment, one a line. */
const faultsOf = (t: ExecutionContext, env: Record<string, string>) => t.throws(() => readConfig(env), { instanceOf: ConfigError })!.faults

test('REDIS_URL names one server, Sentinels with their master, or a cluster', (t) => {
  for (const url of ['redis://host:6379/0', 'rediss://:p%40@host', 'redis://host']) {
    t.deepEqual(readRedisUrl(url), { form: 'server', url })
  }
  t.deepEqual(readRedisUrl('rediss+sentinel://shop:p%40%3Ass@one,[::1]:26380/my-master/2?sentinel_password=a+b%26'), {
    form: 'sentinel',
    sentinels: [
      { host: 'one', port: 26_379 },
      { host: '::1', port: 26_380 },
    ],
    master: 'my-master',
    db: 2,
    login: { username: 'shop', password: 'p@:ss' },
    sentinelLogin: { password: 'a+b&' },
    tls: true,
  })
  t.deepEqual(readRedisUrl('redis+cluster://:secret@one:7000,two'), {
    form: 'cluster',
    nodes: [
      { host: 'one', port: 7000 },
      { host: 'two', port: 6379 },
    ],
    login: { password: 'secret' },
    tls: false,
  })
})

test('a REDIS_URL that is none of these is refused in one line that says why, without a secret', (t) => {
  const wrong = {
    'http://:hunter2@host': /is not understood/,
    'redis://': /is not understood/,
    'redis+sentinel://:hunter2@one:26379': /does not name a master/,
    'redis+sentinel://:hunter2@one:26379/shop/zero': /number of a database/,
    'redis+sentinel://:hunter2@one:26379/shop?password=hunter2': /parameters beside/,
    'redis+sentinel://hunter2@one/shop': /without a password/,
    'redis+sentinel://:hunter2%@one/shop': /%25/,
    'redis+cluster://:hunter2@one:port': /a host that is none/,
    'redis+cluster://:hunter2@one,/0': /a host that is none/,
    'redis+cluster://:hunter2@one/1': /no other database/,
  }
  for (const [url, says] of Object.entries(wrong)) {
    const faults = faultsOf(t, { REDIS_URL: url })
    t.is(faults.length, 1, url)
    t.regex(faults[0]!, /^REDIS_URL /)
    t.regex(faults[0]!, says)
    t.false(faults[0]!.includes('hunter'), url)
  }
})

test('a POSTGRES_DSN, REDIS_URL or KAFKA_BOOTSTRAP that no client could read is one line, without a secret', (t) => {
  const wrong: [string, string, RegExp][] = [
    ['POSTGRES_DSN', 'postgresql://shop:hunter/2@db/x', /no URL.*percent/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@db:99999/x', /no URL/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@[::1/x', /no URL/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@/x?host=/sock', /no URL/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2%zz@db/x', /begins no character/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@db/x%', /begins no character/],
    ['REDIS_URL', 'redis://:hunter2%zz@redis:6379/0', /begins no character/],
    ['REDIS_URL', 'redis+cluster://:hunter2@one:99999', /a host that is none/],
    ['KAFKA_BOOTSTRAP', 'kafka:99999', /not a list of host:port/],
  ]
  for (const [variable, value, says] of wrong) {
    const faults = faultsOf(t, { [variable]: value })
    t.is(faults.length, 1, value)
    t.true(faults[0]!.startsWith(`${variable} `), value)
    t.regex(faults[0]!, says)
    t.false(faults[0]!.includes('hunter'), value)
  }
  t.notThrows(() => readPostgresDsn('postgresql://shop@%2Fvar%2Frun%2Fpostgresql/x'))
})

test('what POSTGRES_DSN says of TLS and cannot be kept is one line that says why, without a secret', (t) => {
  const wrong = {
    'sslmode=prefer': /in silence/,
    'sslmode=allow': /in silence/,
    'sslmode=no-verify': /an sslmode that there is not/,
    'sslmode=verify-full': /without sslrootcert/,
    'sslmode=verify-ca&sslrootcert=system': /only sslmode=verify-full/,
    'sslmode=verify-ca&sslrootcert=/nowhere/ca.pem': /cannot be read: \/nowhere\/ca.pem \(ENOENT\)/,
    'sslmode=require&sslcert=package.json': /sslcert and sslkey together/,
    'sslrootcert=package.json': /no sslmode that uses them/,
    'sslmode=require&sslcrl=x': /has sslcrl/,
  }
  for (const [parameters, says] of Object.entries(wrong)) {
    const faults = faultsOf(t, { POSTGRES_DSN: `postgresql+psycopg://shop:hunter2@db/x?${parameters}` })
    t.is(faults.length, 1, parameters)
    t.regex(faults[0]!, /^POSTGRES_DSN /)
    t.regex(faults[0]!, says)
    t.false(faults[0]!.includes('hunter'), parameters)
  }
  const { connectionString, ssl } = readPostgresDsn('postgresql://u:p@db/x?application_name=a%20b&sslmode=require&options=-c%20a%3Db')
  t.is(connectionString, 'postgresql://u:p@db/x?application_name=a%20b&options=-c%20a%3Db')
  t.deepEqual(ssl, { rejectUnauthorized: false })
})

test('a login or certificates of Kafka that are not whole, or not used, are a line each, without a secret', (t) => {
  const named = (env: Record<string, string>) => {
    const faults = faultsOf(t, env)
    t.false(faults.join().includes('hunter'))
    return faults.map((line) => line.split(' ')[0])
  }
  t.deepEqual(named({ KAFKA_SECURITY_PROTOCOL: 'SASL_SSL', KAFKA_SASL_PASSWORD: 'hunter2' }), [
    'KAFKA_SASL_MECHANISM',
    'KAFKA_SASL_USERNAME',
  ])
  t.deepEqual(named({ KAFKA_SASL_USERNAME: 'shop', KAFKA_SASL_PASSWORD: 'hunter2' }), ['KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD'])
  t.deepEqual(named({ KAFKA_SECURITY_PROTOCOL: 'TLS', KAFKA_SASL_MECHANISM: 'GSSAPI' }), [
    'KAFKA_SECURITY_PROTOCOL',
    'KAFKA_SASL_MECHANISM',
  ])
  t.deepEqual(named({ KAFKA_SECURITY_PROTOCOL: 'SSL', KAFKA_SSL_CA: '/nowhere/ca.pem', KAFKA_SSL_CERT: 'package.json' }), [
    'KAFKA_SSL_CA',
    'KAFKA_SSL_KEY',
  ])
  t.deepEqual(named({ KAFKA_SSL_CA: 'package.json' }), ['KAFKA_SSL_CA'])
  t.deepEqual(readConfig({}).kafkaSecurity, {})
  t.deepEqual(readConfig({ KAFKA_SECURITY_PROTOCOL: 'SSL' }).kafkaSecurity, { ssl: {} })
})
