/** Each cause of src/causes.ts, made by its real fault: the first page has it within 10 s, and drops it within 10 s of the fault's end. */
import test, { type ExecutionContext } from 'ava'
import type { Role } from '../../src/service/connect.ts'
import type { ServiceName } from '../../src/causes.ts'
import { keepLocked } from '../stock/harness.ts'
import { placeOrders } from '../support/payment-totals.ts'
import type { PaymentMessage } from '../support/payments.ts'
import { everything } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { wakeReconciler } from '../support/wake-reconciler.ts'
import { type Fault, type FaultyShop, openFaulty, seenToComeAndGo } from './faults.ts'

/** `apart`: its roles run beside each other, so that one of them can stop. */
type Name = 'catalog' | 'shipping' | 'apart' | 'payments' | 'stock'
const shops = {} as Record<Name, FaultyShop>
/** The services of the shop `apart`, by role. */
const running = new Map<Role, { stop(): Promise<unknown> }>()

test.before(async () => {
  const open = async (name: Name, roles: readonly Role[], env: Record<string, string> = {}) => {
    shops[name] = await openFaulty({ roles, env })
  }
  await Promise.all([
    open('catalog', everything, { CHECKOUT_BUDGET_MS: '6000' }),
    open('shipping', everything, { CHECKOUT_BUDGET_MS: '6000' }),
    open('apart', ['web'], { CHECKOUT_BUDGET_MS: '6000', WORKER_CONCURRENCY: '2' }),
    open('payments', everything, { PAYMENT_GRACE_MS: '60000' }),
    open('stock', everything, { CALL_TIMEOUT_MS: '2500', CHECKOUT_BUDGET_MS: '20000' }),
  ])
  for (const role of ['worker', 'relay', 'bridge'] as const) running.set(role, await shops.apart.shop.start([role]))
})
test.after.always(() => Promise.all(Object.values(shops).map(({ shop }) => shop.close())))

/** The faults of one shop come one after the other; those of several shops side by side. */
function comesAndGoes(name: Name, title: string, fault: (shop: FaultyShop) => Fault): void {
  test(`${title} is named within 10 s, and no more within 10 s of its end`, (t: ExecutionContext) =>
    shops[name].inTurn(() => seenToComeAndGo(t, shops[name], fault(shops[name]))))
}

/** Customers who buy until the test ends. */
function crowd(t: ExecutionContext, { buys }: FaultyShop, productId: number): void {
  void buys(productId)
  const timer = setInterval(() => void buys(productId), 500)
  t.teardown(async () => clearInterval(timer))
}

// --- Catalog and Shipping

const calls = {
  catalog: { unreachable: 'down', hang: { fault: 'hang' }, error: { fault: 'error', status: 503, detail: 'database is locked' } },
  shipping: { unreachable: 'down', hang: { fault: 'hang' }, error: { fault: 'error', status: 500, detail: 'boom' } },
} as const

/** A service in trouble, with a paid order (Catalog's) and with customers who go on buying. */
function downstream(service: ServiceName, cause: Fault['cause'], fault: 'down' | Parameters<FaultyShop['shop']['catalog']['fault']>[0]) {
  return (faulty: FaultyShop): Fault => ({
    cause,
    service,
    async prepare(t) {
      const { shop } = faulty
      const product = shop.catalog.product({ stock: 100_000 })
      const order = await until(() => faulty.buys(product)) // until the breaker of the fault before is closed
      return async () => {
        if (fault === 'down') await shop[service].down()
        else if (service === 'catalog') shop.catalog.fault(fault)
        else shop.shipping.fault(fault as Parameters<typeof shop.shipping.fault>[0])
        await shop.pay(order!)
        crowd(t, faulty, product)
        return async () => {
          // A service that is restarted cuts the calls that hang.
          if (cause === 'downstream-timeout') await shop[service].down()
          shop[service].clearFaults()
          await shop[service].up()
        }
      }
    },
  })
}

for (const service of ['catalog', 'shipping'] as const) {
  comesAndGoes(service, `${service} that refuses connections`, downstream(service, 'downstream-unreachable', calls[service].unreachable))
  comesAndGoes(service, `${service} that hangs`, downstream(service, 'downstream-timeout', calls[service].hang))
  comesAndGoes(service, `${service} that answers with errors`, downstream(service, 'downstream-error', calls[service].error))
  for (const status of [401, 429])
    comesAndGoes(
      service,
      `${service} that refuses this service with a ${status}`,
      downstream(service, 'downstream-refuses-us', { fault: 'refuse', status, detail: 'no' }),
    )
}

// --- Processes and queues

