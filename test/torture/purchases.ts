/** Who wants to buy what, and how it is paid, drawn from a seed before anything begins. */
import type { CartLine } from '../support/downstreams/index.ts'
import { Chance } from '../support/downstreams/chance.ts'

/** How an order is paid. */
export type Payment =
  | 'none'
  | 'once'
  /** Told of twice. */
  | 'twice'
  /** And by another payment, which a person has to refund. */
  | 'by-two'
  /** Of another amount alone: the order stays as it is. */
  | 'wrong-amount'

/** One checkout, with a key of its own. */
export interface Purchase {
  email: string
  key: string
  /** Not before this time, nor before the customer's purchase before is over. */
  atMs: number
  lines: CartLine[]
  /** Gives up at the first answer that says for certain that nothing was ordered. */
  impatient: boolean
  /** Sends the request twice at once. */
  doubleClick: boolean
  payment: Payment
  envelope: boolean
  /** After the answer. */
  paysAfterMs: number
}

export interface Product {
  id: number
  stock: number
  /** Held by nobody we know, before the first checkout. */
  leaked: number
}

const HOT = [1, 2]
const SCARCE = [3, 4]

/** Twenty: two that many want, two of which there are few, two with holds that leaked before us. */
export const products: readonly Product[] = Array.from({ length: 20 }, (_, i) => {
  const id = i + 1
  return { id, stock: SCARCE.includes(id) ? 20 : 5000, leaked: id === 5 || id === 6 ? 3 : 0 }
})

const payments: readonly [Payment, ...Payment[]] = ['once', 'once', 'once', 'once', 'once', 'twice', 'by-two', 'wrong-amount', 'none']

/** @param lastsMs the time over which the checkouts are spread */
export function purchasesOf(seed: number, { checkouts, lastsMs }: { checkouts: number; lastsMs: number }): Purchase[] {
  const chance = new Chance(seed * 104_729 + 2)
  const customers = Math.ceil(checkouts / 5)
  return Array.from({ length: checkouts }, (_, i): Purchase => {
    const customer = i % customers
    return {
      email: `customer-${seed}-${customer}@example.com`,
      key: `purchase-${i}`,
      atMs: chance.between(0, lastsMs),
      lines: linesOf(chance),
      impatient: chance.next() < 0.08,
      doubleClick: chance.next() < 0.08,
      payment: chance.oneOf(payments),
      envelope: chance.next() < 0.3,
      paysAfterMs: chance.between(0, 2000),
    }
  }).sort((a, b) => a.atMs - b.atMs)
}

function linesOf(chance: Chance): CartLine[] {
  const ids = new Set([chance.next() < 0.4 ? chance.oneOf(HOT as [number, number]) : chance.between(1, products.length)])
  while (chance.next() < 0.35 && ids.size < 4) ids.add(chance.between(1, products.length))
  return [...ids].map((product_id) => ({ product_id, qty: chance.oneOf([1, 1, 2, 3]) }))
}
