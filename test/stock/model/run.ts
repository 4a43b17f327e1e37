/** Many histories, and what came of them: bin/model [--seeds 40] [--from 0]; one of them told line by line: bin/model --tell SEED --only 'kills' */
import { parseArgs } from 'node:util'
import { figuresOf } from './figures.ts'
import { type Knobs, trial } from './trial.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '40' },
    from: { type: 'string', default: '0' },
    only: { type: 'string', default: '' },
    tell: { type: 'string' },
  },
})

const rows: Record<string, Partial<Knobs>> = {
  'kills, stops and flushes only': { faultRate: 0 },
  'the same, and nobody else restocks': { faultRate: 0, restocks: false },
  'PostgreSQL leaves one in a hundred without an answer': { faultRate: 0, restocks: false, unheard: 0.01 },
  'a fault in every hundredth call': { faultRate: 0.01 },
  'a fault in every twentieth call': { faultRate: 0.05 },
  'the same, and Catalog has a release': { faultRate: 0.05, release: true },
  'no lease': { faultRate: 0.01, lease: false },
  'no mending': { faultRate: 0.01, mend: false },
  'no mender': { faultRate: 0.01, mender: false },
  'no epochs': { faultRate: 0.01, epochs: false },
  'no freeze after a flush': { faultRate: 0.2, flushes: 1, betweenOrdersMs: 60, faultsLastMs: 30_000, freeze: false },
}
const say = (line: string) => process.stdout.write(`${line}\n`)
const chosen = Object.entries(rows).filter(([name]) => name.startsWith(values.only))

if (values.tell === undefined) {
  for (const [name, knobs] of chosen) {
    const { seeds, orders, sold, unfinished, wrongHolds, tooMany, tooFew, unexplained, unlisted, undecided, overlaps, tally } =
      await figuresOf(Number(values.from), Number(values.seeds), knobs)
    const which = (found: number[]) => `${found.length}${found.length > 0 ? ` (${found.slice(0, 5).join(', ')})` : ''}`
    say(
      `${name}: ${seeds} seeds, ${orders} orders, ${sold} pieces sold; unfinished ${which(unfinished)}, wrong holds ${which(wrongHolds)}, ` +
        `pieces too many ${tooMany}, too few ${tooFew}, unexplained ${which(unexplained)}, unlisted ${which(unlisted)}, undecided ${undecided}, overlaps ${which(overlaps)}; ` +
        Object.entries(tally)
          .map(([what, times]) => `${what} ${times}`)
          .sort()
          .join(', '),
    )
  }
} else {
  for (const [name, knobs] of chosen.slice(0, 1)) {
    say(`seed ${values.tell} of: ${name}`)
    const { tally: _, ...end } = await trial(Number(values.tell), knobs, say)
    say(JSON.stringify(end))
  }
}
