/** The dashboard shows metrics that exist, shows all of them, and has no panel on top of another. */
import { readFileSync } from 'node:fs'
import test from 'ava'
import { parseExpression, scrapedSeries, unknownIn } from './promql.ts'

interface Panel {
  id: number
  type: string
  title: string
  datasource?: { uid: string }
  gridPos: { x: number; y: number; w: number; h: number }
  targets?: { expr: string; legendFormat: string; datasource: { uid: string } }[]
}

interface Dashboard {
  uid: string
  templating: { list: { name: string; type: string }[] }
  panels: Panel[]
}

const dashboard = JSON.parse(readFileSync(new URL('../../deploy/grafana/order-service.json', import.meta.url), 'utf8')) as Dashboard
const panels = dashboard.panels.filter(({ type }) => type !== 'row')

/** Grafana's variables stand for durations, or stand inside strings. */
const expressionOf = (text: string) => parseExpression(text.replaceAll(/\$__(rate_interval|interval|range)/g, '1m'))
const expressions = panels.flatMap(({ title, targets = [] }) =>
  targets.map((target) => ({ title, ...target, parsed: expressionOf(target.expr) })),
)

test('every panel uses metrics and labels that a scrape has, also in its legend', (t) => {
  const series = scrapedSeries()
  t.true(panels.length > 30)
  for (const { title, parsed, legendFormat } of expressions) {
    const inLegend = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!)
    t.deepEqual(unknownIn({ ...parsed, groupedBy: [...parsed.groupedBy, ...inLegend] }, series), [], title)
  }
  for (const { title, targets = [] } of panels) t.true(targets.length > 0, `${title} shows nothing`)
})

test('every metric of the service is on a panel', (t) => {
  const shown = new Set(
    expressions.flatMap(({ parsed }) => parsed.selectors.map(({ metric }) => metric.replace(/_(bucket|sum|count)$/, ''))),
  )
  const metrics = [...scrapedSeries().keys()]
    .filter((name) => name.startsWith('order_'))
    .map((name) => name.replace(/_(bucket|sum|count)$/, ''))
  t.deepEqual(
    [...new Set(metrics)].filter((name) => !shown.has(name)),
    [],
  )
})

test('every panel asks the chosen data source for the chosen job', (t) => {
  const variables = dashboard.templating.list.map(({ name, type }) => `${name} ${type}`)
  t.deepEqual(variables, ['datasource datasource', 'job query'])
  for (const { title, datasource } of panels) t.is(datasource?.uid, '${datasource}', title) // oxlint-disable-line no-template-curly-in-string
  for (const { title, parsed, datasource } of expressions) {
    t.is(datasource.uid, '${datasource}', title) // oxlint-disable-line no-template-curly-in-string
    for (const { metric, matchers } of parsed.selectors) {
      t.true(
        matchers.some(({ label, operator, value }) => label === 'job' && operator === '=~' && value === '$job'),
        `${title}: ${metric}`,
      )
    }
  }
})

test('no panel lies on another or beside the grid of 24 columns, and each has an id of its own', (t) => {
  const all = dashboard.panels
  t.is(new Set(all.map(({ id }) => id)).size, all.length)
  const apart = ({ gridPos: a }: Panel, { gridPos: b }: Panel) =>
    a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y
  for (const [index, panel] of all.entries()) {
    t.true(panel.gridPos.x >= 0 && panel.gridPos.x + panel.gridPos.w <= 24, panel.title)
    for (const other of all.slice(index + 1)) t.true(apart(panel, other), `${panel.title} and ${other.title}`)
  }
})
