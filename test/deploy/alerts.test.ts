/** The alert rules use metrics, labels, causes and links that exist; Prometheus's own promtool checks them where it is installed. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import test from 'ava'
import { parse } from 'yaml'
import { causes, isCause, services } from '../../src/causes.ts'
import { allRoles } from '../../src/service/connect.ts'
import { anchorsOf } from '../support/anchors.ts'
import { parseExpression, scrapedSeries, unknownIn } from './promql.ts'

interface Rule {
  alert: string
  expr: string
  for?: string
  labels: { severity: string; cause?: string }
  annotations: { summary: string; description: string; runbook_url: string }
}

const root = new URL('../../', import.meta.url)
const read = (path: string) => readFileSync(new URL(path, root), 'utf8')
const { groups } = parse(read('deploy/prometheus/alerts.yaml')) as { groups: { name: string; rules: Rule[] }[] }
const rules = groups.flatMap((group) => group.rules)
const runbook = read('docs/runbook.md')

/** Values that a label can have, where the code has a closed list of them. */
const values: Record<string, readonly string[]> = {
  cause: Object.keys(causes),
  service: services,
  downstream: [...services, 'auth', 'cart'],
  role: allRoles,
  queue: ['checkout', 'payment', 'stock'],
  component: ['postgres', 'redis', 'kafka'],
  route: ['/order/v1/orders/checkout'], // as test/api/ops.test.ts sees it in a scrape
}

test('every alert uses metrics, labels and values that a scrape has', (t) => {
  const series = scrapedSeries()
  t.true(rules.length > 40)
  for (const { alert, expr } of rules) {
    const expression = parseExpression(expr)
    t.deepEqual(unknownIn(expression, series), [], alert)
    for (const { label, value, operator } of expression.selectors.flatMap(({ matchers }) => matchers)) {
      if (values[label] && !operator.includes('~')) t.true(values[label].includes(value), `${alert}: ${label}="${value}"`)
    }
  }
})

test('every alert has a severity, a description, a name of its own and a section of the runbook', (t) => {
  const anchors = anchorsOf(runbook)
  t.is(new Set(rules.map(({ alert }) => alert)).size, rules.length)
  for (const { alert, labels, annotations } of rules) {
    t.regex(labels.severity, /^(page|ticket)$/, alert)
    t.regex(annotations.description, /\.$/, alert)
    const [, anchor = ''] = /^https:\/\/.+\/docs\/runbook\.md#(.+)$/.exec(annotations.runbook_url) ?? []
    t.true(anchors.includes(anchor), `${alert}: ${annotations.runbook_url}`)
  }
})

test('every cause has an alert with its sentence and its section, and that section names the alert', (t) => {
  for (const [cause, { sentence }] of Object.entries(causes)) {
    const ofCause = rules.filter(({ labels }) => labels.cause === cause)
    const section = runbook.split(/^## /m).find((part) => part.startsWith(`${cause}\n`)) ?? ''
    t.true(ofCause.length > 0, `${cause} has no alert`)
    for (const { alert, annotations } of ofCause) {
      t.is(annotations.summary, sentence.replace('{service}', '{{ $labels.service | title }}'), alert)
      t.true(annotations.runbook_url.endsWith(`#${cause}`), alert)
      t.true(section.includes(`\`${alert}\``), `${cause}: the runbook does not name ${alert}`)
    }
  }
  t.deepEqual(
    rules.filter(({ labels: { cause } }) => cause !== undefined && !isCause(cause)),
    [],
  )
})

test('a cause whose customers are refused wakes somebody up', (t) => {
  for (const [cause, { severity }] of Object.entries(causes)) {
    if (severity === 'refused')
      t.true(
        rules.some(({ labels }) => labels.cause === cause && labels.severity === 'page'),
        cause,
      )
  }
})

const promtool = (...args: string[]) => spawnSync('promtool', args, { encoding: 'utf8', cwd: root, timeout: 60_000 })
const isInstalled = promtool('--version').status === 0
const testWithPromtool = isInstalled ? test : test.skip

testWithPromtool('promtool accepts the rules', (t) => {
  const { status, stdout, stderr } = promtool('check', 'rules', 'deploy/prometheus/alerts.yaml')
  t.is(status, 0, stdout + stderr)
})

testWithPromtool('the alerts begin with their fault and end with it, as deploy/prometheus/alerts.test.yaml says', (t) => {
  const { status, stdout, stderr } = promtool('test', 'rules', 'deploy/prometheus/alerts.test.yaml')
  t.is(status, 0, stdout + stderr)
})
