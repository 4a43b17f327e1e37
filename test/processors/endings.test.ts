/** How a checkout ends whose shipment came to nothing: what it does not know it does not settle, and what is another's it does not end. */
import test from 'ava'
import { NoAnswer } from '../../src/clients/http.ts'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { query } from '../support/database.ts'
import { opened } from '../support/intent.ts'
import { type Counter, openCounter } from '../stock/counter.ts'
import { drive } from './drive.ts'

let counter: Counter
test.before(async () => {
  counter = await openCounter()
})
test.after.always(() => counter?.close())

test.serial('a refused shipment does not settle a reserve whose record got no answer: the call stays in doubt', async (t) => {
  const productId = await counter.product()
  const { orderId, products } = await opened(counter.pool, { productId, qty: 2 })
  const verbs = createCheckouts(counter.pool)
  const silent = async () => {
    throw new Error('PostgreSQL did not answer')
  }

  await drive(counter, {
    checkouts: { ...verbs, recordReserved: silent },
    shipping: { create: async () => ({ answer: 'refused', detail: 'no such country' }), has: async () => false },
    checkout: { orderId, products, deadline: Math.max(Date.now(), counter.clock.wallTime()) + 8000 },
  })

  const [row] = await query(counter.dsn, 'select state, recovery_point, reserve_call from order_service.checkouts where order_id = $1', [
    orderId,
  ])
  t.deepEqual(row, { state: 'CANCELLED', recovery_point: 'intent', reserve_call: 'unknown' })
})

test.serial('one that was taken over at its shipment does not end the checkout of its successor, however late it is', async (t) => {
  const productId = await counter.product()
  const { orderId, products } = await opened(counter.pool, { productId, qty: 2 })
  const checkouts = createCheckouts(counter.pool)
  t.true(await checkouts.recordReserved({ orderId, attempt: 1 }, [{ productId, epoch: products[0]!.epoch! }]))

  await drive(counter, {
    checkouts,
    shipping: {
      create: async () => ({ answer: 'created' }),
      async has() {
        await checkouts.resume(orderId)
        throw new NoAnswer('shipping look: no answer', { sent: true, settlesAt: 0 })
      },
    },
    checkout: { orderId, products, deadline: Date.now() + 30_000 },
    // The pause before the next try would be 51 s.
    attemptsStarted: 10,
  })

  const [row] = await query(counter.dsn, 'select state, attempt from order_service.checkouts where order_id = $1', [orderId])
  t.deepEqual(row, { state: 'OPEN', attempt: 3 })
})
