/** Whether a checkout is still an attempt's: PostgreSQL is asked once in a while, and its answer may come late. */
import test from 'ava'
import type { CheckoutRun } from '../../src/processors/checkout-run.ts'
import { createStillOpen } from '../../src/processors/still-open.ts'

const DEADLINE = 8000

/** Asks at these times, of an attempt that was seen open at 0. PostgreSQL takes `answersAfterMs`. */
async function askedAt(times: readonly number[], { isOpen = true, answersAfterMs = 0, attempt = 1 } = {}) {
  let now = 0
  let reads = 0
  const checkouts = {
    async isOpen() {
      reads += 1
      now += answersAfterMs
      return isOpen
    },
  }
  const stillOpen = createStillOpen(checkouts, { databaseTime: () => now })
  const run = { orderId: 1, attempt, deadline: DEADLINE, seenOpenAt: 0 } as CheckoutRun
  const answers: boolean[] = []
  for (const time of times) {
    now = time
    answers.push(await stillOpen(run))
  }
  return { answers, reads }
}

test('PostgreSQL is not asked in the first second after a checkout was seen open, and then once a second', async (t) => {
  t.deepEqual(await askedAt([0, 999]), { answers: [true, true], reads: 0 })
  t.deepEqual(await askedAt([1000, 1999]), { answers: [true, true], reads: 1 })
  t.deepEqual(await askedAt([1000, 2000]), { answers: [true, true], reads: 2 })
})

test('a later attempt asks each time: operators cancel checkouts that have failed', async (t) => {
  t.deepEqual(await askedAt([0, 1], { attempt: 2 }), { answers: [true, true], reads: 2 })
  t.deepEqual(await askedAt([0], { attempt: 2, isOpen: false }), { answers: [false], reads: 1 })
})

test('a checkout that has ended, or is another attempt’s, is not open', async (t) => {
  t.deepEqual(await askedAt([1000, 1001], { isOpen: false }), { answers: [false, false], reads: 2 })
})

test('a checkout past its deadline is not open, whatever PostgreSQL says', async (t) => {
  t.deepEqual(await askedAt([DEADLINE]), { answers: [false], reads: 0 })
  t.deepEqual(await askedAt([DEADLINE - 1], { answersAfterMs: 1 }), { answers: [false], reads: 1 })
})
