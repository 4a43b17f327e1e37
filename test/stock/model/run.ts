/**
 * Many histories, and what came of them: bin/model [--seeds 40] [--from 0]. The first one of a row that fails is shrunk, for --shrink
 * seconds at most; those without a protection only if --shrink is given.
 * One history told line by line: bin/model --tell SEED --only 'kills'; a shrunk one with the --path and --replay-path of its failure.
 */
import { parseArgs } from 'node:util'
import { figuresOf, inOrder, inOrderAndExact, reportOf } from './figures.ts'
import { exact, histories, unprotected } from './histories.ts'
import { history } from './history.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '40' },
    from: { type: 'string', default: '0' },
    only: { type: 'string', default: '' },
    tell: { type: 'string' },
    minutes: { type: 'string' },
    path: { type: 'string' },
    'replay-path': { type: 'string', default: '' },
    shrink: { type: 'string' },
    tally: { type: 'boolean', default: false },
  },
})

const say = (line: string) => process.stdout.write(`${line}\n`)
const minutes = values.minutes === undefined ? {} : { minutes: Number(values.minutes) }
const chosen = Object.entries(histories)
  .filter(([name]) => name.startsWith(values.only))
  .map(([name, row]) => [name, { ...row, ...minutes }] as const)
const complaintsOf = (name: string) => (name in exact || name in unprotected ? inOrderAndExact : inOrder)
const which = (found: number[]) => `${found.length}${found.length > 0 ? ` (${found.slice(0, 5).join(', ')})` : ''}`

if (values.tell === undefined) {
  for (const [name, row] of chosen) {
    const began = performance.now()
    const shrinks = !(name in unprotected) || values.shrink !== undefined
    const options = shrinks ? { complaints: complaintsOf(name), shrinkMs: Number(values.shrink ?? 60) * 1000 } : {}
    const figures = await figuresOf(Number(values.from), Number(values.seeds), row, options)
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
      failure,
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
    if (failure) say(reportOf(name, failure))
    if (failure && !(name in unprotected)) process.exitCode = 1
  }
} else {
  for (const [name, row] of chosen.slice(0, 1)) {
    say(`seed ${values.tell} of: ${name}`)
    const replay = values.path === undefined ? undefined : { path: values.path, replayPath: values['replay-path'] }
    const { end } = await history(Number(values.tell), row, { complaints: complaintsOf(name), replay, hear: say })
    const { tally: _, ...said } = end
    say(JSON.stringify(said))
  }
}
