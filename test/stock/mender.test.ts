import test from 'ava'
import type { DoubtfulCall, StockLedger } from '../../src/db/stock-ledger.ts'
import { createMender, pauseAfter } from '../../src/stock/mender.ts'
import { query } from '../support/database.ts'
import { type Counter, leasesAtOnce, openCounter } from './counter.ts'

let counter: Counter
test.before(async () => {
  counter = await openCounter()
})
test.after.always(() => counter?.close())

/** @param expired what the leases tell of those before them */
function hire({ expired = [] as DoubtfulCall[], ledger = {} as Partial<StockLedger> } = {}) {
  const { leases, told } = leasesAtOnce(expired)
  return { look: createMender({ ...counter, ledger: { ...counter.ledger, ...ledger }, leases, wakeMender() {} }), told }
}

/** As if ten minutes had passed since the doubts of a product were written down. */
const age = (productId: number) =>
  query(counter.dsn, `update order_service.doubts set since = since - interval '10 minutes' where product_id = $1`, [productId])

test.serial('what a cancelled checkout held is given back in one look, and then there is peace', async (t) => {
  const id = await counter.product()
  counter.shelf.get(id)!.reserved = 2
  await query(counter.dsn, 'update order_service.products set extra_hold = 2 where product_id = $1', [id])
  const mender = hire()
  t.is(await mender.look(id, 0), undefined)
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
  t.is(mender.told.letGo, 1)
  t.true(mender.told.deadline > counter.clock.wallTime(), 'it waits for the lease, with an end')
})

test.serial('a product that somebody began to look at and left is in doubt a minute later, until its books agree', async (t) => {
  const id = await counter.product()
  const began = (ago: string) =>
    query(counter.dsn, 'update order_service.products set mending_since = now() - $2::interval where product_id = $1', [id, ago])
  const isInDoubt = async () => (await counter.ledger.inDoubt()).includes(id)
  await began('30 seconds')
  t.false(await isInDoubt(), 'who mends it may be at it')
  t.false(await counter.ledger.isAtPeace(id))
  await began('61 seconds')
  t.true(await isInDoubt())
  t.is(await hire().look(id, 0), undefined)
  t.false(await isInDoubt())
})

test.serial('it comes again, more and more seldom, until a doubt is ten minutes old', async (t) => {
  const id = await counter.product()
  await counter.ledger.doubt([{ productId: id, qty: 2, verb: 'reserve', orderId: 1, attempt: 1 }])
  const { look } = hire()
  const pauses: (number | undefined)[] = []
  for (let looks = 0; looks < 8; looks += 1) pauses.push(await look(id, looks))
  t.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
  t.is(pauseAfter(1_000_000), 60_000)
  await age(id)
  t.is(await look(id, 8), undefined)
  t.deepEqual(await counter.doubts(id), [])
})

test.serial('a call that acts late is found as long as its doubt is kept', async (t) => {
  const id = await counter.product()
  await counter.ledger.doubt([{ productId: id, qty: 2, verb: 'reserve', orderId: 2, attempt: 1 }])
  const { look } = hire()
  t.is(await look(id, 0), 1000)
  counter.shelf.get(id)!.reserved += 2
  t.is(await look(id, 1), undefined)
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
  t.deepEqual(counter.asked(id), ['commit 2', 'restock 2'])
})

test.serial('an old doubt that nobody has been able to look at is kept', async (t) => {
  const id = await counter.product()
  await counter.ledger.doubt([{ productId: id, qty: 2, verb: 'reserve', orderId: 3, attempt: 1 }])
  await age(id)
  counter.always(id, 'unreachable')
  const mender = hire()
  await t.throwsAsync(mender.look(id, 0), { name: 'NoAnswer' })
  t.is(mender.told.letGo, 1)
  t.deepEqual(await counter.doubts(id), [{ call: 'reserve 2', looked: false }])
  counter.always(id, undefined)
  t.is(await mender.look(id, 1), undefined)
})

test.serial('the calls of leases that ran out are written down before it looks; where that fails they are not forgotten', async (t) => {
  const id = await counter.product()
  const expired: DoubtfulCall[] = [{ productId: id, qty: 2, verb: 'reserve', orderId: 4, attempt: 1 }]
  const away = async () => {
    throw new Error('PostgreSQL is away')
  }
  const unlucky = hire({ expired, ledger: { doubt: away } })
  await t.throwsAsync(unlucky.look(id, 0), { message: 'PostgreSQL is away' })
  t.like(unlucky.told, { onRecord: false, letGo: 1 })

  counter.shelf.get(id)!.reserved = 2
  const lucky = hire({ expired })
  t.is(await lucky.look(id, 0), undefined)
  t.like(lucky.told, { onRecord: true, letGo: 1 })
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
})

test.serial('against a Catalog that never answers it gives the product back after 15 s, and goes on with the next look', async (t) => {
  const id = await counter.product()
  counter.shelf.get(id)!.reserved = 2
  await query(counter.dsn, 'update order_service.products set extra_hold = 2 where product_id = $1', [id])
  counter.always(id, 'lost')
  const mender = hire()
  const began = counter.clock.now()
  t.is(await mender.look(id, 0), 1000)
  t.true(counter.clock.now() - began <= 15_000)
  t.is(mender.told.letGo, 1)
  t.true(counter.asked(id).length >= 2, 'it has tried')

  counter.always(id, undefined)
  counter.clock.pass(60_000)
  t.is(await mender.look(id, 1), 2000, 'its own calls are doubts still')
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
  await age(id)
  t.is(await mender.look(id, 2), undefined)
})
