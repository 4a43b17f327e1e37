import { Worker } from 'bullmq'
import { Redis } from 'ioredis'
import test from 'ava'
import { PAYMENT_QUEUE } from '../../src/queues/payment.ts'
import { openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { openHarness, paymentOf } from './harness.ts'

test('a shared job that is run again, its worker having died, leaves a payment to the job of its own that drives it by now', async (t) => {
  const shop = await openShop({ roles: ['web'] })
  t.teardown(shop.close)
  const harness = await openHarness(shop)
  t.teardown(harness.close)
  const redis = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const died = new Worker(PAYMENT_QUEUE, null, { connection: redis, prefix: shop.prefix, autorun: false })
  t.teardown(async () => {
    await died.close()
    redis.disconnect()
  })
  const ids = [1, 2, 3].map(() => shop.catalog.product({ stock: 10, reserved: 1 }))
  const events = []
  for (const productId of ids) events.push(await harness.written(paymentOf(await harness.olderOrder([{ productId, qty: 1 }]))))
  await harness.payments.addTogether(events)
  const shared = await died.getNextJob('token')
  const [first] = events
  const slow = shop.catalog.fault({ call: 'commit', productId: ids[0]!, fault: 'slow', ms: 1500, times: 1 })
  await harness.payments.add([{ ...first!, attempt: null }])
  await shop.start(['worker'], { PORT: '0' })
  await until(slow.fired, (times) => times === 1)
  const { attempt } = await harness.event(first!.eventId)

  await shared!.moveToDelayed(Date.now(), 'token') // its second run follows at once

  for (const { eventId } of events) t.like(await harness.ended(eventId), { state: 'APPLIED', result: 'paid' })
  t.is((await harness.event(first!.eventId)).attempt, attempt)
  for (const id of ids) {
    await harness.totalsAre(id, { in_stock: 9, reserved: 0 })
    t.is(harness.commits(id, 1).applied, 1)
  }
})
