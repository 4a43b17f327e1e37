/** What the pages promise about variables, metrics and states stands in the code too, and the other way round. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import test from 'ava'
import { checkoutStates } from '../src/model.ts'

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
const readme = read('README.md')

/** The cells of the table rows under a heading, without their backticks. */
function rowsUnder(page: string, heading: string): string[][] {
  const section = page.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`)) ?? ''
  const rows = section.split('\n').filter((line) => line.startsWith('| `'))
  return rows.map((row) =>
    row
      .split(' | ')
      .map((cell) => cell.replaceAll('`', '').replace(/^\| | \|$/g, ''))
      .map((cell) => cell.trim()),
  )
}

test('the table of configuration has every variable with its default, and no other', (t) => {
  const [, ...parts] = read('src/config.ts').split(/^ {2}(?=[A-Z][A-Z_]+: )/m)
  const inCode = parts.map((part) => {
    const name = part.slice(0, part.indexOf(':'))
    const [, value] = /\.default\('?(.*?)'?\)/.exec(part) ?? []
    return [name, value ?? 'none']
  })
  const inReadme = rowsUnder(readme, 'Configuration').map(([name, value]) => [name, value])
  t.true(inCode.length > 20)
  t.deepEqual(inReadme.sort(), inCode.sort())
})

test('the table of metrics has every metric, and no other', (t) => {
  const inCode = read('src/telemetry/metrics.ts').match(/(?<=')order_\w+(?=')/g) ?? []
  const inReadme = rowsUnder(readme, 'Metrics').map(([name]) => name!.replace(' *', ''))
  t.true(inCode.length > 10)
  t.deepEqual(inReadme.sort(), [...inCode].sort())
})

test('the diagram and the table of states say what the model says', (t) => {
  const page = read('docs/states.md')
  const arrows = [...page.matchAll(/^ +(\w+) --> (\w+)$/gm)].map(([, from, to]) => `${from} to ${to}`)
  const allowed = Object.entries(checkoutStates).flatMap(([state, { next }]) => next.map((following) => `${state} to ${following}`))
  t.deepEqual(arrows.sort(), allowed.sort())

  const means = rowsUnder(page, 'States of a checkout').map(([state, meaning]) => [state, meaning])
  t.deepEqual(
    means,
    Object.entries(checkoutStates).map(([state, meant]) => [state, meant.means]),
  )
})

test('the CHECK of the table has the states of the model', (t) => {
  const [, list = ''] = /check \(state in \(([^)]+)\)\)/.exec(read('sql/002.do.checkouts.sql')) ?? []
  t.deepEqual(list.replaceAll("'", '').split(', '), Object.keys(checkoutStates))
})

test('pages that are pointed to are there', (t) => {
  const pages = [
    'README.md',
    'docs/states.md',
    'docs/stock.md',
    'docs/rescue.md',
    ...readdirSync(new URL('../docs/decisions/', import.meta.url)).map((name) => `docs/decisions/${name}`),
  ]
  for (const page of pages) {
    const folder = new URL(`../${page}`, import.meta.url)
    for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
      t.true(existsSync(new URL(target, folder)), `${page} points to ${target}`)
    }
  }
})
