/** The service's own stock calls, processors and rescuer in random histories: what a seed does, it does every time (bin/model tells it line by line). */
import test, { type ExecutionContext } from 'ava'
import { type Figures, figuresOf } from './figures.ts'
import { exact, late, refused, unprotected } from './histories.ts'
import { history, type Knobs } from './history.ts'

/** Half a minute of faults: so many seeds take a core half as long. */
const short: Partial<Knobs> = { faultsLastMs: 30_000 }

function isInOrder(t: ExecutionContext, figures: Figures): void {
  const { unfinished, wrongHolds, overlaps } = figures
  t.deepEqual({ unfinished, wrongHolds, overlaps }, { unfinished: [], wrongHolds: [], overlaps: [] })
}

for (const [name, knobs] of Object.entries(exact)) {
  test.serial(`Catalog’s inventory is exact after ${name}`, async (t) => {
    const figures = await figuresOf(0, 15, { ...short, ...knobs })
    isInOrder(t, figures)
    t.deepEqual([figures.tooMany, figures.tooFew, figures.oversold], [0, 0, 0], `seeds ${figures.wrongStock.join()}`)
    t.is(figures.tally['sent without a lease'], undefined)
    t.true(figures.sold > 100, `${figures.sold} units were sold`)
    for (const trouble of ['kill', 'stop', 'rescued']) t.true(figures.tally[trouble]! > 10, trouble)
  })
}

/** Units in the call of one customer, at the most: so few histories cannot tell less than that. */
const ONE_CALL = 3

/** Five times as many faults: twenty times as many units are off. */
const shareOf = (few: number, name: string) => (name.includes('twentieth') ? few / 20 : few)

for (const [few, kinds] of [
  [10_000, late],
  [1000, refused],
] as const) {
  for (const [name, knobs] of Object.entries(kinds)) {
    const share = shareOf(few, name)
    test.serial(`at most 1 unit in ${share} is wrong after ${name}`, async (t) => {
      const figures = await figuresOf(0, 15, { ...short, ...knobs })
      isInOrder(t, figures)
      const wrong = figures.tooMany + figures.tooFew
      t.true(
        wrong <= Math.max(ONE_CALL, figures.sold / share),
        `${figures.tooMany} too many and ${figures.tooFew} too few of ${figures.sold}`,
      )
      // A call that acts late may hide behind what others do: seldom more than in one history of fifteen.
      t.true(figures.unlisted.length <= 1, `seeds ${figures.unlisted.join()}`)
    })
  }
}

test.serial('the same seed gives the same history of the model', async (t) => {
  const tell = async () => {
    const lines: string[] = []
    await history(7, { ...short, faultRate: 0.05, unheard: 0.01 }, (line) => lines.push(line))
    return lines.map((line) => line.replaceAll(/"ms":[0-9.e+-]+/g, ''))
  }
  const first = await tell()
  t.true(first.length > 500)
  t.deepEqual(await tell(), first)
})

/** What shows that the protection is needed. */
const shows: Record<string, (figures: Figures) => boolean> = {
  'without the lease': ({ overlaps, wrongHolds, wrongStock }) => overlaps.length > 0 && wrongHolds.length + wrongStock.length > 0,
  'without a memory of unanswered calls': ({ tooFew }) => tooFew > 0,
  'without fencing': ({ wrongHolds }) => wrongHolds.length > 0,
  'without reconciliation': ({ wrongHolds }) => wrongHolds.length > 0,
  'without the reconciler': ({ wrongHolds, unfinished }) => wrongHolds.length > 0 && unfinished.length > 0,
  'without checking how long a lease lasts': ({ tally }) => (tally['sent without a lease'] ?? 0) > 0,
}

for (const [name, knobs] of Object.entries(unprotected)) {
  test.serial(`${name} the histories show a wrong inventory`, async (t) => {
    let found: Figures | undefined
    for (let from = 0; from < 100 && !found; from += 4) {
      const figures = await figuresOf(from, 4, { ...short, ...knobs })
      if (shows[name]!(figures)) found = figures
    }
    t.truthy(found)
  })
}
