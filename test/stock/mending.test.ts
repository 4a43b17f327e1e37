import test from 'ava'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { mend, type MendingTerms } from '../../src/stock/mending.ts'
import { query } from '../support/database.ts'
import { opened } from '../support/intent.ts'
import { CALL_TIMEOUT_MS, type Counter, FOREVER, LATE_MS, openCounter } from './counter.ts'

let counter: Counter
test.before(async () => {
  counter = await openCounter()
})
test.after.always(() => counter?.close())

/** A lease that lasts for `keeps` calls of `keep`. */
function leaseFor(keeps = Infinity) {
  const lease = {
    keeps,
    ranOut: false,
    keep: async () => lease.keeps-- > 0,
    runOut() {
      lease.ranOut = true
    },
  }
  return lease
}

const mended = (productId: number, terms: Partial<MendingTerms> = {}, lease = leaseFor()) =>
  mend(counter, productId, lease, { notBefore: counter.clock.now(), deadline: FOREVER, ...terms })

/** As a statement of ours, or of our mending before, left it. */
const extras = (productId: number, { hold = 0, stock = 0 }) =>
  query(counter.dsn, 'update order_service.products set extra_hold = $2, extra_stock = $3 where product_id = $1', [productId, hold, stock])

const inNeed = async (productId: number) => (await counter.ledger.inDoubt()).includes(productId)

test.serial('a product whose books agree is looked at, and nothing is asked of Catalog', async (t) => {
  const id = await counter.product({ drift: 3 })
  t.like(await mended(id), { agreed: true, epoch: 2 })
  t.deepEqual(counter.asked(id), [])
})

