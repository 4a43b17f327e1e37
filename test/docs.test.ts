/** What the pages promise about variables, metrics and states stands in the code too, and the other way round. */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import test from 'ava'
import { checkoutStates, deadLetterFaults, paymentStates } from '../src/model.ts'

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

/** Every page of the repository, by its path from the root. */
const pages = globSync('**/*.md', {
  cwd: new URL('..', import.meta.url),
  exclude: (path) => /^(node_modules|\.dev|\.tools|\.git)$/.test(path),
}).sort()

/** The page without its fenced code, in which `#` begins a comment and `](` a regular expression. */
const prose = (page: string) => page.replace(/^ *```[^]*?^ *```$/gm, '')

/** The anchors that GitHub gives to the headings of a page: a heading that comes again gets `-1`, `-2` and so on. */
function anchorsOf(page: string): string[] {
  const seen = new Map<string, number>()
  return [...prose(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => {
    const anchor = heading
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-')
    const times = seen.get(anchor) ?? 0
    seen.set(anchor, times + 1)
    return times === 0 ? anchor : `${anchor}-${times}`
  })
}

/** The cells of the table rows under a heading, without their backticks. */
function rowsUnder(page: string, heading: string): string[][] {
  const section = page.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`)) ?? ''
  const rows = section.split('\n').filter((line) => line.startsWith('| `'))
  return rows.map((row) =>
    row
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.replaceAll('`', '').trim()),
  )
}

test('the table of configuration has every variable with its default, and no other', (t) => {
  const [, ...parts] = read('src/config.ts').split(/^ {2}(?=[A-Z][A-Z_]+: )/m)
  const inCode = parts.map((part) => {
    const name = part.slice(0, part.indexOf(':'))
    const [, value] = /\.default\('?(.*?)'?\)/.exec(part) ?? []
    return [name, value?.replace(/(?<=\d)_(?=\d)/g, '') ?? 'none']
  })
  const inPage = rowsUnder(read('docs/configuration.md'), 'Variables').map(([name, value]) => [name, value])
  t.true(inCode.length > 20)
  t.deepEqual(inPage.sort(), inCode.sort())
})

test('the table of metrics has every metric, and no other', (t) => {
  const inCode = read('src/telemetry/metrics.ts').match(/(?<=')order_\w+(?=')/g) ?? []
  const inPage = rowsUnder(read('docs/metrics.md'), 'All metrics').map(([name]) => name!.replace(' *', ''))
  t.true(inCode.length > 10)
  t.deepEqual(inPage.sort(), [...inCode].sort())
})

test('every metric with a threshold is among the symptoms of the runbook', (t) => {
  const runbook = read('docs/runbook.md')
  for (const [metric = '', , , threshold = ''] of rowsUnder(read('docs/metrics.md'), 'All metrics')) {
    if (threshold !== '') t.true(runbook.includes(`\`${metric.replace(' *', '')}\``), `${metric} is not in docs/runbook.md`)
  }
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

test('every link in a page leads to a file that is there, and to a heading that it has', (t) => {
  t.true(pages.length > 30)
  for (const page of pages) {
    for (const [, target = ''] of prose(read(page)).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path = '', anchor] = target.split('#')
      const linked = path === '' ? page : posix.join(posix.dirname(page), path)
      if (!existsSync(new URL(`../${linked}`, import.meta.url))) t.fail(`${page} links to ${target}: there is no such file`)
      else if (anchor !== undefined && !anchorsOf(read(linked)).includes(anchor))
        t.fail(`${page} links to ${target}: there is no such heading`)
    }
  }
})

test('README.md has at most 180 lines', (t) => {
  t.true(read('README.md').trimEnd().split('\n').length <= 180)
})

test('every decision says its status and its date, on one page', (t) => {
  for (const page of pages.filter((path) => /^docs\/decisions\/\d/.test(path))) {
    const text = read(page)
    t.regex(text, /^Status: (accepted|superseded by \[\d{4}\]\(.+\))\nDate: \d{4}-\d\d-\d\d$/m, page)
    t.true(text.trimEnd().split('\n').length <= 50, `${page} has more than 50 lines`)
  }
})
