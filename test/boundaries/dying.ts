/** A process of the service that dies, or is stopped, at a place between two of its questions, and what stands when another one has come. */
import type { ExecutionContext } from 'ava'
import pLimit from 'p-limit'
import type { Role } from '../../src/service/connect.ts'
import { shopTotals } from '../support/shop-totals.ts'
import { type ServiceProcess, startProcess } from '../support/service-process.ts'
import { type Answer, type Customer, openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { type IsAsked, openWire, type Place, type Wire } from '../support/wire/index.ts'
import { topic } from './events.ts'

/** A process takes a second to start, and waits for its end most of the time: so many at once. */
const turn = pLimit(5)

/** Shorter than in a shop: a lease lasts 3.5 s, and whoever waits for a dead one's checkout hears of it after 6 s. */
const env = { CALL_TIMEOUT_MS: '1000', CHECKOUT_BUDGET_MS: '6000', EMIT_ORDER_PAID: 'true', TOPIC_ORDER_EVENTS: topic }

export const STOCK = 100
export const QTY = 2

export interface Scene {
  shop: Shop
  wire: Wire
  /** The process that is to die. */
  first: ServiceProcess
  product: number
  /** An order of `QTY` units that stands, made by that process: the product and the statements are known to it. */
  orderId: number
  /** Everything that there is to send was sent. */
  allSent(): Promise<unknown>
  /** Has it die by SIGKILL there, once `act` has brought it there. */
  diesAt(place: Place, act: () => unknown): Promise<void>
  /** Has it stopped by SIGSTOP there; SIGCONT is the test's. */
  stopsAt(place: Place, act: () => unknown): Promise<void>
  /** Another process of the service. @returns its address */
  another(): Promise<string>
}

/**
 * Plays a scene in a shop of its own, with all these processes in one that is to die, and later in another one.
 * @param more of the environment of both
 */
export function scene(
  t: ExecutionContext,
  roles: readonly Role[],
  more: Record<string, string>,
  play: (scene: Scene) => Promise<void>,
): Promise<void> {
  return turn(async () => {
    const shop = await openShop({ roles: [], env: { ...env, ...more } })
    t.teardown(shop.close)
    const wire = await openWire(shop.env)
    t.teardown(wire.close)
    const first = await startProcess(t, roles, wire.env)
    await Promise.race([
      first.logged('started'),
      first.exited.then(() => Promise.reject(new Error(`it ended: ${JSON.stringify(first.log)}`))),
    ])
    const product = shop.catalog.product({ stock: STOCK })
    const { body } = await repeats(await shop.customer().wants({ product_id: product, qty: QTY }), first.url)
    const unsent = () => shop.query('select id from order_service.outbox where sent_at is null')
    const allSent = () => until(unsent, (rows) => rows.length === 0)
    await allSent()
    async function reach(place: Place, what: 'cut' | 'passes', signal: () => boolean, act: () => unknown): Promise<void> {
      let isReached = false
      wire.at(place, () => {
        isReached = signal()
        return what
      })
      await act()
      await until(() => isReached)
    }

    await play({
      shop,
      wire,
      first,
      product,
      orderId: body.order_id,
      allSent,
      async diesAt(place, act) {
        await reach(place, 'cut', () => process.kill(first.pid, 'SIGKILL'), act)
        t.is(await first.exited, 137)
      },
      stopsAt: (place, act) => reach(place, 'passes', () => process.kill(first.pid, 'SIGSTOP'), act),
      async another() {
        const service = await shop.start(roles, { PORT: '0' })
        return `http://127.0.0.1:${service.port}`
      },
    })
  })
}

/** What the process that dies asks of `to` in these words. */
export const asks =
  (to: 'postgres' | 'kafka', words: string): IsAsked =>
  (question) =>
    question.to === to && question.asks === words

/** What a transaction asks last, after the question before it in a path. */
export const commits = asks('postgres', 'COMMIT')

export const reads: IsAsked = ({ asks: words }) => words.startsWith('GET /catalog/v1/products/')

export const posts =
  (path: string): IsAsked =>
  ({ asks: words }) =>
    words === `POST ${path}`

/** A script of BullMQ, by its name, on this queue. */
const script = (queue: string, ...names: string[]): IsAsked => {
  return ({ to, asks: words }) => {
    const [kind, name = ''] = words.split(' ', 2)
    return to === 'redis' && kind === 'script' && names.includes(name) && words.includes(`:${queue}:`)
  }
}

export const addsJob = (queue: string) => script(queue, 'addStandardJob', 'addDelayedJob')
export const takesJob = (queue: string) => script(queue, 'moveToActive')
export const finishesJob = (queue: string) => script(queue, 'moveToFinished')
export const putsJobOff = (queue: string) => script(queue, 'moveToDelayed')

export interface Boundary {
  /** What is written, or called: as the table of docs/rescue.md has it. */
  name: string
  path: readonly IsAsked[]
  /** Where what comes before is not the one above: the first of a list, and what goes beside others. */
  alsoBefore?: boolean
}

/** After each of them, which is before the next one: to everybody else, the two are the same. */
export const places = (boundaries: readonly Boundary[]): { title: string; place: Place }[] =>
  boundaries.flatMap(({ name, path, alsoBefore }) => [
    ...(alsoBefore ? [{ title: `before ${name}`, place: { when: 'before' as const, path } }] : []),
    { title: `after ${name}`, place: { when: 'after' as const, path } },
  ])

/** The customer's repeat with the same key, until there is an order. A connection that breaks is no answer. */
export function repeats(customer: Customer, url: string): Promise<Answer> {
  return until(
    () => customer.checkout({ key: 'once', url }),
    ({ status }) => status === 200,
  )
}

/** Asks, and may never hear. */
export const asksOnce = (customer: Customer, url: string): Promise<Answer | undefined> =>
  customer.checkout({ key: 'once', url }).catch(() => undefined)

/** So many orders of `QTY` units stand, each with its shipment, Catalog holds just their units, and nothing is open. */
export async function allInOrder(t: ExecutionContext, { shop, product, allSent }: Scene, orders: number): Promise<void> {
  t.deepEqual(await shopTotals(shop, [product]), { orders, sold: orders * QTY, held: orders * QTY, misshipped: [] })
  await allSent()
}
