/** Redis as a cluster: our keys on one node, carts on all of them, and that node may change. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import test from 'ava'
import { connectFailFast, connectPatient, ready } from '../../src/redis/connection.ts'
import { within } from '../../src/within.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createSignInTries } from '../../src/api/operators/tries.ts'
import { readConfig } from '../../src/config.ts'
import { shopTotals } from '../support/shop-totals.ts'
import { startProcess } from '../support/service-process.ts'
import { type ClusterGroup, startCluster } from '../support/services/redis-groups.ts'
import { type Answer, type Customer, everything, openShop, type Shop } from '../support/shop.ts'
import { untilServed } from '../support/served.ts'
import { until } from '../support/until.ts'

let group: ClusterGroup
let shop: Shop
test.before(async () => {
  group = await startCluster('test-cluster', '{cluster}')
  process.env.REDIS_URL = group.url
  shop = await openShop({
    roles: everything,
    env: { REDIS_PREFIX: '{cluster}', CALL_TIMEOUT_MS: '1000', CHECKOUT_BUDGET_MS: '5000' },
  })
})
test.after.always(async () => {
  await shop?.close()
  await group?.stop()
})

/** Of all kinds of names: carts of names that differ in a digit lie beside each other. */
const customers = (count: number, id: number): Promise<Customer[]> =>
  Promise.all(Array.from({ length: count }, () => shop.customer(randomUUID()).wants({ product_id: id, qty: 1 })))

const bought = (answers: readonly Answer[]) => answers.filter(({ status }) => status === 200).length

test.serial('carts that lie on different nodes are read at once, and their orders are made and paid', async (t) => {
  const id = shop.catalog.product({ stock: 1000 })
  const crowd = await customers(24, id)
  const nodes = new Set<string>()
  for (const { email } of crowd) nodes.add(String(await group.nodeOf(`cart:${email}`)))
  t.is(nodes.size, 3)

  const answers = await Promise.all(crowd.map((customer) => customer.checkout()))

  t.deepEqual([...new Set(answers.map(({ status }) => status))], [200], JSON.stringify(answers.map(({ body }) => body.detail)))
  t.deepEqual(await shopTotals(shop, [id]), { orders: 24, sold: 24, held: 24, misshipped: [] })
  const { order_id } = answers[0]!.body
  await shop.pay(order_id)
  await until(
    () => shop.get(`/order/v1/orders/${order_id}`),
    ({ body }) => body.status === 'PAID',
  )
  t.regex((await shop.get('/order/metrics')).body, /order_redis_maxmemory_policy\{policy="noeviction"\} 3/)
})

test.serial('sign-ins are counted in a cluster', async (t) => {
  const redis = connectFailFast(group.url, createLogger('silent'))
  t.teardown(() => redis.disconnect())
  await ready(redis)
  const tries = createSignInTries(redis, '{cluster}', readConfig({}).jwtKey)
  for (let i = 0; i < 10; i++) t.is(await tries.count('192.0.2.1', 'ada@example.com'), 0)
  t.true((await tries.count('192.0.2.1', 'ada@example.com')) > 0)
})

test.serial('customers are served when a cluster node hands over to its replica, and every answer is true', async (t) => {
  const id = shop.catalog.product({ stock: 1000 })
  const slow = shop.catalog.fault({ call: 'reserve', productId: id, fault: 'slow', ms: 500 })
  const [first, second] = await customers(2, id)
  const asked = first!.checkout()
  await until(slow.fired, (times) => times === 1)

  await group.ask(group.replica, 'CLUSTER', 'FAILOVER')
  await until(
    async () => String(await group.ask(group.replica, 'ROLE')),
    (role) => role.startsWith('master'),
  )
  slow.remove()
  // Both may have met the node that was on its way out.
  const answers = [await second!.checkout(), await asked, ...(await untilServed(shop, id))]

  const sold = bought(answers)
  t.deepEqual(await shopTotals(shop, [id]), { orders: sold, sold, held: sold, misshipped: [] })
})

test.serial('customers are served when the cluster node with their keys is killed, and every answer is true', async (t) => {
  const id = shop.catalog.product({ stock: 1000 })
  const crowd = await customers(12, id)
  const slow = shop.catalog.fault({ call: 'reserve', fault: 'slow', ms: 100 })
  const asked = Promise.all(crowd.map((customer) => customer.checkout()))
  await until(slow.fired, (times) => times > 0)
  await group.replica.kill() // it is the master now
  const answers = await asked
  slow.remove()
  answers.push(...(await untilServed(shop, id)))
  const sold = bought(answers)
  t.deepEqual(await shopTotals(shop, [id]), { orders: sold, sold, held: sold, misshipped: [] })
})

test.serial('workers go on without their watchdog after a cluster node with their keys hung, its connections open', async (t) => {
  const id = shop.catalog.product({ stock: 1000 })
  const redis = connectPatient(group.url, createLogger('silent'))
  t.teardown(() => redis.disconnect())
  await ready(redis)
  group.ours.freeze() // it is the master again, and has no replica
  t.teardown(() => group.ours.thaw())
  const another = group.masters.find((node) => node !== group.ours)!
  await until(
    async () => String(await group.ask(another, 'CLUSTER', 'INFO')),
    (info) => info.includes('cluster_state:fail'),
  )
  // As BullMQ does with a connection on which it waited in vain: it takes no more jobs until this promise settles.
  redis.disconnect()
  await once(redis, 'end')
  await t.notThrowsAsync(within(10_000, redis.connect()))
  group.ours.thaw()

  const answers = await untilServed(shop, id)

  const sold = bought(answers)
  t.deepEqual(await shopTotals(shop, [id]), { orders: sold, sold, held: sold, misshipped: [] })
  t.notRegex((await shop.get('/order/metrics')).body, /^order_component_restarts_total\S* [1-9]/m)
})

test.serial('a Redis cluster that refuses the login ends the start, and no password is in the log', async (t) => {
  const service = await startProcess(t, [], { ...shop.env, REDIS_URL: group.url.replace(/:[^:@]*@/, ':wrong-password@') })
  t.is(await service.exited, 70)
  const log = JSON.stringify(service.log)
  t.regex(log, /WRONGPASS/)
  t.false(log.includes('wrong-password'))
})
