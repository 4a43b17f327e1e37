/** A process that dies at each boundary of a reconciliation (docs/rescue.md): Catalog says what our rows say in the end, and nothing is open. */
import test, { type ExecutionContext } from 'ava'
import { settled } from '../support/shop-totals.ts'
import { customersOnly, type Shop } from '../support/shop.ts'
import type { Place } from '../support/wire/index.ts'
import {
  addsJob,
  allInOrder,
  asks,
  asksOnce,
  type Boundary,
  commits,
  finishesJob,
  places,
  posts,
  putsJobOff,
  QTY,
  reads,
  repeats,
  scene,
  STOCK,
  takesJob,
} from './dying.ts'

const reserve = posts('/catalog/v1/inventory/reserve')
const release = posts('/catalog/v1/inventory/release')
const end = asks('postgres', 'end')
const lease = asks('postgres', 'acquire-reserves')
const next = asks('postgres', 'continue-call')
const answered = asks('postgres', 'record-answered')

/** Today's Catalog has no release: a reserve of less than nothing takes its place. */
const givenBackHold: Boundary[] = [
  { name: 'the end of the checkout', path: [end], alsoBefore: true },
  { name: 'the reconciler’s job', path: [end, addsJob('stock')], alsoBefore: true },
  { name: 'the taking of the job', path: [addsJob('stock'), takesJob('stock')] },
  { name: 'the lease', path: [end, lease] },
  { name: 'the changes that were kept for the product', path: [end, lease, asks('postgres', 'apply-changes')] },
  { name: 'the read of Catalog', path: [end, lease, reads] },
  { name: 'what was found', path: [end, asks('postgres', 'record-findings'), commits] },
  { name: 'the correction that is written down', path: [end, next] },
  { name: 'the release that Catalog does not have', path: [end, release] },
  { name: 'the correction at Catalog', path: [end, release, reserve] },
  { name: 'its answer', path: [end, answered] },
  { name: 'its line in the history', path: [end, answered, asks('postgres', 'record-correction')] },
  { name: 'the lease of the next check', path: [end, answered, lease] },
  { name: 'the release of the lease', path: [end, answered, asks('postgres', 'release-calls')] },
  { name: 'the end of the job', path: [end, answered, finishesJob('stock')], alsoBefore: true },
]

for (const { title, place } of places(givenBackHold)) {
  test(`the hold of a checkout that Shipping refused is given back, though the process dies ${title}`, async (t) => {
    await scene(t, customersOnly, {}, async (at) => {
      const { shop, product } = at
      const customer = await shop.customer().wants({ product_id: product, qty: QTY })
      shop.shipping.fault({ call: 'create', fault: 'refuse', status: 422 })
      await at.diesAt(place, () => asksOnce(customer, at.first.url))
      const url = await at.another()
      await settled(shop)
      shop.shipping.clearFaults()
      await allInOrder(t, at, 1)
      t.is((await repeats(customer, url)).status, 200)
      await allInOrder(t, at, 2)
      t.deepEqual(shop.catalog.inventory(product), { in_stock: STOCK, reserved: 2 * QTY })
    })
  })
}

const unanswered = [reserve, next]

/** Catalog carries it out, and says nothing. */
const happens: Boundary[] = [
  { name: 'the reserve without an answer', path: unanswered, alsoBefore: true },
  { name: 'the read of Catalog', path: [...unanswered, reads] },
  { name: 'what was found, and the hold', path: [...unanswered, asks('postgres', 'record-holds'), commits], alsoBefore: true },
  { name: 'the release of the lease', path: [...unanswered, asks('postgres', 'release-calls')], alsoBefore: true },
]

/** It never comes to Catalog, but may yet: the reconciler comes again until it is ten minutes old. */
const doesNotHappen: Boundary[] = [
  { name: 'what was found', path: [...unanswered, asks('postgres', 'record-findings'), commits] },
  { name: 'the release of the lease', path: [...unanswered, asks('postgres', 'release-calls')] },
  { name: 'the pause of the reconciler’s job', path: [...unanswered, putsJobOff('stock')], alsoBefore: true },
]

for (const [boundaries, fault] of [
  [happens, 'drop'],
  [doesNotHappen, 'reset'],
] as const) {
  for (const { title, place } of places(boundaries)) {
    test(`a reserve without an answer (${fault}) is cleared up, though the process dies ${title}`, isCleared, place, (shop: Shop) => {
      shop.catalog.fault({ call: 'reserve', fault, times: 1 })
    })
  }
}

async function isCleared(t: ExecutionContext, place: Place, prepare: (shop: Shop) => void): Promise<void> {
  await scene(t, customersOnly, {}, async (at) => {
    const { shop, product } = at
    const customer = await shop.customer().wants({ product_id: product, qty: QTY })
    prepare(shop)
    await at.diesAt(place, () => asksOnce(customer, at.first.url))
    await repeats(customer, await at.another())
    await allInOrder(t, at, 2)
    t.deepEqual(shop.catalog.inventory(product), { in_stock: STOCK, reserved: 2 * QTY })
  })
}

const newProduct: Boundary[] = [
  { name: 'the row of a new product', path: [asks('postgres', 'add-products')], alsoBefore: true },
  { name: 'its lease', path: [asks('postgres', 'add-products'), lease] },
  { name: 'its first read', path: [asks('postgres', 'record-first-read'), commits], alsoBefore: true },
  { name: 'the call after the first read', path: [asks('postgres', 'record-first-read'), commits, lease] },
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
      t.deepEqual(shop.catalog.inventory(product), { in_stock: STOCK, reserved: 3 + QTY })
      const row = await shop.query('select foreign_holds::int, held::int from order_service.products where product_id = $1', [product])
      t.deepEqual(row, [{ foreign_holds: 3, held: QTY }])
    })
  })
}
