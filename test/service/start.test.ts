import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type AddressInfo, createServer } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { Redis } from 'ioredis'
import { createDatabase, query, withDatabase } from '../support/database.ts'
import { type Downstreams, startDownstreams } from '../support/downstreams/index.ts'
import { predecessorTables } from '../support/predecessor.ts'
import { openProxy } from '../support/proxy.ts'
import { startProcess } from '../support/service-process.ts'
import { startPostgres, startRedis } from '../support/services/index.ts'
import { freePort } from '../support/services/ports.ts'
import { demoAddress } from '../support/shop.ts'
import { until } from '../support/until.ts'

let downstreams: Downstreams
test.before(async () => {
  downstreams = await startDownstreams()
})
test.after.always(() => downstreams?.stop())

let shops = 0
function environment(dsn: string): Record<string, string> {
  shops += 1
  return {
    POSTGRES_DSN: dsn,
    REDIS_PREFIX: `{start-${process.pid}-${shops}}`,
    TOPIC_ORDER_EVENTS: `start.${process.pid}.${shops}`,
    CATALOG_BASE: downstreams.catalogBase,
    SHIPPING_BASE: downstreams.shippingBase,
  }
}

const json = async (url: string, init?: RequestInit) => {
  const response = await fetch(url, init)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

function checkout(url: string, email: string) {
  const headers = { authorization: `Bearer ${downstreams.auth.token({ sub: email })}`, 'content-type': 'application/json' }
  return json(`${url}/order/v1/orders/checkout`, { method: 'POST', headers, body: JSON.stringify(demoAddress) })
}

test.serial('orders of the predecessor read back, stay as they are, and new ids go on after them', async (t) => {
  const dsn = await predecessorTables(t)
  const rows = () =>
    query(
      dsn,
      'select o.*, i.product_id, i.qty, i.title_snapshot from orders o join order_items i on i.order_id = o.id where o.id <= 3 order by 1',
    )
  const before = await rows()
  const service = await startProcess(t, [], environment(dsn))
  await service.logged('started')

  t.deepEqual(await json(`${service.url}/order/v1/orders/2`), {
    status: 200,
    body: {
      id: 2,
      status: 'PAID',
      total_cents: 4_000_000_000,
      currency: 'USD',
      items: [{ product_id: 7002, qty: 1, unit_price_cents: 4_000_000_000, title_snapshot: 'Ruby' }],
    },
  })
  t.is((await json(`${service.url}/order/v1/orders/1`)).body.total_cents, 25_998)
  t.is((await json(`${service.url}/order/v1/orders/3`)).body.status, 'CREATED')

  // Three units are held for old orders, one for nobody whom we know.
  const product = downstreams.catalog.product({ id: 7001, stock: 10, reserved: 4 })
  await downstreams.cart.fill(`new-${process.pid}@example.com`, [{ product_id: product, qty: 2 }])
  const answer = await checkout(service.url, `new-${process.pid}@example.com`)
  t.is(answer.status, 200, JSON.stringify(answer.body))
  t.is(answer.body.order_id, 4)
  t.deepEqual(downstreams.catalog.inventory(product), { in_stock: 10, reserved: 6 })
  const row = await query(
    dsn,
    'select held::int, foreign_holds::int, hold_correction::int from order_service.products where product_id = 7001',
  )
  t.deepEqual(row, [{ held: 5, foreign_holds: 1, hold_correction: 0 }])
  t.deepEqual(await rows(), before)
  t.deepEqual(await query(dsn, 'select * from alembic_version_order'), [{ version_num: '0001_init' }])
  t.is(await service.stop(), 0)
})

test.serial('release applies the migrations, twice and at once', async (t) => {
  const dsn = await predecessorTables(t)
  const env = environment(dsn)
  const both = await Promise.all([startProcess(t, ['release'], env), startProcess(t, ['release'], env)])
  t.deepEqual(await Promise.all(both.map(({ exited }) => exited)), [0, 0])
  const again = await startProcess(t, ['release'], env)
  t.is(await again.exited, 0)
  const applied = [...both, again].flatMap(({ log }) => log.filter(({ msg }) => msg === 'migration applied').map(({ version }) => version))
  t.deepEqual(applied, [...new Set(applied)])
  t.is(applied.length, readdirSync('sql').length)
})

const validIndexes = (dsn: string) =>
  query(
    dsn,
    `select indexrelid::regclass::text as name, indexrelid from pg_index
     where indrelid in ('public.orders'::regclass, 'public.order_items'::regclass) and indisvalid order by 1`,
  )

test.serial('release takes the indexes that the statements of docs/operations.md built beforehand, and builds none', async (t) => {
  const dsn = await predecessorTables(t)
  const statements = readFileSync('docs/operations.md', 'utf8').match(/create index concurrently .+?(?=;)/g)!
  for (const statement of statements) await query(dsn, statement)
  const before = await validIndexes(dsn)
  t.is(await (await startProcess(t, ['release'], environment(dsn))).exited, 0)
  t.deepEqual(await validIndexes(dsn), before)
})

test.serial('an index whose concurrent build failed ends release with its name, and does not serve in silence', async (t) => {
  const dsn = await predecessorTables(t)
  await t.throwsAsync(query(dsn, 'create unique index concurrently order_items_by_product on order_items (product_id)'))
  const refused = await startProcess(t, ['release'], environment(dsn))
  t.is(await refused.exited, 70)
  t.regex(String((refused.log.at(-1)!.err as Error).message), /^invalid index: public.order_items_by_product; /)

  await query(dsn, 'drop index order_items_by_product')
  t.is(await (await startProcess(t, ['release'], environment(dsn))).exited, 0)
  t.is((await validIndexes(dsn)).length, 5)
})

test.serial('what others change of orders between the triggers and the count of holds is counted once', async (t) => {
  const dsn = await predecessorTables(t)
  const release = async () => (await startProcess(t, ['release'], environment(dsn))).exited
  t.is(await release(), 0)
  // As it is before the count, with the triggers there.
  await query(dsn, 'delete from order_service.products')
  await query(dsn, 'delete from order_service.schema_version where version = 7')
  await query(dsn, `update orders set status = 'PAID' where id = 1`)
  await query(dsn, `insert into order_items (order_id, product_id, qty, unit_price_cents, title_snapshot) values (3, 7003, 5, 1, '')`)
  t.is((await query(dsn, 'select from order_service.product_changes')).length, 2)

  t.is(await release(), 0)

  t.deepEqual(await query(dsn, 'select product_id, held::int from order_service.products order by 1'), [
    { product_id: 7001, held: 1 },
    { product_id: 7003, held: 5 },
  ])
  t.deepEqual(await query(dsn, 'select from order_service.product_changes'), [])
})

test.serial('web, worker, relay and bridge run as processes of their own, and together they serve', async (t) => {
  const database = await createDatabase()
  t.teardown(database.drop)
  const env = { ...environment(database.dsn), MIGRATE: 'false' }
  const [web, worker, relay] = await Promise.all(['web', 'worker', 'relay'].map((role) => startProcess(t, [role], env)))
  await Promise.all([web!, worker!, relay!].map((one) => one.logged('started')))
  const product = downstreams.catalog.product({ stock: 10 })
  await downstreams.cart.fill(`apart-${process.pid}@example.com`, [{ product_id: product, qty: 1 }])

  const answer = await checkout(web!.url, `apart-${process.pid}@example.com`)

  t.is(answer.status, 200, JSON.stringify(answer.body))
  t.is((await json(`${worker!.url}/order/ready`)).status, 200)
  await t.notThrowsAsync(
    until(
      () => query(database.dsn, 'select from order_service.outbox where sent_at is not null'),
      (sent) => sent.length === 1,
    ),
  )
  t.deepEqual(await Promise.all([web!, worker!, relay!].map((one) => one.stop())), [0, 0, 0])
})

type Components = Record<string, { state: string }>

test('a process that starts without PostgreSQL lives, says what is missing, and still stops on SIGTERM', async (t) => {
  const nowhere = `postgresql://postgres@127.0.0.1:${await freePort()}/nothing`
  const service = await startProcess(t, [], environment(nowhere))
  await service.logged('PostgreSQL cannot be used yet')

  t.is((await json(`${service.url}/order/health`)).status, 200)
  const ready = await until(
    () => json(`${service.url}/order/ready`),
    ({ body }) => (body.components as Components).redis?.state === 'ok',
  )
  t.is(ready.status, 503)
  t.not((ready.body.components as Components).postgres!.state, 'ok')
  t.is(await service.stop(), 0)
})

test('a process whose Redis is away stops in order on SIGTERM', async (t) => {
  const redis = await startRedis({ name: 'test-start' })
  t.teardown(redis.stop)
  const database = await createDatabase()
  t.teardown(database.drop)
  const service = await startProcess(t, [], { ...environment(database.dsn), REDIS_URL: redis.url })
  await service.logged('started')
  await redis.kill()
  await service.logged('Redis connection lost; reconnecting')

  t.is(await service.stop(), 0)
  await service.logged('process ended')
})

test.serial('a checkout under way at SIGTERM is answered before the process ends', async (t) => {
  const database = await createDatabase()
  t.teardown(database.drop)
  const service = await startProcess(t, [], environment(database.dsn))
  await service.logged('started')
  const product = downstreams.catalog.product({ stock: 10 })
  const email = `ending-${process.pid}@example.com`
  await downstreams.cart.fill(email, [{ product_id: product, qty: 1 }])
  const slow = downstreams.catalog.fault({ call: 'reserve', productId: product, fault: 'slow', ms: 1000 })

  const answer = checkout(service.url, email)
  await until(slow.fired, (fired) => fired === 1)
  const ended = service.stop()

  t.is((await answer).status, 200)
  t.is(await ended, 0)
})

test.serial('a wrong configuration is one line for each fault, all at once, without any secret, and exit code 78', async (t) => {
  const service = await startProcess(t, [], {
    ...environment('mysql://root:hunter2@db/x'),
    NODE_ENV: 'production',
    KAFKA_BOOTSTRAP: 'kafka',
    CHECKOUT_BUDGET_MS: 'soon',
  })
  t.is(await service.exited, 78)
})

test.serial('an unknown process name, or release beside others, ends with exit code 64', async (t) => {
  const env = environment('postgresql://postgres@127.0.0.1:1/nothing')
  for (const args of [['shop'], ['web', 'clerk'], ['release', 'web']]) {
    t.is(await (await startProcess(t, args, env)).exited, 64, args.join(' '))
  }
})

/** Until the process has told why it ended: in one line, with exit code 70. */
async function faultOf(t: ExecutionContext, args: readonly string[], env: Record<string, string>, listening: { port?: number } = {}) {
  const service = await startProcess(t, args, env, listening)
  t.is(await service.exited, 70)
  const fatal = await until(
    () => service.log.filter(({ level }) => level === 60),
    (lines) => lines.length > 0,
  )
  t.deepEqual(
    fatal.map(({ msg }) => msg),
    ['process could not start'],
  )
  return fatal[0]!.err as { name: string; message: string; code?: string }
}

test.serial('an error that waiting cannot fix ends the start with exit code 70 and one line that names it', async (t) => {
  const database = await createDatabase()
  t.teardown(database.drop)
  const stranger = new URL(database.dsn)
  stranger.username = 'stranger'
  t.is((await faultOf(t, [], environment(stranger.href))).code, '28000')

  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  t.is((await faultOf(t, ['web'], { ...environment(database.dsn), HOST: '127.0.0.1' }, { port })).code, 'EADDRINUSE')
  taken.close()

  await query(database.dsn, `update order_service.schema_version set md5 = 'edited' where version = 2`)
  t.regex((await faultOf(t, [], environment(database.dsn))).message, /checksum/)
  t.regex((await faultOf(t, ['release'], environment(database.dsn))).message, /checksum/)
})

test.serial('a Redis that refuses the login ends the start with exit code 70', async (t) => {
  const redis = await startRedis({ name: 'test-start' })
  t.teardown(redis.stop)
  const owner = new Redis(redis.url)
  await owner.config('SET', 'requirepass', 'secret')
  owner.disconnect()
  const database = await createDatabase()
  t.teardown(database.drop)
  const wrong = redis.url.replace('//', '//:wrong@')
  for (const url of [redis.url, wrong]) {
    const { message } = await faultOf(t, [], { ...environment(database.dsn), REDIS_URL: url })
    t.regex(message, /NOAUTH|WRONGPASS/)
  }
  const service = await startProcess(t, [], { ...environment(database.dsn), REDIS_URL: redis.url.replace('//', '//:secret@') })
  await service.logged('started')
  t.is(await service.stop(), 0)
})

/** The rights that docs/configuration.md asks for, given to the user `order`. */
function documentedRights(prefix: string, password: string): string[] {
  const [line] = readFileSync('docs/configuration.md', 'utf8').match(/^ACL SETUSER order .*$/m)!
  return line.replaceAll('{order}', prefix).replace('PASSWORD', password).split(' ').slice(1)
}

test.serial(
  'a Redis user with the rights of docs/configuration.md is enough, and one without them ends the start with exit code 70',
  async (t) => {
    const redis = await startRedis({ name: 'test-start' })
    t.teardown(redis.stop)
    const owner = new Redis(redis.url)
    t.teardown(async () => owner.disconnect())
    const database = await createDatabase()
    t.teardown(database.drop)
    const env: Record<string, string> = { ...environment(database.dsn), REDIS_URL: redis.url.replace('//', '//order:secret@') }
    const allow = async (...rights: string[]) => owner.call('ACL', ...documentedRights(env.REDIS_PREFIX!, 'secret'), ...rights)
    for (const [rights, says] of [
      [['resetkeys', `~${env.REDIS_PREFIX}*`], /read cart:\*/],
      [['resetkeys', '%R~cart:*'], /write \{start-/],
      [['-zadd'], /run scripts on \{start-/],
      [['-eval'], /run scripts on \{start-/],
      [['resetchannels'], /publish on \{start-/],
    ] as const) {
      await allow('resetkeys', 'resetchannels')
      await allow(...rights)
      const { message } = await faultOf(t, [], env)
      t.regex(message, says)
    }

    await owner.call('ACL', 'DELUSER', 'order')
    await allow()
    const service = await startProcess(t, [], env)
    await service.logged('started')
    const product = downstreams.catalog.product({ stock: 10 })
    const email = `rights-${process.pid}@example.com`
    await owner.hset(`cart:${email}`, '1', JSON.stringify({ product_id: product, qty: 1, unit_price_cents: 100, title: 'Laces' }))
    t.is((await checkout(service.url, email)).status, 200)
    t.false(service.log.some((line) => /NOPERM|ACL/.test(JSON.stringify(line))))

    await allow('resetkeys', `~${env.REDIS_PREFIX}*`)
    for (let i = 0; i < 3; i += 1) t.is((await checkout(service.url, email)).status, 503)
    const told = service.log.filter(({ msg }) => msg === 'customer requests refused')
    t.is(told.length, 1)
    t.like(told[0], { level: 50, detail: 'The cart cannot be read at the moment', err: { name: 'ReplyError' } })
    t.regex((told[0]!.err as { message: string }).message, /^NOPERM/)
    t.is(await service.stop(), 0)
  },
)

test.serial('a Redis that may evict jobs is warned of at the start, and shown as a metric', async (t) => {
  const redis = await startRedis({ name: 'test-start' })
  t.teardown(redis.stop)
  const owner = new Redis(redis.url)
  t.teardown(async () => owner.disconnect())
  await owner.config('SET', 'maxmemory-policy', 'allkeys-lru')
  const database = await createDatabase()
  t.teardown(database.drop)
  const service = await startProcess(t, [], { ...environment(database.dsn), REDIS_URL: redis.url })
  const warning = await service.logged('Redis may evict jobs; set maxmemory-policy noeviction')
  t.like(warning, { level: 40, policy: 'allkeys-lru' })
  await service.logged('started')

  const policies = async () => (await (await fetch(`${service.url}/order/metrics`)).text()).match(/^order_redis_maxmemory_policy.*$/gm)
  t.deepEqual(await policies(), ['order_redis_maxmemory_policy{policy="allkeys-lru"} 1'])
  await owner.config('SET', 'maxmemory-policy', 'noeviction')
  await until(policies, (lines) => lines?.join() === 'order_redis_maxmemory_policy{policy="noeviction"} 1')
  t.is(await service.stop(), 0)
})

/** A checkout of one unit through this process. */
async function serves(t: ExecutionContext, { url }: { url: string }): Promise<void> {
  const product = downstreams.catalog.product({ stock: 10 })
  const email = `later-${randomUUID()}@example.com`
  await downstreams.cart.fill(email, [{ product_id: product, qty: 1 }])
  const answer = await checkout(url, email)
  t.is(answer.status, 200, JSON.stringify(answer.body))
  t.is((await json(`${url}/order/ready`)).status, 200)
}

test('a process takes orders once PostgreSQL comes up later', async (t) => {
  const port = await freePort()
  const service = await startProcess(t, [], environment(`postgresql://postgres@127.0.0.1:${port}/shop`))
  await service.logged('PostgreSQL cannot be used yet')
  const postgres = await startPostgres({ name: 'test-start', port })
  t.teardown(postgres.stop)
  const missing = () => service.log.some(({ err }) => (err as { code?: string } | undefined)?.code === '3D000')
  await until(missing)
  await query(postgres.dsn, 'create database shop')
  await service.logged('started')
  await serves(t, service)
  t.is(await service.stop(), 0)
})

test.serial('a database whose encoding is not UTF8 ends the start with exit code 70, before anything is created in it', async (t) => {
  const name = `latin1_${process.pid}`
  await query(process.env.POSTGRES_DSN!, `create database ${name} encoding 'LATIN1' locale 'C' template template0`)
  const dsn = withDatabase(process.env.POSTGRES_DSN!, name)
  t.teardown(() => query(process.env.POSTGRES_DSN!, `drop database ${name} with (force)`))
  for (const args of [[], ['release']]) t.regex((await faultOf(t, args, environment(dsn))).message, /encoding LATIN1/)
  t.regex((await faultOf(t, [], { ...environment(dsn), MIGRATE: 'false' })).message, /encoding LATIN1/)
  t.deepEqual(await query(dsn, `select from pg_namespace where nspname = 'order_service'`), [])
})

/** Until readiness says so of PostgreSQL. */
async function postgresIs(service: { url: string }, state: RegExp): Promise<void> {
  await until(
    () => json(`${service.url}/order/ready`),
    ({ body }) => state.test((body.components as { postgres?: { state: string } }).postgres?.state ?? ''),
  )
}

test('a standby is waited for until it is promoted, and a database that turns read-only is reported and used again later', async (t) => {
  const postgres = await startPostgres({ name: 'test-standby' })
  t.teardown(postgres.stop)
  const env = environment(postgres.dsn)
  t.is(await (await startProcess(t, ['release'], env)).exited, 0)
  const [place] = await query<{ directory: string }>(postgres.dsn, `select current_setting('data_directory') as directory`)
  await writeFile(join(place!.directory, 'standby.signal'), '')
  await postgres.restart()
  const standing = await Promise.all(['true', 'false'].map((MIGRATE) => startProcess(t, [], { ...env, MIGRATE })))
  for (const service of standing) {
    await service.logged('PostgreSQL cannot be used yet')
    await postgresIs(service, /read-only/)
  }
  await query(postgres.dsn, 'select pg_promote()')
  for (const service of standing) {
    await service.logged('started')
    await serves(t, service)
  }

  await query(postgres.dsn, 'alter system set default_transaction_read_only = on')
  await query(postgres.dsn, 'select pg_reload_conf()')
  const [service] = standing
  await postgresIs(service!, /read-only/)
  t.is((await json(`${service!.url}/order/ready`)).status, 503)
  const product = downstreams.catalog.product({ stock: 10 })
  const email = `refused-${randomUUID()}@example.com`
  await downstreams.cart.fill(email, [{ product_id: product, qty: 1 }])
  const { status, body } = await checkout(service!.url, email)
  t.is(status, 503)
  t.is(body.detail, 'Orders cannot be taken at the moment')
  const told = await service!.logged('customer requests refused')
  t.regex(JSON.stringify(told.err), /read-only transaction/)

  await query(postgres.dsn, 'alter system reset default_transaction_read_only')
  await query(postgres.dsn, 'select pg_reload_conf()')
  await postgresIs(service!, /^ok$/)
  await serves(t, service!)
  t.deepEqual(await Promise.all(standing.map((one) => one.stop())), [0, 0])
})

test.serial('a process with MIGRATE=false waits for release, and says so', async (t) => {
  const database = await createDatabase({ migrated: false })
  t.teardown(database.drop)
  const env = environment(database.dsn)
  const service = await startProcess(t, [], { ...env, MIGRATE: 'false' })
  await service.logged('PostgreSQL cannot be used yet')
  const ready = await json(`${service.url}/order/ready`)
  t.is(ready.status, 503)
  t.regex((ready.body.components as { postgres: { state: string } }).postgres.state, /run the process release/)

  t.is(await (await startProcess(t, ['release'], env)).exited, 0)
  await service.logged('started')
  await serves(t, service)
  t.is(await service.stop(), 0)
})

test('a worker that cannot be brought back ends its process with exit code 75, and says why before', async (t) => {
  const database = await createDatabase()
  t.teardown(database.drop)
  const proxy = await openProxy(t, process.env.REDIS_URL!)
  const env = { ...environment(database.dsn), WATCHDOG_MS: '1500' }
  const service = await startProcess(t, ['worker'], { ...env, REDIS_URL: proxy.url })
  await service.logged('started')
  t.is((await json(`${service.url}/order/ready`)).status, 200)

  // Whatever takes jobs hears no more of Redis, also when it connects again. Everybody else does.
  proxy.silence({ saying: ':checkout:stalled', later: true })

  const { reason } = await service.logged('component stalled; restarting it')
  t.regex(String(reason), /^stalled for \d+ s: its own connections do not answer$/)
  const ready = await json(`${service.url}/order/ready`)
  t.is(ready.status, 503)
  const components = ready.body.components as Record<string, { state: string }>
  t.is(components['checkout-worker-progress']!.state, String(reason))
  t.is(components.redis!.state, 'ok')
  t.is(await service.exited, 75)
  const fatal = service.log.filter(({ level }) => level === 60)
  t.deepEqual(
    fatal.map(({ msg }) => msg),
    ['component stalled again after its restart; ending the process'],
  )
  t.regex(String(fatal[0]!.reason), /^checkout-worker stalled for \d+ s after its restart: /)
})

test('a process whose Redis is silent for several times the limit waits, and serves when it is back', async (t) => {
  const database = await createDatabase()
  t.teardown(database.drop)
  const proxy = await openProxy(t, process.env.REDIS_URL!)
  const env = environment(database.dsn)
  const service = await startProcess(t, [], { ...env, WATCHDOG_MS: '3000', REDIS_URL: proxy.url })
  await service.logged('started')

  const before = proxy.opened()
  const end = proxy.silence({ later: true })
  // A check that waits for an answer takes 2 s, and each of the three workers then tries it with a fresh connection.
  await until(proxy.opened, (count) => count > before + 12)
  end()

  await until(
    () => json(`${service.url}/order/ready`),
    ({ status }) => status === 200,
  )
  await serves(t, service)
  t.false(service.log.some(({ msg }) => msg === 'component stalled; restarting it'))
  t.is(await service.stop(), 0)
})
