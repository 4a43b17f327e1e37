import test from 'ava'
import { Redis } from 'ioredis'
import { createPaymentQueue, paymentJobId } from '../../src/queues/payment.ts'
import { hostClock } from '../support/clock.ts'
import { until } from '../support/until.ts'

function openQueue(t: { teardown(end: () => Promise<void>): void }, name: string) {
  const redis = new Redis(process.env.REDIS_URL!)
  const payment = createPaymentQueue(redis, `{payment-queue-${name}-${process.pid}}`, hostClock)
  t.teardown(async () => {
    await payment.queue.obliterate({ force: true })
    await payment.close()
    redis.disconnect()
  })
  return payment
}

const task = (eventId: number) => ({ eventId, orderId: eventId, attempt: null })

test('an event that waits in a job with others is known to be there, by any job but that one', async (t) => {
  const payment = openQueue(t, 'shared')
  await payment.addTogether([task(1), task(2)])
  const [job] = await payment.queue.getWaiting()

  t.true(await payment.isInAnotherJob(1, paymentJobId(1)))
  t.false(await payment.isInAnotherJob(1, job!.id!))
  t.false(await payment.isInAnotherJob(3, paymentJobId(3)))

  await payment.addTogether([task(3), task(4)])
  await t.notThrowsAsync(
    until(() => payment.isInAnotherJob(3, paymentJobId(3))),
    'a read counts for half a second',
  )
})

test('an event behind more jobs than can be read counts as being in one of them', async (t) => {
  const payment = openQueue(t, 'long')
  await payment.add(Array.from({ length: 2000 }, (_, i) => task(i + 1)))
  t.false(await payment.isInAnotherJob(5000, paymentJobId(5000)))
  await payment.add([task(2001)])
  await t.notThrowsAsync(until(() => payment.isInAnotherJob(5000, paymentJobId(5000))))
})
