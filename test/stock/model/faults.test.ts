/** Random histories with a Catalog that loses requests, drops answers, fails and acts late: what cannot be told apart is noted, and rare. */
import test from 'ava'
import { figuresOf } from './figures.ts'

test('with a fault in every hundredth call all holds are exact, and of 1,000 pieces sold at most 2 are wrong', async (t) => {
  const figures = await figuresOf(0, 130, { faultsLastMs: 30_000, betweenOrdersMs: 300, stock: 25, faultRate: 0.01 })
  const { unfinished, wrongHolds, unexplained, unlisted, overlaps, tooMany, tooFew, sold, tally } = figures
  t.deepEqual(
    { unfinished, wrongHolds, unexplained, unlisted, overlaps },
    { unfinished: [], wrongHolds: [], unexplained: [], unlisted: [], overlaps: [] },
  )
  t.true(tooMany + tooFew <= 0.002 * sold, `${tooMany} too many and ${tooFew} too few of ${sold}`)
  for (const fault of ['drop', 'late', 'lose', 'unsent', 'error']) t.true(tally[fault]! > 10, fault)
})
