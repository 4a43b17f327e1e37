import test from 'ava'
import type { Outcome } from '../../src/model.ts'
import type { RedisConnection } from '../../src/redis/connection.ts'
import { createReplier, type Replies } from '../../src/queues/replies.ts'

const created: Outcome = { state: 'CREATED', orderId: 7, totalCents: 2598, currency: 'USD' }

test('a customer of this process is answered at once and without Redis', async (t) => {
  const order: string[] = []
  const { promise: outcome, resolve } = Promise.withResolvers<Outcome>()
  const here = { channel: 'here', deliver: (reply: Outcome) => (resolve(reply), true) } as Replies
  const reply = createReplier({} as RedisConnection, here)

  const customer = (async () => {
    await outcome
    for (let middleware = 0; middleware < 50; middleware += 1) await undefined
    order.push('customer')
  })()
  const worker = reply('here', created).then(() => order.push('worker'))
  await Promise.all([customer, worker])
  t.deepEqual(order, ['customer', 'worker'])
  t.is(await outcome, created)
})
