/** Reads metrics back, for what this process reports of itself. */
import type { Counter, Histogram } from 'prom-client'
import type { Metrics } from './metrics.ts'

export interface Total {
  /** Tells the labels' values apart. */
  key: string
  labels: Record<string, string>
  value: number
}

export async function totalsOf(counter: Counter): Promise<Total[]> {
  const { values } = await counter.get()
  return values.map(({ labels, value }) => ({ key: JSON.stringify(labels), labels: labels as Record<string, string>, value }))
}

/** @returns how many observations with these labels fell into each bucket, and, last, above all of them */
export async function histogramOf(histogram: Histogram, wanted: Record<string, string> = {}): Promise<number[]> {
  const { values } = await histogram.get()
  const cumulated = new Map<string, number>()
  for (const { metricName, labels, value } of values) {
    const { le, ...rest } = labels as Record<string, string>
    if (!metricName?.endsWith('_bucket') || Object.entries(wanted).some(([name, text]) => rest[name] !== text)) continue
    cumulated.set(String(le), (cumulated.get(String(le)) ?? 0) + value)
  }
  const counts = [...cumulated.values()]
  return counts.map((count, i) => count - (counts[i - 1] ?? 0))
}

/** Calls and failed calls by downstream service. */
export type CallCounts = ReadonlyMap<string, { calls: number; failures: number }>

const FAILED = new Set(['5xx', 'unsent', 'unanswered'])

export async function countCalls({ downstreamSeconds }: Pick<Metrics, 'downstreamSeconds'>): Promise<CallCounts> {
  const counts = new Map<string, { calls: number; failures: number }>()
  const { values } = await downstreamSeconds.get()
  for (const { metricName, labels, value } of values) {
    if (!metricName?.endsWith('_count')) continue
    const name = String(labels.downstream)
    const { calls, failures } = counts.get(name) ?? { calls: 0, failures: 0 }
    counts.set(name, { calls: calls + value, failures: failures + (FAILED.has(String(labels.answer)) ? value : 0) })
  }
  return counts
}

/** @returns a function that takes totals at regular times, and returns their growth over the last `most` times */
export function createRates(most: number): (totals: CallCounts) => CallCounts {
  const kept: CallCounts[] = []
  return (totals) => {
    kept.push(totals)
    if (kept.length > most) kept.shift()
    const first = kept[0]!
    return new Map(
      [...totals].map(([name, { calls, failures }]) => [
        name,
        { calls: calls - (first.get(name)?.calls ?? 0), failures: failures - (first.get(name)?.failures ?? 0) },
      ]),
    )
  }
}