test.serial('a hold of ours that Catalog does not have is reserved', async (t) => {
  const id = await counter.product()
  await counter.order(id, 2)
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['reserve 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 2 })
  t.like(await counter.row(id), { drift: 0, predicted: 10, hold: 0, stock: 0 })
})

test.serial('a hold too many is committed, and the pieces are restocked', async (t) => {
  const id = await counter.product({ drift: 1 })
  counter.shelf.get(id)!.reserved = 3
  await extras(id, { hold: 2 })
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['commit 2', 'restock 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 1 })
})

/** Runs with a Catalog that has a release, or of which nobody knows yet that it has none. */
async function withRelease<T>(isThere: boolean, act: () => Promise<T>): Promise<T> {
  Object.assign(counter.release, { isThere, isKnownMissing: false })
  return act().finally(() => Object.assign(counter.release, { isThere: false, isKnownMissing: true }))
}

test.serial('a hold too many is released where Catalog has a release', async (t) => {
  const id = await counter.product({ drift: 1 })
  counter.shelf.get(id)!.reserved = 3
  await extras(id, { hold: 2 })
  t.true((await withRelease(true, () => mended(id))).agreed)
  t.deepEqual(counter.asked(id), ['release 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 1 })
  t.like(await counter.row(id), { hold: 0, stock: 0 })
})

test.serial('a Catalog that turns out to have no release is mended without one, in the same look', async (t) => {
  const id = await counter.product()
  counter.shelf.get(id)!.reserved = 2
  await extras(id, { hold: 2 })
  t.true((await withRelease(false, () => mended(id))).agreed)
  t.deepEqual(counter.asked(id), ['release 2', 'commit 2', 'restock 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
  t.deepEqual(await counter.doubts(id), [])
})

test.serial(
  'a release without an answer is a doubt: it happened, or it is asked for again; one that comes late is taken back',
  async (t) => {
    for (const [behaviour, calls] of [
      ['silent', ['release 2']],
      ['lost', ['release 2', 'release 2']],
    ] as const) {
      const id = await counter.product({ drift: 5 })
      counter.shelf.get(id)!.reserved = 7
      await extras(id, { hold: 2 })
      counter.script(id, behaviour)
      t.true((await withRelease(true, () => mended(id))).agreed)
      t.deepEqual(counter.asked(id), calls)
      t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 5 })
    }
    const id = await counter.product({ drift: 5 })
    counter.shelf.get(id)!.reserved = 7
    await extras(id, { hold: 2 })
    counter.script(id, 'late')
    await withRelease(true, async () => {
      t.true((await mended(id)).agreed)
      counter.clock.pass(LATE_MS)
      t.is(counter.shelf.get(id)!.reserved, 3)
      t.true((await mended(id)).agreed)
    })
    t.deepEqual(counter.asked(id), ['release 2', 'release 2', 'reserve 2'])
    t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 5 })
  },
)

test.serial('what was mended stands on record, with why, and for which order the call was that had happened', async (t) => {
  const id = await counter.product()
  await counter.ledger.doubt([{ productId: id, qty: 2, verb: 'reserve', orderId: 61, attempt: 1 }])
  Object.assign(counter.shelf.get(id)!, { inStock: 15, reserved: 2 })
  t.true((await mended(id)).agreed)
  const rows = await query(
    counter.dsn,
    'select verb, qty::int, answer, why, order_id from order_service.mendings where product_id = $1 order by id',
    [id],
  )
  t.deepEqual(rows, [
    { verb: 'reserve', qty: 2, answer: 'happened', why: null, order_id: 61 },
    { verb: 'follow', qty: 5, answer: 'seen', why: null, order_id: null },
    { verb: 'commit', qty: 2, answer: 'done', why: 'hold-of-nobody', order_id: null },
    { verb: 'restock', qty: 2, answer: 'done', why: 'stock-short', order_id: null },
  ])
  t.deepEqual(await counter.undecided(id), [])
})

test.serial(
  'pieces that came and may be our own restock, or somebody else’s, are listed as undecided; so are those sold before they could be taken back',
  async (t) => {
    const id = await counter.product({ inStock: 8 })
    await extras(id, { stock: 0 })
    await query(counter.dsn, `insert into order_service.doubts (product_id, verb, qty) values ($1, 'restock', 2)`, [id])
    counter.shelf.get(id)!.inStock = 10
    counter.script(id, 'refuses')
    t.like(await mended(id), { agreed: false })
    const found = await counter.undecided(id)
    t.like(found, { length: 2 })
    t.like(found[0], { productId: id, why: 'sold', tooMany: 2, tooFew: 0 })
    t.like(found[1], { productId: id, why: 'two-stories', tooMany: 0, tooFew: 2 })
    t.like(found[1]!.taken, { length: 1, 0: { verb: 'restock', qty: 2, orderId: null } })
  },
)

test.serial('drift that an operator hands to the mender is given back', async (t) => {
  const id = await counter.product({ drift: 3 })
  await query(counter.dsn, 'update order_service.products set extra_hold = extra_hold + drift, drift = 0 where product_id = $1', [id])
  t.true(await inNeed(id))
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
  t.like(await counter.row(id), { drift: 0, hold: 0, stock: 0, predicted: 10 })
})

test.serial('since when a product is being mended is told until its books agree', async (t) => {
  const since = async (id: number) =>
    (
      await query<{ is: boolean }>(
        counter.dsn,
        'select mending_since is not null as is from order_service.products where product_id = $1',
        [id],
      )
    )[0]!.is
  const id = await counter.product({ inStock: 1 })
  await counter.order(id, 2)
  t.like(await mended(id), { agreed: false })
  t.true(await since(id))
  counter.shelf.get(id)!.inStock = 5
  t.true((await mended(id)).agreed)
  t.false(await since(id))
})

test.serial('a restock too many is reserved and committed', async (t) => {
  const id = await counter.product()
  counter.shelf.get(id)!.inStock = 13
  await extras(id, { stock: 3 })
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['reserve 3', 'commit 3'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
})

test.serial('pieces that are missing are restocked before anything else is done', async (t) => {
  const id = await counter.product()
  Object.assign(counter.shelf.get(id)!, { inStock: 8, reserved: 2 })
  await extras(id, { hold: 2, stock: -2 })
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['restock 2', 'commit 2', 'restock 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 0 })
})

test.serial('a hold that Catalog refuses means sold twice: counted for operators until there is stock again', async (t) => {
  const id = await counter.product({ inStock: 1 })
  await counter.order(id, 2)
  t.like(await mended(id), { agreed: false })
  t.like(await counter.row(id), { hold: -2, unsellable: true })
  t.is((await counter.ledger.count()).unsellable, 1)
  t.true(await inNeed(id))

  counter.shelf.get(id)!.inStock = 5
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.shelf.get(id), { inStock: 5, reserved: 2 })
  t.like(await counter.row(id), { predicted: 5, hold: 0, unsellable: false })
  t.is((await counter.ledger.count()).unsellable, 0)
})

test.serial('pieces restocked too many that Catalog does not give back were sold: the prediction follows', async (t) => {
  const id = await counter.product({ inStock: 4, drift: 4 })
  counter.shelf.get(id)!.inStock = 7
  await extras(id, { stock: 3 })
  counter.script(id, 'refuses')
  t.like(await mended(id), { agreed: false })
  t.like(await counter.row(id), { predicted: 7, stock: 0, unsellable: false })
  t.deepEqual(
    await query(counter.dsn, 'select verb, qty::int, answer from order_service.mendings where product_id = $1 order by id', [id]),
    [
      { verb: 'reserve', qty: 3, answer: 'refused' },
      { verb: 'follow', qty: 3, answer: 'seen' },
    ],
  )
  t.like(await counter.undecided(id), { length: 1, 0: { why: 'sold', tooMany: 3, tooFew: 0 } })
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['reserve 3'])
})

test.serial('of pieces restocked too many, those that are not sold yet are taken back', async (t) => {
  const id = await counter.product({ inStock: 4, drift: 2 })
  counter.shelf.set(id, { inStock: 9, reserved: 6 })
  await query(counter.dsn, 'update order_service.products set drift = 6 where product_id = $1', [id])
  await extras(id, { stock: 5 })
  t.like(await mended(id), { agreed: false })
  t.deepEqual(counter.asked(id), ['reserve 3', 'commit 3', 'reserve 1'])
  t.deepEqual(counter.shelf.get(id), { inStock: 6, reserved: 6 })
  t.like(await counter.row(id), { predicted: 6, stock: 0, hold: 0 })
  t.like(await counter.undecided(id), { length: 1, 0: { why: 'sold', tooMany: 2, tooFew: 0 } })
})

test.serial('pieces restocked too many are taken back by a commit also where Catalog has a release', async (t) => {
  const id = await counter.product({ inStock: 4 })
  counter.shelf.get(id)!.inStock = 6
  await extras(id, { stock: 2 })
  t.true((await withRelease(true, () => mended(id))).agreed)
  t.deepEqual(counter.asked(id), ['reserve 2', 'commit 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 4, reserved: 0 })
})

test.serial('a refusal that says nothing of the stock settles nothing: the extras stay until Catalog takes the key again', async (t) => {
  const id = await counter.product({ inStock: 4 })
  counter.shelf.get(id)!.inStock = 6
  await extras(id, { stock: 2 })
  counter.script(id, 'unauthorized')
  t.like(await mended(id), { agreed: false })
  t.like(await counter.row(id), { predicted: 4, stock: 2, unsellable: false })
  t.deepEqual(await counter.undecided(id), [])
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.shelf.get(id), { inStock: 4, reserved: 0 })
})

test.serial('a mending call without an answer that happened is known by what Catalog says after a call time-out', async (t) => {
  const id = await counter.product({ drift: 5 })
  counter.shelf.get(id)!.reserved = 7
  await extras(id, { hold: 2 })
  counter.script(id, 'silent')
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['commit 2', 'restock 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 5 })
  t.deepEqual(await counter.doubts(id), [])
  const [commit, look] = counter.journal.filter(({ productId, call }) => productId === id && call !== 'restock 2').slice(1)
  t.true(look!.at - commit!.at >= CALL_TIMEOUT_MS, 'until then it may still act')
})

test.serial('a mending call without an answer that did not happen is sent again, and stays a doubt that was looked at', async (t) => {
  const id = await counter.product({ drift: 5 })
  counter.shelf.get(id)!.reserved = 7
  await extras(id, { hold: 2 })
  counter.script(id, 'lost')
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['commit 2', 'commit 2', 'restock 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 5 })
  t.deepEqual(await counter.doubts(id), [{ call: 'commit 2', looked: true }])
})

test.serial('a mending call that acts a minute later is found by the next look, and taken back', async (t) => {
  const id = await counter.product({ drift: 5 })
  await counter.order(id, 2)
  counter.script(id, 'late')
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['reserve 2', 'reserve 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 7 })
  t.true(await inNeed(id), 'the mender comes again')

  counter.clock.pass(LATE_MS)
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 9 })
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id).slice(2), ['commit 2', 'restock 2'])
  t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 7 })
  t.deepEqual(await counter.doubts(id), [])
})

