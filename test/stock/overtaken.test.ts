/** Mending by one that is not alone: it was stopped and lost its lease, or Redis lost the leases of others. */
import test from 'ava'
import { mend } from '../../src/stock/mending.ts'
import { query } from '../support/database.ts'
import { opened } from '../support/intent.ts'
import { type Counter, FOREVER, openCounter } from './counter.ts'

let counter: Counter
test.before(async () => {
  counter = await openCounter()
})
test.after.always(() => counter?.close())

const lease = { keep: async () => true, runOut() {} }

const mended = (productId: number) => mend(counter, productId, lease, { notBefore: counter.clock.now(), deadline: FOREVER })

/** What was seen at Catalog and is nobody's of ours. */
const seen = (productId: number) =>
  query(counter.dsn, `select verb, qty::int from order_service.mendings where product_id = $1 and answer = 'seen'`, [productId])

test.serial('one that was stopped between its look and its record, while others mended, finds that what it saw is old', async (t) => {
  const id = await counter.product()
  counter.shelf.get(id)!.reserved = 2
  await counter.ledger.doubt([{ productId: id, qty: 2, verb: 'reserve', orderId: 71, attempt: 1 }])
  const stopped = {
    ...counter,
    catalog: {
      ...counter.catalog,
      async look(productId: number) {
        const says = await counter.catalog.look(productId)
        t.true((await mended(id)).agreed, 'by another, while this one stands still')
        return says
      },
    },
  }
  const terms = { notBefore: counter.clock.now(), deadline: FOREVER }
  t.deepEqual(await mend(stopped, id, lease, terms), { agreed: false, reason: 'somebody else mends it' })
  t.deepEqual(counter.asked(id), ['commit 2', 'restock 2'])
  t.like(await counter.row(id), { predicted: 10, hold: 0, stock: 0 })
  t.deepEqual(await seen(id), [])
})

test.serial('what was seen under an epoch that is over is not written down, nor is a call sent or a refusal counted', async (t) => {
  const id = await counter.product()
  await counter.ledger.doubt([{ productId: id, qty: 1, verb: 'reserve', orderId: 72, attempt: 1 }])
  const { doubts, epoch } = await counter.ledger.read(id)
  await query(counter.dsn, 'update order_service.products set extra_stock = 2 where product_id = $1', [id])
  await counter.ledger.raiseEpoch(id)
  t.false(await counter.ledger.settle(id, epoch, { happened: doubts, unexplainedHold: 1, followedStock: 1, undecided: undefined }))
  t.is(await counter.ledger.sending(id, epoch, 'reserve', 2), undefined)
  t.false(await counter.ledger.agreed(id, epoch, doubts))
  await counter.ledger.cannotHold(id, epoch)
  t.like(await counter.row(id), { predicted: 10, hold: 0, stock: 2, epoch: epoch + 1 })
  t.deepEqual(await counter.doubts(id), [{ call: 'reserve 1', looked: false }])
})

test.serial('a call whose answer came while another one understood it as a doubt counts once', async (t) => {
  const id = await counter.product()
  const doubt = (await counter.ledger.sending(id, 1, 'reserve', 2))!
  const { doubts, epoch } = await counter.ledger.read(id)
  await counter.ledger.answered(id, doubt, 'done', 'hold-missing')
  t.true(await counter.ledger.settle(id, epoch, { happened: doubts, unexplainedHold: 0, followedStock: 0, undecided: undefined }))
  t.like(await counter.row(id), { hold: 2 })
})

test.serial(
  'a call whose answer came when another one had counted it under the name of a doubt that looks alike counts once',
  async (t) => {
    const id = await counter.product()
    await counter.ledger.doubt([{ productId: id, qty: 2, verb: 'reserve', orderId: 73, attempt: 1 }])
    const doubt = (await counter.ledger.sending(id, 1, 'reserve', 2))!
    await counter.ledger.raiseEpoch(id)
    const { doubts, epoch } = await counter.ledger.read(id)
    const alike = doubts.filter(({ orderId }) => orderId === 73)
    t.true(await counter.ledger.settle(id, epoch, { happened: alike, unexplainedHold: 0, followedStock: 0, undecided: undefined }))

    await counter.ledger.answered(id, doubt, 'done', 'hold-missing')
    t.like(await counter.row(id), { hold: 2 })
    t.deepEqual(await counter.doubts(id), [{ call: 'reserve 2', looked: false }], 'as far as is known, it may have happened or not')

    await counter.ledger.answered(id, doubt, 'refused', 'hold-missing')
    t.deepEqual(await counter.doubts(id), [], 'what was refused has not')
  },
)

/** An order of so many pieces, and a payment of it that may have sent its commit: our rows do not say. */
async function committing(id: number, qty: number): Promise<void> {
  await counter.order(id, qty)
  const [order] = await query<{ id: number }>(counter.dsn, 'select max(order_id) as id from public.order_items where product_id = $1', [id])
  await query(
    counter.dsn,
    `insert into order_service.payment_events (identity, type, order_id, topic, partition, kafka_offset, value, headers, sent_at)
     values ('paid ' || $1::int, 'payment.succeeded', $1::int, 'payment.events', 0, 0, '{}', '[]', now())`,
    [order!.id],
  )
}

test.serial('a commit of which only a lease told that Redis has lost is found in our rows, and is no mystery', async (t) => {
  const id = await counter.product({ inStock: 8 })
  await committing(id, 2)
  counter.shelf.set(id, { inStock: 6, reserved: 0 })
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['restock 2', 'reserve 2'])
  t.like(await counter.row(id), { predicted: 8, hold: 0, stock: 0 })
  t.deepEqual(counter.shelf.get(id), { inStock: 8, reserved: 2 })
  t.deepEqual(await seen(id), [])
})

test.serial('it is, too, where other calls and a delivery would explain what is seen', async (t) => {
  const id = await counter.product()
  await counter.ledger.doubt([{ productId: id, qty: 2, verb: 'reserve', orderId: 75, attempt: 1 }])
  await counter.ledger.doubt([{ productId: id, qty: 3, verb: 'commit', orderId: 76, attempt: 1 }])
  await committing(id, 1)
  counter.shelf.set(id, { inStock: 9, reserved: 0 })
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['restock 1', 'reserve 1'])
  t.like(await counter.row(id), { predicted: 10, hold: 0, stock: 0 })
  t.deepEqual(await seen(id), [])
  t.like(await counter.undecided(id), { length: 1, 0: { why: 'two-stories', tooMany: 0, tooFew: 2 } }, 'the delivery, if there was one')
})

test.serial('so is the reserve of an open checkout; what is explained without them asks our rows for nothing', async (t) => {
  const id = await counter.product()
  await opened(counter.pool, { productId: id, qty: 3 })

  t.true((await mended(id)).agreed)
  t.deepEqual(await counter.doubts(id), [])
  counter.shelf.get(id)!.reserved = 3
  t.true((await mended(id)).agreed)
  t.deepEqual(counter.asked(id), ['commit 3', 'restock 3'])
  t.deepEqual(await seen(id), [])
})
