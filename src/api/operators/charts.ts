/** Charts of the first page, as SVG made here. Loaded at the first chart, because few processes ever show one. */
import { scaleLinear } from 'd3-scale'
import { line } from 'd3-shape'
import { type Minute, MINUTES } from '../../operators/overview.ts'
import { type Html, html } from './html.ts'

const MINUTE_MS = 60_000
const size = { width: 340, height: 130, left: 48, right: 6, top: 8, bottom: 20 }

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** From the smallest, each up to so many ms. */
const durations = [
  { unit: 'ms', size: 1, below: 1000 },
  { unit: 's', size: 1000, below: 120_000 },
  { unit: 'min', size: 60_000, below: 7_200_000 },
  { unit: 'h', size: 3_600_000, below: Infinity },
]
const unitOf = (ms: number) => durations.find(({ below }) => ms < below) ?? durations[0]!

/** `120 ms`, `1.5 s`, `3 min` */
export function duration(ms: number): string {
  const { unit, size: inMs } = unitOf(ms)
  const n = ms / inMs
  return `${n < 10 && inMs > 1 ? Number(n.toFixed(1)) : Math.round(n)} ${unit}`
}

interface Chart {
  title: string
  format: (value: number) => string
  /** By the names of their series. */
  series: Record<string, (minute: Minute) => number | null>
  /** What a minute without a row was; null: not known. */
  missing: 0 | null
}

const charts: readonly Chart[] = [
  {
    title: 'Checkouts a minute',
    format: (n) => grouped.format(n),
    series: { created: (m) => m.created, rejected: (m) => m.rejected, cancelled: (m) => m.cancelled, paid: (m) => m.paid },
    missing: 0,
  },
  {
    title: 'Answer time of checkouts',
    format: duration,
    series: { p50: (m) => m.answerP50Ms, p95: (m) => m.answerP95Ms },
    missing: null,
  },
  { title: 'Payments: from message to PAID', format: duration, series: { p95: (m) => m.paymentP95Ms }, missing: null },
  { title: 'Oldest waiting job', format: duration, series: { age: (m) => m.queueAgeMs }, missing: null },
  { title: 'Oldest event in the outbox', format: duration, series: { age: (m) => m.outboxAgeMs }, missing: null },
]

interface Point {
  at: number
  value: number | null
}

/** One point for each of the last three hours' minutes. */
function pointsOf(minutes: readonly Minute[], now: Date, read: (minute: Minute) => number | null, missing: 0 | null): Point[] {
  const byTime = new Map(minutes.map((minute) => [minute.minute.getTime(), minute]))
  const last = Math.floor(now.getTime() / MINUTE_MS) * MINUTE_MS
  return Array.from({ length: MINUTES }, (_, n) => {
    const at = last - (MINUTES - 1 - n) * MINUTE_MS
    const minute = byTime.get(at)
    return { at, value: minute ? read(minute) : missing }
  })
}

/** The latest value and the highest, in words: what a chart says to those who do not see it. */
function inWords(points: readonly Point[], format: Chart['format']): string {
  const known = points.filter((point): point is { at: number; value: number } => point.value !== null)
  const latest = known.at(-1)
  if (!latest) return 'no values'
  const highest = known.reduce((one, other) => (other.value > one.value ? other : one))
  if (highest.value === 0) return 'none'
  return `latest ${format(latest.value)}, highest ${format(highest.value)} at ${new Date(highest.at).toISOString().slice(11, 16)} UTC`
}

type Scale = ReturnType<typeof scaleLinear<number>>

/** Round numbers of the unit that fits the highest value: an axis of minutes has a line at each 2 min, not at each 100 s. */
function yScale(highest: number, format: Chart['format']): { y: Scale; levels: number[] } {
  const inUnit = format === duration ? unitOf(highest).size : 1
  const units = scaleLinear([0, Math.max(1, highest / inUnit)], [0, 1]).nice(3)
  const levels = units.ticks(3).map((level) => level * inUnit)
  const top = units.domain()[1]! * inUnit
  return { y: scaleLinear([0, top], [size.height - size.bottom, size.top]), levels: levels.filter(Number.isInteger) }
}

function axes(x: Scale, { y, levels }: ReturnType<typeof yScale>, last: number, format: Chart['format']): Html {
  const right = size.width - size.right
  return html`<g aria-hidden="true">${levels.map(
    (level) => html`<line class="axis" x1="${size.left}" x2="${right}" y1="${y(level)}" y2="${y(level)}"></line>
    <text x="${size.left - 4}" y="${y(level) + 4}" text-anchor="end">${format(level)}</text>`,
  )}${[2, 1, 0].map((hours) => {
    const text = hours === 0 ? 'now' : `${hours} h ago`
    return html`<text x="${x(last - hours * 60 * MINUTE_MS)}" y="${size.height - 4}" text-anchor="${hours === 0 ? 'end' : 'middle'}">${text}</text>`
  })}</g>`
}

function figure({ title, format, series, missing }: Chart, id: string, minutes: readonly Minute[], now: Date): Html {
  const lines = Object.entries(series).map(([name, read]) => ({ name, points: pointsOf(minutes, now, read, missing) }))
  const values = lines.flatMap(({ points }) => points.map(({ value }) => value ?? 0))
  const [first, last] = [lines[0]!.points[0]!.at, lines[0]!.points.at(-1)!.at]
  const x = scaleLinear([first, last], [size.left, size.width - size.right])
  const vertical = yScale(Math.max(...values), format)
  const path = line<Point>(
    ({ at }) => x(at),
    ({ value }) => vertical.y(value ?? 0),
  )
    .defined(({ value }) => value !== null)
    .digits(1)
  const said = lines.map(({ name, points }) => ({ name, words: inWords(points, format) }))
  return html`<figure>
    <figcaption>${title}</figcaption>
    <svg viewBox="0 0 ${size.width} ${size.height}" role="img" aria-labelledby="${id}-title ${id}-desc">
      <title id="${id}-title">${title}, the last three hours</title>
      <desc id="${id}-desc">${said.map(({ name, words }) => `${name}: ${words}`).join('; ')}</desc>
      ${axes(x, vertical, last, format)}
      ${lines.map(({ points }, at) => html`<path class="line series-${at}" d="${path(points) ?? ''}"></path>`)}
    </svg>
    ${said.map(({ name, words }, at) => html`<p><span class="key series-${at}">${name}</span>: ${words}</p>`)}
  </figure>`
}

/** @param now the end of the charts */
export const drawCharts = (minutes: readonly Minute[], now: Date): Html =>
  html`<div class="charts">${charts.map((chart, at) => figure(chart, `chart-${at}`, minutes, now))}</div>`