test.serial('what somebody else restocks meanwhile is followed, beside a doubt too', async (t) => {
  const id = await counter.product()
  await counter.order(id, 2)
  counter.script(id, 'silent')
  const { sleep } = counter.clock
  counter.clock.sleep = async (ms) => {
    counter.clock.sleep = sleep
    counter.shelf.get(id)!.inStock += 5
    await sleep(ms)
  }
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['reserve 2'])
  t.like(await counter.row(id), { predicted: 15, hold: 0, stock: 0 })
  t.deepEqual(counter.shelf.get(id), { inStock: 15, reserved: 2 })
  const notes = await query(counter.dsn, `select verb, qty::int from order_service.mendings where product_id = $1 and verb = 'follow'`, [
    id,
  ])
  t.deepEqual(notes, [{ verb: 'follow', qty: 5 }])
})

test.serial(
  'a product that Catalog does not know has nothing; one that it forgot, with an order of ours, is for the operators',
  async (t) => {
    t.true((await mended(901)).agreed)
    t.like(await counter.row(901), { drift: 0, predicted: 0, hold: 0 })

    const id = await counter.product({ drift: 2 })
    counter.shelf.delete(id)
    await counter.order(id, 1)
    t.like(await mended(id), { agreed: false })
    t.deepEqual(counter.asked(id), ['reserve 3'])
    t.like(await counter.row(id), { predicted: 0, unsellable: true })
  },
)

