import test from 'ava'
import type { DoubtfulCall, StockLedger } from '../../src/db/stock-ledger.ts'
import { callStock, type StockCall, StockFault } from '../../src/stock/stock-call.ts'
import { type Counter, leasesAtOnce, openCounter } from './counter.ts'

let counter: Counter
test.before(async () => {
  counter = await openCounter()
})
test.after.always(() => counter?.close())

let orders = 0
/** Reserves two pieces. @param expired what the lease tells of those before it */
function reserve(productId: number, budgetMs: number, { expired = [] as DoubtfulCall[], ledger = {} as Partial<StockLedger> } = {}) {
  orders += 1
  const { leases, told } = leasesAtOnce(expired)
  const woken: number[] = []
  const parts = {
    ...counter,
    ledger: { ...counter.ledger, ...ledger },
    leases,
    wakeMender: (ids: readonly number[]) => void woken.push(...ids),
  }
  const call: StockCall = {
    verb: 'reserve',
    orderId: orders,
    attempt: 1,
    products: [{ productId, qty: 2, epoch: 1 }],
    idempotencyKey: `checkout:${orders}:reserve`,
    deadline: counter.clock.wallTime() + budgetMs,
    wanted: async () => true,
  }
  return { result: callStock(parts, call), told, woken }
}

const earlier = (productId: number): DoubtfulCall => ({ productId, qty: 3, verb: 'reserve', orderId: 1000 + productId, attempt: 1 })

test.serial('with PostgreSQL away the call of a lease that ran out is not forgotten, and nothing is sent', async (t) => {
  const id = await counter.product()
  const away = async () => {
    throw new Error('PostgreSQL is away')
  }
  const { result, told } = reserve(id, 8000, { expired: [earlier(id)], ledger: { doubt: away } })
  await t.throwsAsync(result, { message: 'PostgreSQL is away' })
  t.like(told, { onRecord: false, letGo: 1 })
  t.deepEqual(counter.journal, [])
})

test.serial('the call of a lease that ran out is written down and mended before one asks oneself', async (t) => {
  const id = await counter.product()
  counter.shelf.get(id)!.reserved = 3
  const { result, told } = reserve(id, 8000, { expired: [earlier(id)] })
  t.like(await result, { answer: 'done' })
  t.true(told.onRecord)
  t.deepEqual(counter.asked(id), ['commit 3', 'restock 3', 'reserve 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 2 })
})

test.serial('a call without an answer is mended in the budget, and its product is free again', async (t) => {
  const id = await counter.product()
  counter.script(id, 'silent')
  const { result, told } = reserve(id, 8000)
  await t.throwsAsync(result, { instanceOf: StockFault })
  t.like(told, { ranOut: false, letGo: 1 })
  t.deepEqual(counter.asked(id), ['reserve 2', 'commit 2', 'restock 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
})

test.serial('mending ends with the budget: the rest is the mender’s, and the lease covers what may still act', async (t) => {
  const id = await counter.product()
  counter.always(id, 'lost')
  const began = counter.clock.now()
  const { result, told, woken } = reserve(id, 8000)
  const fault = await t.throwsAsync(result, { instanceOf: StockFault })
  t.true((fault as StockFault).settled, 'what it may have left stands in PostgreSQL')
  t.true(counter.clock.now() - began < 8000)
  t.true(woken.includes(id))
  t.false(told.ranOut, 'nothing was held, so nothing was asked after the reserve')

  const short = reserve(id, 3000)
  await t.throwsAsync(short.result, { instanceOf: StockFault })
  t.true(short.told.ranOut, 'its call may act for two seconds longer')
  t.true((await counter.ledger.inDoubt()).includes(id))
})
