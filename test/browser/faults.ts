/** Real faults in a running shop, for the matrix of causes: each is made, seen on the first page, ended, and seen to go. */
import type { ExecutionContext } from 'ava'
import pLimit, { type LimitFunction } from 'p-limit'
import { type Cause, causes, type ServiceName, serviceTitles } from '../../src/causes.ts'
import { cleared, type Operator, operatorOf, shown } from '../support/operator.ts'
import { openShop, type Shop, type ShopOptions } from '../support/shop.ts'

/** A shop whose faults come one after the other, beside other shops. */
export interface FaultyShop {
  shop: Shop
  operator: Operator
  inTurn: LimitFunction
  /** A customer buys this product. The answer comes by itself; a fault may keep it back until the shop closes. */
  buys(productId: number, qty?: number): Promise<number | undefined>
}

export async function openFaulty(options: ShopOptions): Promise<FaultyShop> {
  const shop = await openShop(options)
  return {
    shop,
    operator: operatorOf(shop),
    inTurn: pLimit(1),
    async buys(productId, qty = 1) {
      const customer = await shop.customer().wants({ product_id: productId, qty })
      const { status, body } = await customer.checkout().catch(() => ({ status: 0, body: undefined }))
      return status === 200 ? (body.order_id as number) : undefined
    },
  }
}

export interface Fault {
  cause: Cause
  service?: ServiceName
  /** What must be true before, and is no part of the measure. @returns what makes the fault, which returns what ends it */
  prepare(t: ExecutionContext): Promise<() => Promise<() => Promise<unknown>>>
}

/** Within so long of its fault a cause is shown, and within so long of the fault's end it is gone. In ms. */
export const BAR_MS = 10_000

/** The HTML of the first page escapes what the sentence has of these. */
const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll("'", '&#39;')

/** The sentence of a cause, as the pages show it. */
export const sentenceOf = (cause: Cause, service?: ServiceName): string =>
  causes[cause].sentence.replace('{service}', service ? serviceTitles[service] : '')

export async function seenToComeAndGo(t: ExecutionContext, { operator }: FaultyShop, { cause, service, prepare }: Fault): Promise<void> {
  const make = await prepare(t)
  await cleared(operator, cause, service)
  const since = performance.now()
  const end = await make()
  try {
    const { problem } = await shown(operator, cause, service, BAR_MS)
    const seconds = (performance.now() - since) / 1000
    t.log(`${cause}${service ? ` of ${service}` : ''} is shown after ${seconds.toFixed(1)} s: ${problem.evidence}`)
    t.is(problem.sentence, sentenceOf(cause, service))
    t.true((await operator.html('/order/admin')).includes(escaped(problem.sentence)), 'the page says the same')
    if (cause !== 'database-unavailable') t.is((await operator.ask(`/order/admin/problems/${cause}`)).status, 200)
  } finally {
    await end()
  }
  t.log(`it is gone after ${(await cleared(operator, cause, service, BAR_MS)).toFixed(1)} s`)
}