test.serial('at first sight holds of nobody are drift and stay, and holds of ours that are missing are reserved', async (t) => {
  counter.shelf.set(902, { inStock: 10, reserved: 5 })
  await counter.order(902, 2)
  t.true((await mended(902)).agreed)
  t.like(await counter.row(902), { drift: 3, predicted: 10, hold: 0 })
  t.deepEqual(counter.asked(902), [])

  counter.shelf.set(903, { inStock: 10, reserved: 1 })
  await counter.order(903, 4)
  t.true((await mended(903)).agreed)
  t.like(await counter.row(903), { drift: 0, predicted: 10, hold: 0 })
  t.deepEqual(counter.asked(903), ['reserve 3'])
  const seen = await query(counter.dsn, `select from order_service.mendings where product_id in (902, 903) and answer = 'seen'`)
  t.is(seen.length, 0, 'what is owed is known, and nothing to look closer at')
})

test.serial('a lease that is lost in the middle ends it: nothing more is sent', async (t) => {
  const id = await counter.product({ drift: 1 })
  counter.shelf.get(id)!.reserved = 3
  await extras(id, { hold: 2 })
  // One keep is before the epoch; one round is a keep before the look and one before the call.
  t.like(await mended(id, {}, leaseFor(3)), { agreed: false, reason: 'the lease was lost' })
  t.deepEqual(counter.asked(id), ['commit 2'])
  t.like(await counter.row(id), { hold: 0, stock: -2 })

  await t.throwsAsync(mended(id, {}, leaseFor(2)), { name: 'NoAnswer' })
  t.deepEqual(counter.asked(id), ['commit 2'])
  t.deepEqual(await counter.doubts(id), [], 'what was not sent is no doubt')
})

