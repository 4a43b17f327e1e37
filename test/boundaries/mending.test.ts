/** A process that dies at each boundary of mending (docs/rescue.md): Catalog's books agree with ours in the end, and nothing is in doubt. */
import test, { type ExecutionContext } from 'ava'
import { settled } from '../support/books.ts'
import { customersOnly, type Shop } from '../support/shop.ts'
import type { Place } from '../support/wire/index.ts'
import {
  addsJob,
  asks,
  asksOnce,
  type Boundary,
  evening,
  finishesJob,
  letsLeaseGo,
  places,
  posts,
  putsJobOff,
  QTY,
  repeats,
  scene,
  STOCK,
  takesJob,
  takesLease,
} from './dying.ts'

const commit = posts('/catalog/v1/inventory/commit')
const restock = posts('/catalog/v1/inventory/restock')
const reserve = posts('/catalog/v1/inventory/reserve')
const end = asks('postgres', 'end')
const sending = asks('postgres', 'sending')
const answered = asks('postgres', 'answered')

const freedHold: Boundary[] = [
  { name: 'the end of the checkout', path: [end], alsoBefore: true },
  { name: 'the mender’s job', path: [end, addsJob('stock')], alsoBefore: true },
  { name: 'the taking of the job', path: [addsJob('stock'), takesJob('stock')] },
  { name: 'the lease', path: [end, takesLease] },
  { name: 'the epoch', path: [asks('postgres', 'raise-epoch')] },
  { name: 'the doubt of the commit', path: [sending] },
  { name: 'the commit at Catalog', path: [commit] },
  { name: 'the answer to the commit', path: [answered] },
  { name: 'the doubt of the restock', path: [commit, sending] },
  { name: 'the restock at Catalog', path: [restock] },
  { name: 'the answer to the restock', path: [restock, answered] },
  { name: 'the agreement', path: [asks('postgres', 'agreed')] },
  { name: 'the release of the lease', path: [asks('postgres', 'agreed'), letsLeaseGo] },
  { name: 'the end of the job', path: [asks('postgres', 'agreed'), finishesJob('stock')] },
]

for (const { title, place } of places(freedHold)) {
  test(`the hold of a checkout that Shipping refused is given back, though the process dies ${title}`, async (t) => {
    await scene(t, customersOnly, {}, async (at) => {
      const { shop, product } = at
      const customer = await shop.customer().wants({ product_id: product, qty: QTY })
      shop.shipping.fault({ call: 'create', fault: 'refuse', status: 422 })
      await at.diesAt(place, () => asksOnce(customer, at.first.url))
      const url = await at.another()
      await settled(shop)
      shop.shipping.clearFaults()
      await evening(t, at, 1)
      t.is((await repeats(customer, url)).status, 200)
      await evening(t, at, 2)
      t.deepEqual(shop.catalog.books(product), { in_stock: STOCK, reserved: 2 * QTY })
    })
  })
}

const unansweredCall: Boundary[] = [
  { name: 'the doubt', path: [reserve, asks('postgres', 'doubt')], alsoBefore: true },
  { name: 'the epoch', path: [asks('postgres', 'doubt'), asks('postgres', 'raise-epoch')] },
  { name: 'what was understood', path: [asks('postgres', 'settle')] },
  { name: 'the mending call', path: [commit] },
  { name: 'its answer', path: [answered] },
  { name: 'the agreement', path: [asks('postgres', 'agreed')] },
]

/** It may act yet: the mender comes again until it is ten minutes old. */
const callThatMayAct: Boundary[] = [
  { name: 'the pause of the mender’s job', path: [asks('postgres', 'agreed'), putsJobOff('stock')], alsoBefore: true },
]

for (const [boundaries, fault] of [
  [unansweredCall, 'drop'],
  [callThatMayAct, 'reset'],
] as const) {
  for (const { title, place } of places(boundaries)) {
    test(`a reserve without an answer is mended, though the process dies ${title}`, isMended, place, (shop: Shop) => {
      shop.catalog.fault({ call: 'reserve', fault, times: 1 })
    })
  }
}

async function isMended(t: ExecutionContext, place: Place, prepare: (shop: Shop) => void): Promise<void> {
  await scene(t, customersOnly, {}, async (at) => {
    const { shop, product } = at
    const customer = await shop.customer().wants({ product_id: product, qty: QTY })
    prepare(shop)
    await at.diesAt(place, () => asksOnce(customer, at.first.url))
    await repeats(customer, await at.another())
    await evening(t, at, 2)
    t.deepEqual(shop.catalog.books(product), { in_stock: STOCK, reserved: 2 * QTY })
  })
}

const newProduct: Boundary[] = [
  { name: 'the first row of the product', path: [asks('postgres', 'meet-product')], alsoBefore: true },
  { name: 'its first agreement', path: [asks('postgres', 'meet-product'), asks('postgres', 'agreed')] },
]

for (const { title, place } of places(newProduct)) {
  test(`a product that is met for the first time is known with what leaked before, though the process dies ${title}`, async (t) => {
    await scene(t, customersOnly, {}, async (at) => {
      const { shop } = at
      const product = shop.catalog.product({ stock: STOCK, reserved: 3 })
      const customer = await shop.customer().wants({ product_id: product, qty: QTY })
      await at.diesAt(place, () => asksOnce(customer, at.first.url))
      await repeats(customer, await at.another())
      await settled(shop)
      t.deepEqual(shop.catalog.books(product), { in_stock: STOCK, reserved: 3 + QTY })
      const row = await shop.query('select drift::int from order_service.products where product_id = $1', [product])
      t.deepEqual(row, [{ drift: 3 }])
    })
  })
}
