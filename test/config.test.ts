import test from 'ava'
import { ConfigError, readConfig } from '../src/config.ts'

test('an empty environment is today’s', (t) => {
  const config = readConfig({})
  t.is(config.POSTGRES_DSN, 'postgresql://postgres:postgres@postgres:5432/appdb')
  t.deepEqual(config.KAFKA_BOOTSTRAP, ['kafka:9092'])
  t.is(config.CATALOG_BASE, 'http://catalog:8000')
  t.is(config.PORT, 8000)
})

test('a driver behind the scheme of the DSN is taken off', (t) => {
  t.is(readConfig({ POSTGRES_DSN: 'postgresql+psycopg://u:p%40@db/x' }).POSTGRES_DSN, 'postgresql://u:p%40@db/x')
})

test('all faults are told at once, each in a line that names its variable, none with a secret in it', (t) => {
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
