/** Where metrics are served, and what a scrape needs. */
import test from 'ava'
import { Client } from 'pg'
import { freePort } from '../support/services/ports.ts'
import { openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

test('where METRICS_PORT is set, web serves its metrics there and not to customers', async (t) => {
  const port = await freePort()
  const shop = await openShop({ roles: ['web'], env: { METRICS_PORT: String(port) } })
  t.teardown(shop.close)
  const at = (path: string) => fetch(`http://127.0.0.1:${port}${path}`)

  t.is((await shop.get('/order/metrics')).status, 404)
  t.is((await shop.get('/metrics')).status, 404)
  t.regex(await (await at('/order/metrics')).text(), /order_http_request_seconds_count\{route="none",method="GET",status="404"\} 2/)
  t.is((await shop.get('/order/ready')).status, 200)
  t.is((await at('/order/ready')).status, 200)
  t.is((await at('/order/v1/orders/1')).status, 404)
})

test('a scrape tells how PostgreSQL stands while customers use every connection of theirs', async (t) => {
  const shop = await openShop({ roles: ['web'], env: { POSTGRES_POOL: '1' } })
  t.teardown(shop.close)
  await shop.query(`insert into order_service.outbox (event_id, order_id, type, payload)
    select gen_random_uuid(), n, 'order.created', '{}' from generate_series(1, 3) n`)
  const person = new Client({ connectionString: shop.dsn })
  await person.connect()
  t.teardown(() => person.end())
  await person.query('begin; lock table public.orders')
  const customer = shop.get('/order/v1/orders/1')
  await until(
    () => shop.query(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`),
    (waiting) => waiting.length > 0,
  )

  const { body } = await shop.get('/order/metrics')
  t.regex(body, /^order_outbox_unsent 3$/m)
  t.regex(body, /^order_numbers_left\{sequence="public.orders_id_seq"\} 2147483647$/m)
  t.regex(body, /^order_numbers_left\{sequence="order_service.outbox_id_seq"\} 9223372036854776000$/m)

  await person.query('rollback')
  await customer
})

test('a scrape tells which components of its readiness a process can use', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  const ready = async () => String((await shop.get('/order/metrics')).body).match(/(?<=^order_component_ready)\{.*$/gm)!

  t.true((await ready()).includes('{component="postgres"} 1'))
  t.true((await ready()).includes('{component="intake"} 1'))

  await shop.query('insert into order_service.drain default values')
  await until(ready, (components) => components.includes('{component="intake"} 0'))
  t.true((await ready()).includes('{component="postgres"} 1'))
})

test('a scrape tells how many processes of each role run, and 0 for a role that no process has', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  await shop.start(['web', 'worker'])
  const processes = async () => String((await shop.get('/order/metrics')).body).match(/(?<=^order_processes)\{.*$/gm)!

  const counted = await until(processes, (roles) => roles.includes('{role="web"} 2'))
  t.deepEqual(counted, ['{role="web"} 2', '{role="worker"} 1', '{role="bridge"} 0', '{role="relay"} 0'])
})
