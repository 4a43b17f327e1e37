import test, { type ExecutionContext } from 'ava'
import { ConfigError, readConfig } from '../src/config.ts'
import { readPostgresDsn } from '../src/config/postgres-dsn.ts'
import { readRedisUrl } from '../src/config/redis-url.ts'

test('an empty environment gives the defaults of the existing stack', (t) => {
  const config = readConfig({})
  t.is(config.POSTGRES_DSN, 'postgresql://postgres:postgres@postgres:5432/appdb')
  t.deepEqual(config.KAFKA_BOOTSTRAP, ['kafka:9092'])
  t.is(config.CATALOG_BASE, 'http://catalog:8000')
  t.is(config.PORT, 8000)
})

test('a driver in the scheme of POSTGRES_DSN is removed', (t) => {
  t.is(readConfig({ POSTGRES_DSN: 'postgresql+psycopg://u:p%40@db/x' }).POSTGRES_DSN, 'postgresql://u:p%40@db/x')
})

test('all configuration faults are reported at once, one line for each variable, without secrets', (t) => {
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
  const named = error.faults.map((line) => line.split(':')[0])
  t.deepEqual(named.sort(), ['CHECKOUT_BUDGET_MS', 'KAFKA_BOOTSTRAP', 'POSTGRES_DSN', 'RETENTION_INBOX_DAYS', 'SVC_INTERNAL_KEY'])
  t.false(error.message.includes('hunter'))
})

test('the development secrets are refused only in production', (t) => {
  t.throws(() => readConfig({ NODE_ENV: 'production' }), { message: /JWT_SECRET: the value is the public development secret/ })
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

test('an invalid REDIS_URL is reported in one line with the reason and without a secret', (t) => {
  const wrong = {
    'http://:hunter2@host': /is not a Redis URL/,
    'redis://': /^REDIS_URL: "redis:\/\/" has no host; write redis:\/\/host:6379\/0$/,
    'redis+sentinel://:hunter2@one:26379': /has no master name/,
    'redis+sentinel://:hunter2@one:26379/shop/zero': /database number/,
    'redis+sentinel://:hunter2@one:26379/shop?password=hunter2': /unsupported parameters/,
    'redis+sentinel://hunter2@one/shop': /without a password/,
    'redis+sentinel://:hunter2%@one/shop': /%25/,
    'redis+cluster://:hunter2@one:port': /an invalid host or port/,
    'redis+cluster://:hunter2@one,/0': /an invalid host or port/,
    'redis+cluster://:hunter2@one/1': /only has database 0/,
  }
  for (const [url, says] of Object.entries(wrong)) {
    const faults = faultsOf(t, { REDIS_URL: url })
    t.is(faults.length, 1, url)
    t.regex(faults[0]!, /^REDIS_URL: /)
    t.regex(faults[0]!, says)
    t.false(faults[0]!.includes('hunter'), url)
  }
})

test('a POSTGRES_DSN, REDIS_URL or KAFKA_BOOTSTRAP that no client can read is reported in one line without a secret', (t) => {
  const wrong: [string, string, RegExp][] = [
    ['POSTGRES_DSN', 'postgresql://shop:hunter/2@db/x', /not a valid URL.*percent/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@db:99999/x', /not a valid URL/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@[::1/x', /not a valid URL/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@/x?host=/sock', /not a valid URL/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2%zz@db/x', /does not begin an encoded character/],
    ['POSTGRES_DSN', 'postgresql://shop:hunter2@db/x%', /does not begin an encoded character/],
    ['REDIS_URL', 'redis://:hunter2%zz@redis:6379/0', /does not begin an encoded character/],
    ['REDIS_URL', 'redis+cluster://:hunter2@one:99999', /an invalid host or port/],
    ['KAFKA_BOOTSTRAP', 'kafka:99999', /not a list of host:port/],
  ]
  for (const [variable, value, says] of wrong) {
    const faults = faultsOf(t, { [variable]: value })
    t.is(faults.length, 1, value)
    t.true(faults[0]!.startsWith(`${variable}: `), value)
    t.regex(faults[0]!, says)
    t.false(faults[0]!.includes('hunter'), value)
  }
  t.notThrows(() => readPostgresDsn('postgresql://shop@%2Fvar%2Frun%2Fpostgresql/x'))
})

test('invalid TLS parameters of POSTGRES_DSN are reported in one line with the reason and without a secret', (t) => {
  const wrong = {
    'sslmode=prefer': /without TLS/,
    'sslmode=allow': /without TLS/,
    'sslmode=no-verify': /an unknown sslmode/,
    'sslmode=verify-full': /without sslrootcert/,
    'sslmode=verify-ca&sslrootcert=system': /only safe with sslmode=verify-full/,
    'sslmode=verify-ca&sslrootcert=/nowhere/ca.pem': /sslrootcert=\/nowhere\/ca.pem, which cannot be read \(ENOENT\)/,
    'sslmode=require&sslcert=package.json': /only one of sslcert and sslkey/,
    'sslrootcert=package.json': /no sslmode that uses them/,
    'sslmode=require&sslcrl=x': /unsupported parameter sslcrl/,
  }
  for (const [parameters, says] of Object.entries(wrong)) {
    const faults = faultsOf(t, { POSTGRES_DSN: `postgresql+psycopg://shop:hunter2@db/x?${parameters}` })
    t.is(faults.length, 1, parameters)
    t.regex(faults[0]!, /^POSTGRES_DSN: /)
    t.regex(faults[0]!, says)
    t.false(faults[0]!.includes('hunter'), parameters)
  }
  const { connectionString, ssl } = readPostgresDsn('postgresql://u:p@db/x?application_name=a%20b&sslmode=require&options=-c%20a%3Db')
  t.is(connectionString, 'postgresql://u:p@db/x?application_name=a%20b&options=-c%20a%3Db')
  t.deepEqual(ssl, { rejectUnauthorized: false })
})

test('incomplete or unused Kafka logins and certificates are reported in one line for each variable without a secret', (t) => {
  const named = (env: Record<string, string>) => {
    const faults = faultsOf(t, env)
    t.false(faults.join().includes('hunter'))
    return faults.map((line) => line.split(':')[0])
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
