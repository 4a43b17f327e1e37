/** The service's own stock calls, processors and rescuer in random histories: what a seed does, it does every time (bin/model tells it line by line). */
import test, { type ExecutionContext } from 'ava'
import { type Figures, figuresOf, inOrder, inOrderAndExact, reportOf } from './figures.ts'
import { exact, late, refused, unprotected } from './histories.ts'
import { type Complaints, history } from './history.ts'
import type { Row } from './knobs.ts'

/** Half a minute of faults: so many seeds take a core half as long. */
const short: Row = { minutes: 0.5 }

async function isInOrder(t: ExecutionContext, name: string, row: Row, complaints: Complaints): Promise<Figures> {
  const figures = await figuresOf(0, 15, { ...short, ...row }, { complaints })
  if (figures.failure) t.fail(`${reportOf(name, figures.failure)} --minutes ${short.minutes}`)
  return figures
}

for (const [name, row] of Object.entries(exact)) {
  test.serial(`Catalog’s inventory is exact after ${name}`, async (t) => {
    const figures = await isInOrder(t, name, row, inOrderAndExact)
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
  for (const [name, row] of Object.entries(kinds)) {
    const share = shareOf(few, name)
    test.serial(`at most 1 unit in ${share} is wrong after ${name}`, async (t) => {
      const figures = await isInOrder(t, name, row, inOrder)
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
    await history(7, { ...short, perMinute: { callFault: 20, unanswered: 40 } }, { hear: (line) => lines.push(line) })
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

for (const [name, row] of Object.entries(unprotected)) {
  test.serial(`${name} the histories show a wrong inventory`, async (t) => {
    let found: Figures | undefined
    for (let from = 0; from < 100 && !found; from += 4) {
      const figures = await figuresOf(from, 4, { ...short, ...row })
      if (shows[name]!(figures)) found = figures
    }
    t.truthy(found)
  })
}

test.serial('a failure shrinks to a few commands, which fail again when they are replayed', async (t) => {
  const row: Row = { ...short, ...unprotected['without the lease'] }
  const { failure } = await figuresOf(0, 15, row, { complaints: inOrder })
  const { seed, before, commands, complaints, path, replayPath } = failure!
  t.true(before > 20 && commands.length <= 6, `${before} commands, shrunk to ${commands.length}`)
  const again = await history(seed, row, { complaints: inOrder, replay: { path, replayPath } })
  t.deepEqual(again.failure?.complaints, complaints)
  t.deepEqual(again.failure?.commands, commands)
})
