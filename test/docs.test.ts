/** What the pages promise about variables, metrics and states stands in the code too, and the other way round. */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import test from 'ava'
import { causes, isCause } from '../src/causes.ts'
import { checkoutStates, deadLetterFaults, paymentStates } from '../src/model.ts'
import { anchorsOf, prose } from './support/anchors.ts'

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

/** Every page of the repository, by its path from the root. */
const pages = globSync('**/*.md', {
  cwd: new URL('..', import.meta.url),
  exclude: (path) => /^(node_modules|\.dev|\.tools|\.git)$/.test(path),
}).sort()

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

test('every cause has a row and a section in the runbook, and no section is of a cause that there is not', (t) => {
  const runbook = read('docs/runbook.md')
  const rows = runbook.matchAll(/^\| \[`([\w-]+)`\]\(#([\w-]+)\) \| (.+?) \| .+ \|$/gm)
  t.deepEqual(
    [...rows].map(([, cause, anchor, sentence]) => [cause, anchor, sentence]),
    Object.entries(causes).map(([cause, { sentence }]) => [cause, cause, sentence.replace('{service}', 'Catalog or Shipping')]),
  )
  // Sections of symptoms begin with a capital letter.
  const sections = runbook.split(/^## /m).filter((section) => /^[a-z]/.test(section))
  t.deepEqual(
    sections.map((section) => section.split('\n')[0]),
    Object.keys(causes),
  )
  const parts = ['You see', 'Meaning', 'By itself', 'Do', 'Escalate']
  for (const section of sections) {
    const inPage = [...section.matchAll(/^\*\*(.+?)\.\*\*/gm)].map(([, part]) => part)
    t.deepEqual(inPage, parts, section.split('\n')[0])
  }
})

test('the section of a cause names each action that can help', (t) => {
  for (const section of read('docs/runbook.md').split(/^## /m)) {
    const [cause = ''] = section.split('\n')
    if (!isCause(cause)) continue
    for (const verb of causes[cause].actions) t.true(section.includes(verb), `${cause}: ${verb}`)
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
