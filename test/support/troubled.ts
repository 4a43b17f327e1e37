/** A shop in trouble, with something to see on each of the operators' pages: for their screenshots, and for what holds for all pages. */
import { placeOrders } from './payment-totals.ts'
import { type Operator, operatorOf, shown } from './operator.ts'
import type { PaymentMessage } from './payments.ts'
import { everything, openShop, type Shop } from './shop.ts'
import { until } from './until.ts'

/** Texts that reach the pages from outside. */
export interface OutsideTexts {
  title?: string
  /** The name of a customer whose email Shipping refuses. */
  customer?: string
  /** Of Catalog's and Shipping's errors. */
  detail?: string
  /** Of an unreadable message. */
  message?: string
  /** A header of it. */
  header?: string
  reason?: string
}

export interface TroubledShop {
  shop: Shop
  operator: Operator
  /** Paths of all pages, by a name for each. */
  pages: Record<string, string>
  /** Ids of what is in trouble. */
  ids: {
    paidOrder: number
    refusedOrder: number
    stuckOrder: number
    oversold: number
    letters: Record<string, number>
    bulkAction: number
  }
  /** Ends the outage of Catalog. */
  recover(): void
  close(): Promise<void>
}

/** Dead letters by what is wrong with them. */
type Letters = Record<'amount' | 'unknown' | 'text' | 'bytes', number>

/** More than are acted on at once, so that the action becomes a job. */
const STUCK_PAYMENTS = 40
const HOME = '/order/admin'

const message = (orderId: number, fields: object): PaymentMessage => ({
  key: String(orderId),
  value: JSON.stringify({
    type: 'payment.succeeded',
    order_id: orderId,
    amount_cents: 2_500,
    currency: 'USD',
    provider: 'stripe',
    ...fields,
  }),
})

async function sendLetters(shop: Shop, orders: readonly number[], texts: OutsideTexts): Promise<Letters> {
  await shop.publish([
    message(orders[0]!, { amount_cents: 250, payment_id: 'pay_1041' }),
    message(orders[1]!, { currency: 'EUR', payment_id: 'pay_1042' }),
    message(987_654, { payment_id: 'pay_1043' }),
    {
      key: 'pay_1044',
      value: texts.message ?? '{"type":"payment.succeeded","order_id":',
      headers: { 'content-type': texts.header ?? 'application/json' },
    },
    { key: null, value: Buffer.from([0x00, 0x01, 0xfe, 0xff, 0x7b, 0x22]), headers: { trace: Buffer.from([0xff, 0x00]) } },
  ])
  const rows = await until(
    () => shop.query<{ id: string; key: string | null }>(`select id, encode(key, 'escape') as key from order_service.dead_letters`),
    ({ length }) => length === 5,
  )
  const idOf = (key: string | null) => Number(rows.find((row) => row.key === key)!.id)
  const letters = { amount: idOf(String(orders[0])), unknown: idOf('987654'), text: idOf('pay_1044'), bytes: idOf(null) }
  return letters
}

/** Orders hold more of it than Catalog has, after somebody counted the shelf. */
async function oversell(shop: Shop, operator: Operator): Promise<number> {
  const product = shop.catalog.product({ stock: 10, price: 8_900, title: 'Rain Jacket' })
  await placeOrders(shop, 3, product, 2)
  shop.catalog.setInventory(product, { in_stock: 4, reserved: 4 })
  await operator.act('reconcile-products', { item: String(product) }, 'The shelf was counted: 4 are left')
  await shown(operator, 'product-oversold', undefined, 30_000)
  return product
}

/** Paid orders that Catalog does not commit, and a checkout that it does not reserve. @returns the order of the first payment */
async function breakCatalog(shop: Shop, texts: OutsideTexts): Promise<{ stuckOrder: number; recover: () => void }> {
  const price = 2_500
  const hats = shop.catalog.product({ stock: 500, price, title: texts.title ?? 'Sun Hat' })
  const socks = shop.catalog.product({ stock: 500, price: 990, title: 'Wool Socks' })
  const orders = await placeOrders(shop, STUCK_PAYMENTS, hats)
  const fault = { fault: 'error', status: 503, detail: texts.detail ?? 'database is locked' } as const
  const faults = [
    shop.catalog.fault({ ...fault, call: 'commit', productId: hats }),
    shop.catalog.fault({ ...fault, call: 'reserve', productId: socks }),
  ]
  for (const order of orders) await shop.pay(order, { provider: 'stripe', payment_id: `pay_${order}` })
  const customer = await shop.customer().wants({ product_id: socks, qty: 2 })
  customer.checkout().catch(() => {}) // it waits until the shop closes
  return { stuckOrder: orders[0]!, recover: () => faults.forEach((one) => one.remove()) }
}

