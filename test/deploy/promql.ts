/** Reads expressions of Prometheus: which metrics they use, and which labels. */
import { parser } from '@prometheus-io/lezer-promql'
import { createMetrics } from '../../src/telemetry/metrics.ts'

interface Selector {
  metric: string
  /** Matchers as they are written: `=`, `!=`, `=~` or `!~`. */
  matchers: { label: string; operator: string; value: string }[]
}

interface Expression {
  selectors: Selector[]
  /** Labels of `by`, `without`, `on` and `ignoring`. */
  groupedBy: string[]
}

/** @throws where Prometheus could not parse it, or where a selector has no metric */
export function parseExpression(text: string): Expression {
  const selectors: Selector[] = []
  const groupedBy: string[] = []
  const of = (node: { from: number; to: number }) => text.slice(node.from, node.to)
  parser.parse(text).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`not an expression at ${node.from}: ${text}`)
      if (node.name === 'VectorSelector') {
        const metric = node.node.getChild('Identifier')
        if (!metric) throw new Error(`a selector without a metric: ${of(node)}`)
        selectors.push({ metric: of(metric), matchers: [] })
      }
      if (node.name === 'UnquotedLabelMatcher') {
        const [label, operator, value] = ['LabelName', 'MatchOp', 'StringLiteral'].map((name) => of(node.node.getChild(name)!))
        selectors.at(-1)!.matchers.push({ label: label!, operator: operator!, value: value!.slice(1, -1) })
      }
      if (node.name === 'GroupingLabels') groupedBy.push(...node.node.getChildren('LabelName').map(of))
    },
  })
  return { selectors, groupedBy }
}

interface Metric {
  name: string
  type: string
  labelNames: string[]
}

/** The labels that Prometheus adds to what it scrapes. */
const SCRAPED = ['job', 'instance']

/** Every series of a process by its name, with its labels, and `up`, which Prometheus makes. */
export function scrapedSeries(): Map<string, Set<string>> {
  const series = new Map([['up', new Set(SCRAPED)]])
  const { registry } = createMetrics()
  for (const { name, type, labelNames } of registry.getMetricsAsArray() as unknown as Metric[]) {
    const labels = [...labelNames, ...SCRAPED]
    if (type !== 'histogram') series.set(name, new Set(labels))
    else for (const end of ['bucket', 'sum', 'count']) series.set(`${name}_${end}`, new Set(end === 'bucket' ? [...labels, 'le'] : labels))
  }
  return series
}

/** @returns what an expression uses and no process has, in words */
export function unknownIn({ selectors, groupedBy }: Expression, series: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const known = new Set<string>()
  const unknown: string[] = []
  for (const { metric, matchers } of selectors) {
    const labels = series.get(metric)
    if (!labels) unknown.push(`metric ${metric}`)
    for (const label of labels ?? []) known.add(label)
    for (const { label } of matchers) if (!labels?.has(label)) unknown.push(`label ${label} of ${metric}`)
  }
  return [...unknown, ...groupedBy.filter((label) => !known.has(label)).map((label) => `label ${label} to group by`)]
}
