/** PostgreSQL by TLS, on a server of this file's own: what each sslmode asks for, and that everything of ours goes that way. */
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { sql } from 'slonik'
import { z } from 'zod'
import { connectPool } from '../../src/db/pool.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { query } from '../support/database.ts'
import { startDownstreams } from '../support/downstreams/index.ts'
import { startProcess } from '../support/service-process.ts'
import { type Certificates, makeCertificates } from '../support/services/certificates.ts'
import { type Postgres, startPostgres } from '../support/services/index.ts'

const directory = mkdtempSync(join(tmpdir(), 'order-service-tls-'))
let certificates: Certificates
let postgres: Postgres
test.before(async () => {
  certificates = makeCertificates(directory)
  postgres = await startPostgres({ name: 'test-tls', certificates })
  await query(postgres.dsn, 'create role shop superuser login')
  await query(postgres.dsn, 'create database shop')
})
test.after.always(async () => {
  await postgres?.stop()
  await rm(directory, { recursive: true, force: true })
})

const dsnOf = (parameters: string, { host = 'localhost', user = 'postgres' } = {}) =>
  `postgresql://${user}@${host}:${postgres.port}/shop${parameters && `?${parameters}`}`

/** @returns what PostgreSQL says of the connection, or why there was none */
async function connected(dsn: string): Promise<{ ssl: boolean; client_dn: string | null } | string> {
  try {
    const pool = await connectPool(dsn, { size: 1, logger: createLogger('silent') })
    const row = z.object({ ssl: z.boolean(), client_dn: z.string().nullable() })
    const said = await pool.one(sql.type(row)`select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()`)
    await pool.end()
    return said
  } catch (error) {
    const { code, cause } = error as { code?: string; cause?: { code?: string } }
    return String(code ?? cause?.code)
  }
}

test.serial('each sslmode verifies what libpq verifies', async (t) => {
  const { ca, otherCa } = certificates
  const byTls = { ssl: true, client_dn: null }
  const numbers = { host: '127.0.0.1' }
  const cases: [string, string, unknown][] = [
    ['no sslmode', dsnOf(''), { ssl: false, client_dn: null }],
    ['disable', dsnOf('sslmode=disable'), { ssl: false, client_dn: null }],
    ['require, whoever it is', dsnOf('sslmode=require'), byTls],
    ['require, with a CA', dsnOf(`sslmode=require&sslrootcert=${ca}`), byTls],
    ['require, with another CA', dsnOf(`sslmode=require&sslrootcert=${otherCa}`), 'SELF_SIGNED_CERT_IN_CHAIN'],
    ['verify-ca', dsnOf(`sslmode=verify-ca&sslrootcert=${ca}`), byTls],
    ['verify-ca, by another name', dsnOf(`sslmode=verify-ca&sslrootcert=${ca}`, numbers), byTls],
    ['verify-ca, another CA', dsnOf(`sslmode=verify-ca&sslrootcert=${otherCa}`), 'SELF_SIGNED_CERT_IN_CHAIN'],
    ['verify-full', dsnOf(`sslmode=verify-full&sslrootcert=${ca}&application_name=x`), byTls],
    ['verify-full, by another name', dsnOf(`sslmode=verify-full&sslrootcert=${ca}`, numbers), 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ['verify-full, another CA', dsnOf(`sslmode=verify-full&sslrootcert=${otherCa}`), 'SELF_SIGNED_CERT_IN_CHAIN'],
    ['verify-full, Node’s own CAs', dsnOf('sslmode=verify-full&sslrootcert=system'), 'SELF_SIGNED_CERT_IN_CHAIN'],
  ]
  for (const [name, dsn, expected] of cases) {
    const said = await connected(dsn)
    // Without the whole chain another code says the same.
    t.deepEqual(said === 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' ? 'SELF_SIGNED_CERT_IN_CHAIN' : said, expected, name)
  }
})

test.serial('the client certificate is presented to PostgreSQL', async (t) => {
  const { ca, clientCertificate, clientKey } = certificates
  const said = await connected(dsnOf(`sslmode=verify-full&sslrootcert=${ca}&sslcert=${clientCertificate}&sslkey=${clientKey}`))
  t.deepEqual(said, { ssl: true, client_dn: '/CN=shop' })
})

test.serial('migrations, pool and the relay’s session all go by TLS', async (t) => {
  const downstreams = await startDownstreams()
  t.teardown(downstreams.stop)
  const env = {
    REDIS_PREFIX: `{tls-${process.pid}}`,
    TOPIC_ORDER_EVENTS: `tls.${process.pid}`,
    CATALOG_BASE: downstreams.catalogBase,
    SHIPPING_BASE: downstreams.shippingBase,
  }
  // PostgreSQL has no entry for `shop` without TLS: a single connection of that kind would end in 28000.
  const service = await startProcess(t, [], {
    ...env,
    POSTGRES_DSN: dsnOf(`sslmode=verify-full&sslrootcert=${certificates.ca}`, { user: 'shop' }),
  })
  await service.logged('started')
  await service.logged('lock of relay acquired')
  const sessions = await query<{ ssl: boolean }>(
    postgres.dsn,
    `select s.ssl from pg_stat_activity a join pg_stat_ssl s using (pid) where a.usename = 'shop'`,
  )
  t.true(sessions.length >= 3)
  t.true(sessions.every(({ ssl }) => ssl))
  t.is(await service.stop(), 0)

  const plain = await startProcess(t, ['release'], { ...env, POSTGRES_DSN: dsnOf('', { user: 'shop' }) })
  t.is(await plain.exited, 70)
})
