/** PostgreSQL, Redis and Kafka of this file's own go away, and components hang: the first page names it within 10 s, and drops it when they are back. */
import test from 'ava'
import { Worker } from 'bullmq'
import { keepLocked } from '../stock/harness.ts'
import { paymentOf } from '../support/payments.ts'
import { placeOrders } from '../support/payment-totals.ts'
import { type OwnServers, startServers } from '../support/services/index.ts'
import { everything } from '../support/shop.ts'
import { type Fault, type FaultyShop, openFaulty, seenToComeAndGo } from './faults.ts'

let servers: OwnServers
let faulty: FaultyShop
test.before(async () => {
  servers = await startServers('test-browser-servers')
  const { postgres, redis, kafka } = servers
  Object.assign(process.env, { POSTGRES_DSN: postgres.dsn, REDIS_URL: redis.url, KAFKA_BOOTSTRAP: kafka.bootstrap })
  faulty = await openFaulty({ roles: everything, env: { WATCHDOG_MS: '4000' } })
})
test.after.always(async () => {
  await faulty?.shop.close()
  await servers?.stop()
})

function comesAndGoes(title: string, fault: (shop: FaultyShop) => Fault): void {
  test.serial(`${title} is named within 10 s, and no more within 10 s of its end`, (t) => seenToComeAndGo(t, faulty, fault(faulty)))
}

/** A server that is killed while a customer buys every half a second, and restarted. */
function killed(name: 'postgres' | 'redis' | 'kafka', cause: Fault['cause']) {
  return ({ shop, buys }: FaultyShop): Fault => ({
    cause,
    async prepare() {
      const product = shop.catalog.product({ stock: 1000 })
      await placeOrders(shop, 1, product)
      return async () => {
        await servers[name].kill()
        const customers = setInterval(() => void buys(product).catch(() => {}), 500)
        return async () => {
          clearInterval(customers)
          await servers[name].restart()
        }
      }
    },
  })
}
comesAndGoes('Kafka that is away', killed('kafka', 'kafka-unavailable'))
comesAndGoes('Redis that is away', killed('redis', 'redis-unavailable'))
comesAndGoes('PostgreSQL that is away', killed('postgres', 'database-unavailable'))

comesAndGoes('a bridge that does not get on', ({ shop }) => ({
  cause: 'bridge-behind',
  async prepare() {
    const orders = await placeOrders(shop, 20, shop.catalog.product({ stock: 1000 }))
    return async () => {
      const unlock = await keepLocked(shop.dsn, 'lock table order_service.bridge_totals in exclusive mode')
      await shop.publish(orders.map((order) => paymentOf(order, { amount_cents: 1000, currency: 'USD' })))
      return unlock
    }
  },
}))

comesAndGoes('a worker that takes no jobs', ({ shop, buys }) => ({
  cause: 'component-stalled',
  prepare: async () => async () => {
    const fetching = Worker.prototype as unknown as { _getNextJob(...of: unknown[]): Promise<unknown> }
    const { _getNextJob: fetchJob } = fetching
    fetching._getNextJob = () => new Promise(() => {})
    const product = shop.catalog.product({ stock: 10 })
    const customers = setInterval(() => void buys(product), 500)
    return async () => {
      clearInterval(customers)
      fetching._getNextJob = fetchJob
    }
  },
}))
