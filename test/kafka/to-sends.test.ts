import test from 'ava'
import { toSends } from '../../src/kafka/to-sends.ts'

const event = (id: number, value: string) => ({ id, orderId: 1, message: { key: '1', value } })
const events = (...sizes: number[]) => sizes.map((size, i) => event(i + 1, 'x'.repeat(size)))
const ids = (sends: ReturnType<typeof toSends>) => sends.map((send) => send.map(({ id }) => id))

test('events travel together up to half a mebibyte, in their order', (t) => {
  t.deepEqual(ids(toSends([], 0)), [])
  t.deepEqual(ids(toSends(events(10, 10, 10), 0)), [[1, 2, 3]])
  t.deepEqual(ids(toSends(events(300_000, 200_000, 100_000, 10), 0)), [
    [1, 2],
    [3, 4],
  ])
})

test('an event larger than a send goes alone', (t) => {
  t.deepEqual(ids(toSends(events(10, 600_000, 10, 10), 0)), [[1], [2], [3, 4]])
})

test('events that were in a rejected send go one by one, those after them together', (t) => {
  t.deepEqual(ids(toSends(events(10, 10, 10, 10, 10), 3)), [[1], [2], [3], [4, 5]])
  t.deepEqual(ids(toSends(events(10, 10), 9)), [[1], [2]])
})

test('characters count as the bytes they are sent as, and so do headers', (t) => {
  const wide = '🛒'.repeat(100_000) // 400,000 bytes in 200,000 units of a JavaScript string
  t.deepEqual(ids(toSends([event(1, wide), event(2, wide)], 0)), [[1], [2]])
  const { message, ...row } = event(1, '')
  const headers = { trace: [Buffer.alloc(200_000), Buffer.alloc(200_000)] }
  t.deepEqual(ids(toSends([{ ...row, message: { ...message, headers } }, event(2, 'x'.repeat(200_000))], 0)), [[1], [2]])
})
