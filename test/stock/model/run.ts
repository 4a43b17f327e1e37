/** Many histories, and what came of them: bin/model [--seeds 40] [--from 0]; one of them told line by line: bin/model --tell SEED --only 'kills' */
import { parseArgs } from 'node:util'
import { figuresOf } from './figures.ts'
import { histories } from './histories.ts'
import { history } from './history.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '40' },
    from: { type: 'string', default: '0' },
    only: { type: 'string', default: '' },
    tell: { type: 'string' },
    tally: { type: 'boolean', default: false },
  },
})

const say = (line: string) => process.stdout.write(`${line}\n`)
const chosen = Object.entries(histories).filter(([name]) => name.startsWith(values.only))
const which = (found: number[]) => `${found.length}${found.length > 0 ? ` (${found.slice(0, 5).join(', ')})` : ''}`

if (values.tell === undefined) {
  for (const [name, knobs] of chosen) {
    const began = performance.now()
    const figures = await figuresOf(Number(values.from), Number(values.seeds), knobs)
    const {
      seeds,
      orders,
      created,
      sold,
      unfinished,
      wrongHolds,
      oversold,
      tooMany,
      tooFew,
      wrongStock,
      unlisted,
      listed,
      overlaps,
      tally,
    } = figures
    say(
      `${name}: ${seeds} seeds, ${orders} checkouts, ${created} orders, ${sold} units sold; unfinished ${which(unfinished)}, ` +
        `wrong holds ${which(wrongHolds)}, oversold ${oversold}, units too many ${tooMany}, too few ${tooFew}, wrong stock ${which(wrongStock)}, ` +
        `unlisted ${which(unlisted)}, listed ${listed}, overlaps ${which(overlaps)}; ${Math.round((performance.now() - began) / 1000)} s`,
    )
    if (values.tally)
      say(
        `  ${Object.entries(tally)
          .map(([what, times]) => `${what} ${times}`)
          .sort()
          .join(', ')}`,
      )
  }
} else {
  for (const [name, knobs] of chosen.slice(0, 1)) {
    say(`seed ${values.tell} of: ${name}`)
    const { tally: _, ...end } = await history(Number(values.tell), knobs, say)
    say(JSON.stringify(end))
  }
}