async function payOne(shop: Shop, texts: OutsideTexts): Promise<number> {
  const shoes = shop.catalog.product({ stock: 100, price: 12_999, title: texts.title ?? 'Trail Shoes' })
  const customer = await shop.customer().wants({ product_id: shoes, qty: 1 })
  const { status, body } = await customer.checkout({ key: 'cart-7f3a' })
  if (status !== 200) throw new Error(`a checkout was answered with ${status}: ${JSON.stringify(body)}`)
  await shop.pay(body.order_id, { provider: 'stripe', payment_id: 'pay_1001' })
  await until(
    () => shop.query(`select from public.orders where id = $1 and status = 'PAID'`, [body.order_id]),
    ({ length }) => length === 1,
  )
  return body.order_id
}

/** A checkout that Shipping refuses for the customer's email. */
async function refuseOne(shop: Shop, { customer: name = 'jane doe', detail }: OutsideTexts): Promise<number> {
  if (detail !== undefined) shop.shipping.fault({ call: 'create', fault: 'refuse', status: 422, detail, times: 1 })
  const mugs = shop.catalog.product({ stock: 100, price: 1_400, title: 'Enamel Mug' })
  const customer = await shop.customer(name).wants({ product_id: mugs, qty: 1 })
  const { status, body } = await customer.checkout()
  if (status !== 502) throw new Error(`a checkout was answered with ${status}: ${JSON.stringify(body)}`)
  const [row] = await shop.query<{ order_id: number }>('select max(order_id) as order_id from order_service.checkouts')
  return row!.order_id
}

/** The id of the action in the answer to its form. */
export const actionIn = ({ headers, body }: { headers: Headers; body?: { id?: number } }): number =>
  Number(/\/actions\/(\d+)/.exec(headers.get('location') ?? '')?.[1] ?? body?.id)

export async function openTroubled(texts: OutsideTexts = {}): Promise<TroubledShop> {
  const env = { LOG_LEVEL: process.env.LOG_LEVEL ?? 'silent', CHECKOUT_BUDGET_MS: '600000', PAYMENT_GRACE_MS: '1000' }
  const shop = await openShop({ roles: everything, env })
  const operator = operatorOf(shop)
  const reason = texts.reason ?? 'Catalog answers again'
  const paidOrder = await payOne(shop, texts)
  const refusedOrder = await refuseOne(shop, texts)
  const bags = shop.catalog.product({ stock: 100, price: 2_500, title: 'Canvas Bag' })
  const letters = await sendLetters(shop, await placeOrders(shop, 2, bags), texts)
  await operator.act('discard-letters', { item: String(letters.unknown) }, texts.reason ?? 'An order of the test shop')
  const oversold = await oversell(shop, operator)
  const { stuckOrder, recover } = await breakCatalog(shop, texts)
  await shown(operator, 'downstream-error', 'catalog', 30_000)
  await until(
    () => shop.query(`select from order_service.payment_events where state = 'WAITING' and cause is not null`),
    ({ length }) => length === STUCK_PAYMENTS,
  )
  const acted = await operator.act('retry-payments', { cause: 'downstream-error', service: 'catalog', perSecond: '1' }, reason)
  const bulkAction = actionIn(acted)
  const ids = { paidOrder, refusedOrder, stuckOrder, oversold, letters, bulkAction }
  return { shop, operator, ids, recover, pages: pagesOf(ids), close: shop.close }
}

const pagesOf = ({ paidOrder, refusedOrder, stuckOrder, oversold, letters, bulkAction }: TroubledShop['ids']): Record<string, string> => ({
  home: HOME,
  problem: `${HOME}/problems/downstream-error?service=catalog`,
  orders: `${HOME}/orders`,
  order: `${HOME}/orders/${paidOrder}`,
  'refused-order': `${HOME}/orders/${refusedOrder}`,
  'stuck-order': `${HOME}/orders/${stuckOrder}`,
  'dead-letters': `${HOME}/dead-letters`,
  'dead-letter': `${HOME}/dead-letters/${letters.amount}`,
  'dead-letter-text': `${HOME}/dead-letters/${letters.text}`,
  'dead-letter-bytes': `${HOME}/dead-letters/${letters.bytes}`,
  inventory: `${HOME}/inventory`,
  product: `${HOME}/inventory/${oversold}`,
  actions: `${HOME}/actions`,
  action: `${HOME}/actions/${bulkAction}`,
  'new-action': `${HOME}/actions/new?verb=retry-payments&cause=downstream-error&service=catalog`,
  'sign-out': `${HOME}/sign-out`,
  'not-found': `${HOME}/orders/999999999`,
})
