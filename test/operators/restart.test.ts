/** A bulk action outlives the worker that carries it out. */
import test from 'ava'
import { admin } from '../admin/command.ts'
import { openShop } from '../support/shop.ts'
import { startProcess } from '../support/service-process.ts'
import { until } from '../support/until.ts'

const COUNT = 5000

test('5,000 payments are retried although the worker is killed in the middle, and none twice', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  await shop.query(
    `insert into order_service.payment_events (identity, type, order_id, state, topic, partition, kafka_offset, value, headers, sent_at, cause, service)
     select 'i' || n, 'payment.succeeded', n, 'WAITING', 't', 0, n, '', '[]', now(), 'downstream-timeout', 'catalog' from generate_series(1, $1::int) n`,
    [COUNT],
  )
  const env = { POSTGRES_DSN: shop.dsn, REDIS_URL: process.env.REDIS_URL!, REDIS_PREFIX: shop.prefix }
  const act = ['act', 'retry-payments', '--cause', 'downstream-timeout', '--service', 'catalog', '--reason', 'Catalog is back']
  // Without a worker it is frozen, and waits.
  const begun = await admin([...act, '--rate', '1000', '--json'], env)
  t.is(begun.code, 0, begun.err)
  const { id, items, operator } = JSON.parse(begun.out) as { id: number; items: number; operator: string }
  t.is(items, COUNT)
  t.regex(operator, /^\S+@\S+$/)
  const twice = await admin(act, env)
  t.is(twice.code, 1)
  t.regex(twice.err, /The same action runs already: .+ started it at .+; nothing was changed/)

  const done = async () =>
    (await shop.query<{ done: number; state: string }>('select done, state from order_service.operator_actions where id = $1', [id]))[0]!
  const first = await startProcess(t, ['worker'], shop.env)
  await until(done, (row) => row.done > 0)
  process.kill(first.pid, 'SIGKILL')
  await first.exited
  const killedAt = (await done()).done
  t.true(killedAt < COUNT, 'it was killed in the middle')

  await startProcess(t, ['worker'], shop.env)
  const ended = await until(done, ({ state }) => state !== 'RUNNING', 60_000)
  t.deepEqual(ended, { done: COUNT, state: 'DONE' })
  const [counts] = await shop.query(
    'select count(*)::int as items, count(distinct item)::int as different, count(at)::int as known from order_service.operator_action_items where action_id = $1',
    [id],
  )
  t.deepEqual(counts, { items: COUNT, different: COUNT, known: COUNT })
  t.log({ killedAt })

  const shown = await admin(['actions', 'show', String(id), '--json'], env)
  t.like(JSON.parse(shown.out), { state: 'DONE', done: COUNT, reason: 'Catalog is back' })
  t.regex((await admin(['actions', 'list'], env)).out, new RegExp(`^${id} .* DONE +retry-payments`, 'm'))
})
