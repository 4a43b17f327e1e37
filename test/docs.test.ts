/** What the pages promise about variables, metrics and states stands in the code too, and the other way round. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import test from 'ava'
import { checkoutStates, deadLetterFaults, paymentStates } from '../src/model.ts'

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
    return [name, value?.replace(/(?<=\d)_(?=\d)/g, '') ?? 'none']
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

const tables: { page: string; heading: string; states: Record<string, { means: string; next: readonly string[] }>; migration: string }[] = [
  { page: 'docs/states.md', heading: 'States of a checkout', states: checkoutStates, migration: 'sql/002.do.checkouts.sql' },
  { page: 'docs/payments.md', heading: 'States of a payment event', states: paymentStates, migration: 'sql/005.do.payments.sql' },
]
for (const { page, heading, states, migration } of tables) {
  test(`the diagram and the table of ${page} say what the model says`, (t) => {
    const text = read(page)
    const arrows = [...text.matchAll(/^ +(\w+) --> (\w+)/gm)].map(([, from, to]) => `${from} to ${to}`)
    const allowed = Object.entries(states).flatMap(([state, { next }]) => next.map((following) => `${state} to ${following}`))
    t.deepEqual(arrows.sort(), allowed.sort())

    const means = rowsUnder(text, heading).map(([state, meaning]) => [state, meaning])
    t.deepEqual(
      means,
      Object.entries(states).map(([state, meant]) => [state, meant.means]),
    )
  })

  test(`the CHECK in ${migration} has the states of the model`, (t) => {
    const [, list = ''] = /check \(state in \(([^)]+)\)\)/.exec(read(migration)) ?? []
    t.deepEqual(list.replaceAll("'", '').split(', '), Object.keys(states))
  })
}

test('the table of dead letters has every fault, with what the command says of it', (t) => {
  const rows = rowsUnder(read('docs/payments.md'), 'Dead letters').map(([fault, helps]) => [fault, helps])
  t.deepEqual(rows, Object.entries(deadLetterFaults))
})

for (const part of ['checkout', 'payment', 'reconciliation']) {
  test(`the table of the boundaries of ${part} has those at which a test has a process die, and no other`, (t) => {
    const [section = ''] = read('docs/rescue.md')
      .split(/^#+ /m)
      .filter((one) => one.startsWith('Boundaries of') && one.includes(`${part}\n`))
    const inPage = [...section.matchAll(/^\| (.+?) \|/gm)].map(([, name]) => name).slice(2)
    const tried = [...read(`test/boundaries/${part}.test.ts`).matchAll(/\{ name: '(.+?)'/g)].map(([, name]) => name)
    t.true(inPage.length > 10)
    t.deepEqual([...new Set(inPage)], [...new Set(tried)])
  })
}

test('pages that are pointed to are there', (t) => {
  const pages = [
    'README.md',
    'docs/payments.md',
    'docs/states.md',
    'docs/stock.md',
    'docs/reliability.md',
    'docs/rescue.md',
    'docs/upkeep.md',
    'docs/health.md',
    ...readdirSync(new URL('../docs/decisions/', import.meta.url)).map((name) => `docs/decisions/${name}`),
  ]
  for (const page of pages) {
    const folder = new URL(`../${page}`, import.meta.url)
    for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
      t.true(existsSync(new URL(target, folder)), `${page} points to ${target}`)
    }
  }
})