function stopped(role: 'worker' | 'relay' | 'bridge', cause: Fault['cause']) {
  return (faulty: FaultyShop): Fault => ({
    cause,
    async prepare() {
      return async () => {
        await running.get(role)!.stop()
        return async () => running.set(role, await faulty.shop.start([role]))
      }
    },
  })
}
comesAndGoes('apart', 'a shop without a worker', stopped('worker', 'no-worker'))
comesAndGoes('apart', 'a shop without a relay', stopped('relay', 'no-relay'))
comesAndGoes('apart', 'a shop without a bridge', stopped('bridge', 'no-bridge'))

for (const queue of ['checkout', 'payment'])
  comesAndGoes('apart', `a paused ${queue} queue`, ({ operator }) => ({
    cause: 'queue-paused',
    prepare: async () => async () => {
      await operator.ask(`/order/admin/queues/api/queues/${queue}/pause`, { method: 'PUT' })
      return () => operator.act('resume-queue', { queue })
    },
  }))

comesAndGoes('apart', 'a drained service', ({ shop, operator }) => ({
  cause: 'drained',
  prepare: async () => async () => {
    await shop.query('insert into order_service.drain default values')
    return () => operator.act('accept-work', {})
  },
}))

comesAndGoes('apart', 'a worker that is too slow for its customers', (faulty) => ({
  cause: 'workers-behind',
  async prepare(t) {
    const { shop } = faulty
    const products = Array.from({ length: 10 }, () => shop.catalog.product({ stock: 1000 }))
    return async () => {
      const slow = shop.catalog.fault({ fault: 'slow', ms: 3000 })
      for (const product of products) crowd(t, faulty, product)
      return async () => slow.remove()
    }
  },
}))

// --- Payments and events

/** A message that becomes a dead letter, and its discard. */
function letter(
  cause: Fault['cause'],
  messages: (faulty: FaultyShop, orderId: number, productId: number) => Promise<PaymentMessage[] | void>,
) {
  return (faulty: FaultyShop): Fault => ({
    cause,
    async prepare() {
      const { shop, operator } = faulty
      const product = shop.catalog.product({ stock: 100 })
      const [order] = await placeOrders(shop, 1, product)
      return async () => {
        const sent = await messages(faulty, order!, product)
        if (sent) await shop.publish(sent)
        return () => operator.act('discard-letters', { cause })
      }
    },
  })
}
const event = (orderId: number, fields: object): PaymentMessage => ({
  key: String(orderId),
  value: JSON.stringify({ type: 'payment.succeeded', order_id: orderId, ...fields }),
})

comesAndGoes(
  'payments',
  'a payment of a wrong amount',
  letter('payment-mismatch', async (_, id) => [event(id, { amount_cents: 1, currency: 'USD' })]),
)
comesAndGoes(
  'payments',
  'a payment in a wrong currency',
  letter('payment-mismatch', async (_, id) => [event(id, { amount_cents: 1000, currency: 'EUR' })]),
)
comesAndGoes(
  'payments',
  'a second payment of an order',
  letter('payment-mismatch', async ({ shop }, id) => {
    await shop.pay(id, { payment_id: 'first' })
    await until(
      () => shop.query(`select from public.orders where id = $1 and status = 'PAID'`, [id]),
      ({ length }) => length === 1,
    )
    return [event(id, { amount_cents: 1000, currency: 'USD', payment_id: 'second' })]
  }),
)
comesAndGoes(
  'payments',
  'a payment of a cancelled checkout',
  letter('payment-mismatch', async ({ shop }, _, product) => {
    const refuses = shop.shipping.fault({ call: 'create', fault: 'refuse', status: 422 })
    const customer = await shop.customer().wants({ product_id: product, qty: 1 })
    await customer.checkout()
    refuses.remove()
    const [row] = await shop.query<{ order_id: number }>('select max(order_id) as order_id from order_service.checkouts')
    return [event(row!.order_id, { amount_cents: 1000, currency: 'USD' })]
  }),
)
comesAndGoes(
  'payments',
  'a message that cannot be read',
  letter('message-unreadable', async () => [{ key: 'k', value: Buffer.from([0xff, 0, 1]) }]),
)
comesAndGoes(
  'payments',
  'stock that Catalog refuses to commit',
  letter('stock-refused', async ({ shop }, id, productId) => {
    shop.catalog.fault({ call: 'commit', productId, fault: 'refuse', status: 409, detail: 'Insufficient stock' })
    await shop.pay(id)
  }),
)
comesAndGoes('payments', 'a payment that comes before its order', ({ shop }) => ({
  cause: 'payment-early',
  async prepare() {
    const product = shop.catalog.product({ stock: 100 })
    const [latest] = await placeOrders(shop, 1, product)
    return async () => {
      await shop.publish([event(latest! + 1, { amount_cents: 1000, currency: 'USD' })])
      return () => placeOrders(shop, 1, product)
    }
  },
}))
comesAndGoes('payments', 'an event that is too large for Kafka', ({ shop, operator }) => ({
  cause: 'event-undeliverable',
  prepare: async () => async () => {
    await shop.query(
      `insert into order_service.outbox (event_id, order_id, type, payload)
       values (gen_random_uuid(), 1, 'order.created', jsonb_build_object('pad', repeat('x', 1200000)))`,
    )
    return async () => {
      await shop.query(`update order_service.outbox set payload = '{}' where undeliverable_at is not null`)
      await operator.act('republish-events', { cause: 'event-undeliverable' })
    }
  },
}))
comesAndGoes('payments', 'a fault of this service itself', ({ shop, operator }) => ({
  cause: 'internal-error',
  async prepare() {
    const product = shop.catalog.product({ stock: 100 })
    const [order] = await placeOrders(shop, 1, product)
    await shop.query(`create function order_service.break() returns trigger language plpgsql as $$ begin return 1 / 0; end $$`)
    return async () => {
      await shop.query(`create trigger break before update on public.orders for each row execute function order_service.break()`)
      await shop.pay(order!)
      return async () => {
        await shop.query('drop trigger break on public.orders')
        await operator.act('retry-payments', { cause: 'internal-error' })
      }
    }
  },
}))

