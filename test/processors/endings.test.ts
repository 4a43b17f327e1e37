/** How a checkout ends whose shipment came to nothing: what it does not know it does not settle, and what is another's it does not end. */
import test from 'ava'
import { NoAnswer } from '../../src/clients/http.ts'
import { type Harness, openHarness } from '../stock/harness.ts'
import { drive } from './drive.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness()
})
test.after.always(() => harness?.close())

test('a refused shipment does not settle a reserve whose record got no answer: the call stays under way, and reading Catalog tells', async (t) => {
  const silent = async () => {
    throw new Error('PostgreSQL did not answer')
  }
  const worker = harness.worker('silent', () => ({ recordHolds: silent }))
  const productId = await harness.product()
  const { orderId, products, lease, deadlineAt } = await harness.intent(worker, { productId, qty: 2 })

  await drive({
    worker,
    shipping: { create: async () => ({ answer: 'refused', detail: 'no such country' }), has: async () => false },
    checkout: { orderId, products, lease: lease ?? null, deadline: deadlineAt.getTime() },
  })

  const [row] = await harness.ask('select state, recovery_point from order_service.checkouts where order_id = $1', [orderId])
  t.deepEqual(row, { state: 'CANCELLED', recovery_point: 'intent' })
  t.like(await harness.row(productId), { held: 0, call: 'reserve' })
  t.deepEqual(harness.catalog.inventory.get(productId), { inStock: 10, reserved: 2 })

  await harness.expire(productId)
  await harness.worker('next').stock.reconcile(productId)
  t.deepEqual(harness.catalog.inventory.get(productId), { inStock: 10, reserved: 0 })
})

test('an attempt that was taken over at its shipment does not end the checkout of its successor, however late it is', async (t) => {
  const worker = harness.worker()
  const productId = await harness.product()
  const { orderId, products, lease } = await harness.intent(worker, { productId, qty: 2 })
  const { checkouts } = worker
  const reserved = { callId: lease!.callId, productIds: [productId], members: [{ orderId, products }] }
  t.deepEqual((await checkouts.recordHolds(reserved)).orderIds, [orderId])

  await drive({
    worker,
    shipping: {
      create: async () => ({ answer: 'created' }),
      async has() {
        await checkouts.resume(orderId)
        throw new NoAnswer('shipping read: no answer', { sent: true, settlesAt: 0 })
      },
    },
    checkout: { orderId, products, deadline: Date.now() + 30_000 },
    // The pause before the next try would be 51 s.
    attemptsStarted: 10,
  })

  const [row] = await harness.ask('select state, attempt from order_service.checkouts where order_id = $1', [orderId])
  t.deepEqual(row, { state: 'OPEN', attempt: 3 })
})
