/** Redis under a Sentinel: the master goes, its replica takes over, and the shop goes on. */
import test from 'ava'
import { connectPatient } from '../../src/redis/connection.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { shopTotals } from '../support/shop-totals.ts'
import { startProcess } from '../support/service-process.ts'
import { openProxy } from '../support/proxy.ts'
import { type SentinelGroup, startSentinel } from '../support/services/redis-groups.ts'
import { type Answer, type Customer, openShop, type Shop } from '../support/shop.ts'
import { untilReady, untilServed } from '../support/served.ts'
import { until } from '../support/until.ts'

let group: SentinelGroup
let shop: Shop
test.before(async () => {
  group = await startSentinel('test-sentinel')
  process.env.REDIS_URL = group.url
  shop = await openShop({ env: { CALL_TIMEOUT_MS: '1000', CHECKOUT_BUDGET_MS: '5000' } })
})
test.after.always(async () => {
  await shop?.close()
  await group?.stop()
})

const customers = (count: number, id: number): Promise<Customer[]> =>
  Promise.all(Array.from({ length: count }, () => shop.customer().wants({ product_id: id, qty: 1 })))

const bought = (answers: readonly Answer[]) => answers.filter(({ status }) => status === 200).length

const roleOf = async (server: SentinelGroup['master']) => String(await group.ask(server, 'ROLE').catch(String)).split(',')[0]

test.serial('customers are served when a Redis master is killed, and every answer is true', async (t) => {
  const id = shop.catalog.product({ stock: 1000 })
  const [before, ...crowd] = await customers(13, id)
  const answers = [await before!.checkout()]
  t.is(answers[0]!.status, 200)
  const slow = shop.catalog.fault({ call: 'reserve', fault: 'slow', ms: 100 })

  const asked = Promise.all(crowd.map((customer) => customer.checkout()))
  await until(slow.fired, (times) => times > 0)
  await group.master.kill()
  answers.push(...(await asked))
  slow.remove()
  answers.push(...(await untilServed(shop, id)))

  t.is(await roleOf(group.replica), 'master')
  t.deepEqual(
    answers.filter(({ status }) => status !== 200 && status !== 503),
    [],
  )
  const sold = bought(answers)
  t.deepEqual(await shopTotals(shop, [id]), { orders: sold, sold, held: sold, misshipped: [] })
  await t.notThrowsAsync(untilReady(shop))
})

test.serial('a master that becomes a replica and lives on is left for its successor', async (t) => {
  await group.master.restart()
  await until(
    () => roleOf(group.master),
    (role) => role === 'slave',
  )
  const id = shop.catalog.product({ stock: 1000 })
  const answers = await untilServed(shop, id)
  const crowd = await customers(6, id)

  await until(
    () => group.failOver().then(() => roleOf(group.master)),
    (role) => role === 'master',
  )
  await until(
    () => roleOf(group.replica),
    (role) => role === 'slave',
  )
  answers.push(...(await Promise.all(crowd.map((customer) => customer.checkout()))), ...(await untilServed(shop, id)))

  const sold = bought(answers)
  t.deepEqual(await shopTotals(shop, [id]), { orders: sold, sold, held: sold, misshipped: [] })
})

test.serial('a connection that is being opened when the Sentinels name another master is opened to that one', async (t) => {
  const [, login, sentinel, path] = /^redis\+sentinel:\/\/(.*@)(.*)(\/shop.*)$/.exec(group.url)!
  const proxy = await openProxy(t, `tcp://${sentinel}`)
  const redis = connectPatient(`redis+sentinel://${login}${new URL(proxy.url).host}${path}`, createLogger('silent'))
  t.teardown(() => redis.disconnect())
  const masterPort = async () => /tcp_port:(\d+)/.exec(String(await redis.info()))![1]
  const before = await masterPort()
  const [old, next] = before === String(group.master.port) ? [group.master, group.replica] : [group.replica, group.master]

  const answerAgain = proxy.silence({ saying: 'get-master-addr-by-name', later: true })
  await group.ask(old, 'CLIENT', 'KILL', 'TYPE', 'normal').catch(() => {}) // its own connection too
  await until(
    () => redis.status,
    (status) => status === 'connecting',
  )
  await until(
    async () => {
      await group.failOver()
      return roleOf(next)
    },
    (role) => role === 'master',
  )
  await until(
    () => roleOf(old),
    (role) => role === 'slave',
  )
  answerAgain()

  t.is(await masterPort(), String(next.port))
})

test.serial('a Redis behind Sentinels that refuses the login ends the start, and no password is in the log', async (t) => {
  const url = group.url.replace(/:[^:@]*@/, ':wrong-password@')
  t.not(url, group.url)
  const service = await startProcess(t, [], { ...shop.env, REDIS_URL: url })
  t.is(await service.exited, 70)
  const log = JSON.stringify(service.log)
  t.regex(log, /WRONGPASS/)
  t.false(log.includes('wrong-password'))
})