// --- Stock

// Not in the shop `stock`: its calls may last 2.5 s, and hardly longer than these take.
comesAndGoes('payments', 'a product that many customers want at once', ({ shop }) => ({
  cause: 'product-contended',
  async prepare() {
    const product = shop.catalog.product({ stock: 10_000 })
    const customers = await Promise.all(Array.from({ length: 200 }, () => shop.customer().wants({ product_id: product, qty: 1 })))
    return async () => {
      const slow = shop.catalog.fault({ call: 'reserve', productId: product, fault: 'slow', ms: 2000 })
      for (const customer of customers) void customer.checkout().catch(() => {})
      return async () => slow.remove()
    }
  },
}))
comesAndGoes('stock', 'a product whose row a person keeps locked', ({ shop, buys }) => ({
  cause: 'row-locked',
  async prepare() {
    const product = shop.catalog.product({ stock: 100 })
    await buys(product)
    return async () => {
      const unlock = await keepLocked(shop.dsn, 'select from order_service.products where product_id = $1 for update', [product])
      for (let i = 0; i < 3; i++) void buys(product)
      return unlock
    }
  },
}))

comesAndGoes('stock', 'a hold that Catalog does not take back', (faulty) => ({
  cause: 'product-unreconciled',
  async prepare() {
    const { shop, buys, operator } = faulty
    const product = shop.catalog.product({ stock: 100 })
    await buys(product)
    return async () => {
      shop.catalog.fault({ call: 'reserve', productId: product, fault: 'slow', ms: 0, times: 1 }) // the hold itself works
      const broken = shop.catalog.fault({ call: 'reserve', productId: product, fault: 'error', detail: 'database is locked' })
      const refused = await shop.customer('jane doe').wants({ product_id: product, qty: 1 }) // by Shipping, for the address
      await refused.checkout()
      return async () => {
        broken.remove()
        await operator.act('reconcile-products', { item: String(product) })
      }
    }
  },
}))
comesAndGoes('stock', 'a product of which more is held than there is', (faulty) => ({
  cause: 'product-oversold',
  async prepare() {
    const { shop, buys, operator } = faulty
    const product = shop.catalog.product({ stock: 10 })
    await buys(product, 4)
    return async () => {
      shop.catalog.setInventory(product, { in_stock: 1, reserved: 1 })
      await wakeReconciler(shop, [product])
      return async () => {
        shop.catalog.setInventory(product, { in_stock: 20, reserved: 1 })
        await operator.act('reconcile-products', { item: String(product) })
      }
    }
  },
}))
comesAndGoes('stock', 'an unanswered call that has two explanations', (faulty) => ({
  cause: 'product-ambiguous',
  async prepare() {
    const { shop, buys, operator } = faulty
    const product = shop.catalog.product({ stock: 10 })
    const order = await buys(product)
    const late = shop.catalog.fault({ call: 'commit', productId: product, fault: 'late', ms: 6000, times: 1 })
    await shop.pay(order!)
    await until(late.fired, (times) => times === 1)
    await until(
      () => shop.query(`select from public.orders where id = $1 and status = 'PAID'`, [order]),
      ({ length }) => length === 1,
    )
    return async () => {
      await until(
        () => shop.catalog.inventory(product)?.in_stock,
        (inStock) => inStock === 8,
      )
      await wakeReconciler(shop, [product])
      return () => operator.act('accept-inventory', { item: String(product) })
    }
  },
}))
