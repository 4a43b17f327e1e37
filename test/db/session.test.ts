/** What a database, a role or a server that is set up oddly changes for the service: nothing. */
import { randomUUID } from 'node:crypto'
import test from 'ava'
import { Client } from 'pg'
import { pinned, sessionOptions } from '../../src/db/session.ts'
import { createDatabase, query } from '../support/database.ts'
import { allPaid, patient } from '../support/payment-totals.ts'
import { everything, openShop } from '../support/shop.ts'

/** For each setting that is pinned one that changes what a statement does, or how its answer reads. */
const odd: Record<keyof typeof pinned, string> = {
  client_encoding: 'LATIN1',
  datestyle: 'German, DMY',
  intervalstyle: 'sql_standard',
  timezone: 'Asia/Kathmandu',
  bytea_output: 'escape',
  extra_float_digits: '-15',
  array_nulls: 'off',
  standard_conforming_strings: 'off',
  transform_null_equals: 'on',
  search_path: 'shadows, pg_catalog',
  default_transaction_isolation: 'serializable',
  synchronous_commit: 'off',
  statement_timeout: '1ms',
  lock_timeout: '1ms',
  idle_in_transaction_session_timeout: '1ms',
  idle_session_timeout: '1ms',
}

/** A login of its own: sessions of the test itself stay ordinary. */
const login = `odd_${randomUUID().replaceAll('-', '')}`
test.before(() => query(process.env.POSTGRES_DSN!, `create role ${login} superuser login password '${login}'`))
test.after.always(() => query(process.env.POSTGRES_DSN!, `drop role if exists ${login}`))

/** @returns a DSN of this database for the login, for which all of them are set */
async function setOddly(dsn: string): Promise<string> {
  const url = new URL(dsn)
  for (const [name, value] of Object.entries(odd)) {
    const literal = name === 'search_path' ? value : `'${value}'`
    await query(dsn, `alter role ${login} in database ${url.pathname.slice(1)} set ${name} = ${literal}`)
  }
  await query(dsn, 'create schema shadows')
  for (const clock of ['now', 'clock_timestamp']) {
    await query(dsn, `create function shadows.${clock}() returns timestamptz language sql as $$ select '1999-12-31Z'::timestamptz $$`)
  }
  url.username = url.password = login
  return url.href
}

test('each pinned setting is what we say in a session whose role has it set the odd way', async (t) => {
  const database = await createDatabase({ migrated: false })
  t.teardown(database.drop)
  const session = new Client(sessionOptions(await setOddly(database.dsn)))
  await session.connect()
  t.teardown(() => session.end())
  for (const [name, value] of Object.entries(pinned)) {
    const { rows } = await session.query(`select current_setting($1) as value`, [name])
    t.is(rows[0].value, value, name)
  }
})

test('a service whose role has every setting the odd way migrates, takes orders of a crowd and has them paid', async (t) => {
  const shop = await openShop({ roles: [], env: patient })
  t.teardown(() => shop.close())
  const dsn = await setOddly(shop.dsn)
  await shop.query('drop schema order_service cascade')
  await shop.query('drop table public.order_items, public.orders')
  const service = await shop.start(everything, { POSTGRES_DSN: dsn })
  const url = `http://127.0.0.1:${service.port}`
  const product = shop.catalog.product({ stock: 100 })
  const customers = await Promise.all(Array.from({ length: 40 }, () => shop.customer().wants({ product_id: product, qty: 1 })))

  const answers = await Promise.all(customers.map((customer) => customer.checkout({ url })))

  t.deepEqual([...new Set(answers.map(({ status, body }) => `${status} ${body.detail ?? ''}`))], ['200 '])
  const orders = answers.map(({ body }) => body.order_id as number)
  for (const order of orders) await shop.pay(order)
  await allPaid(shop, orders)
  t.deepEqual(
    await shop.query(`select count(*)::int as n from public.orders where created_at < now() at time zone 'utc' - interval '1 h'`),
    [{ n: 0 }],
  )
})