test.serial('one that begins when its lease is lost refuses nobody’s record', async (t) => {
  const id = await counter.product()
  const { epoch } = await counter.row(id)
  t.like(await mended(id, {}, leaseFor(0)), { agreed: false, reason: 'the lease was lost' })
  t.is((await counter.row(id)).epoch, epoch)
})

test.serial('nobody looks before a call without an answer can have acted', async (t) => {
  const id = await counter.product()
  const notBefore = counter.clock.now() + 3500
  t.true((await mended(id, { notBefore })).agreed)
  t.true(counter.journal.findLast(({ productId }) => productId === id)!.at >= notBefore)
})

test.serial('mending raises the epoch: a reserve of before can no longer go on record', async (t) => {
  const id = await counter.product()
  const { orderId, products } = await opened(counter.pool, { productId: id, qty: 2 })
  const epochs = products.map(({ epoch }) => ({ productId: id, epoch: epoch! }))
  t.true((await mended(id)).agreed)
  t.false(await createCheckouts(counter.pool).recordReserved({ orderId, attempt: 1 }, epochs))
})

for (const behaviour of ['error', 'lost'] as const) {
  test.serial(
    `a Catalog that ends every call without an answer (${behaviour}) is asked four times, and then the mender has it`,
    async (t) => {
      const id = await counter.product({ drift: 5 })
      counter.shelf.get(id)!.reserved = 7
      await extras(id, { hold: 2 })
      counter.always(id, behaviour)
      t.like(await mended(id), { agreed: false })
      t.deepEqual(counter.asked(id), ['commit 2', 'commit 2', 'commit 2', 'commit 2'])
      t.is((await counter.doubts(id)).length, 4)
      t.true(await inNeed(id))

      counter.always(id, undefined)
      t.true((await mended(id)).agreed)
      t.deepEqual(counter.shelf.get(id), { inStock: 10, reserved: 5 })
    },
  )
}

test.serial('nothing is begun after the deadline, and a call that may still act keeps its lease until it runs out', async (t) => {
  const id = await counter.product({ drift: 5 })
  counter.shelf.get(id)!.reserved = 7
  await extras(id, { hold: 2 })
  counter.always(id, 'lost')
  const began = counter.clock.now()
  const lease = leaseFor()
  t.like(await mended(id, { deadline: began + 4000 }, lease), { agreed: false, reason: 'the time for it is over' })
  t.deepEqual(counter.asked(id), ['commit 2'])
  t.true(counter.clock.now() < began + 4000, 'it does not wait for what is beyond the deadline')
  t.true(lease.ranOut)

  const later = leaseFor()
  counter.clock.pass(CALL_TIMEOUT_MS)
  t.like(await mended(id, { deadline: counter.clock.now() }, later), { agreed: false })
  t.deepEqual(counter.asked(id), ['commit 2'])
  t.false(later.ranOut, 'nothing of ours is under way: others may go on')
  counter.always(id, undefined)
  t.true((await mended(id)).agreed)
})

test.serial('a Catalog that cannot be looked at, or not be reached, ends it at once', async (t) => {
  const id = await counter.product()
  await counter.order(id, 2)
  counter.always(id, 'unreachable')
  await t.throwsAsync(mended(id), { name: 'NoAnswer' })
  counter.always(id, undefined)
  counter.script(id, 'unreachable')
  await t.throwsAsync(mended(id), { name: 'NoAnswer' })
  t.deepEqual(await counter.doubts(id), [], 'what was never sent did not happen')
})
