import test from 'ava'
import { batcher } from '../src/batcher.ts'

test('the batcher sends calls of one tick together, and each gets its own answer', async (t) => {
  const batches: number[][] = []
  const double = batcher(async (batch: number[]) => {
    batches.push(batch)
    return batch.map((n) => n * 2)
  })
  t.deepEqual(await Promise.all([double(1), double(2), double(3)]), [2, 4, 6])
  t.deepEqual(batches, [[1, 2, 3]])
})

test('an error in place of one result rejects that call alone, and a flush that fails rejects its whole batch', async (t) => {
  const half = batcher(async (batch: number[]) => {
    if (batch.includes(0)) throw new Error('all of them')
    return batch.map((n) => (n % 2 ? new Error('odd') : n / 2))
  })
  const settled = await Promise.allSettled([half(2), half(3), half(4)])
  t.deepEqual(
    settled.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  await t.throwsAsync(half(0), { message: 'all of them' })
  t.is(await half(8), 4)
})

test('no batch is larger than the limit, and no call of a crowd is forgotten', async (t) => {
  let largest = 0
  const same = batcher(
    async (batch: number[]) => {
      largest = Math.max(largest, batch.length)
      return batch
    },
    { max: 10 },
  )
  const numbers = Array.from({ length: 95 }, (_, n) => n)
  t.deepEqual(await Promise.all(numbers.map(same)), numbers)
  t.is(largest, 10)
})
