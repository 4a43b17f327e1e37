import test from 'ava'
import { drawCharts, duration } from '../../../src/api/operators/charts.ts'
import { minuteWith, since } from '../../support/problems.ts'

const before = (minutes: number) => new Date(Math.floor(since.getTime() / 60_000 - minutes) * 60_000)

test('a duration on a page has a fitting unit', (t) => {
  t.deepEqual([0, 999, 1500, 90_000, 180_000, 7_200_000].map(duration), ['0 ms', '999 ms', '1.5 s', '90 s', '3 min', '2 h'])
})

test('a chart says its latest and highest values in words, and skips minutes that nobody knows', (t) => {
  const minutes = [
    minuteWith({ minute: before(4), created: 30, answerP95Ms: 900 }),
    minuteWith({ minute: before(1), created: 12, answerP95Ms: 1200 }),
  ]
  const [checkouts = '', answers = ''] = String(drawCharts(minutes, since)).split('</figure>')
  t.regex(checkouts, /<title id="chart-0-title">Checkouts a minute, the last three hours<\/title>/)
  t.regex(checkouts, /created: latest 0, highest 30 at 13:59 UTC/)
  t.regex(answers, /p50: no values; p95: latest 1\.2 s, highest 1\.2 s at 14:02 UTC/)
  const [, line = ''] = answers.match(/class="line series-1" d="([^"]*)"/) ?? []
  t.is(line.match(/M/g)?.length, 2)
  t.notRegex(checkouts, /NaN/)
})

test('charts without a minute are drawn', (t) => {
  const drawn = String(drawCharts([], since))
  t.notRegex(drawn, /NaN|undefined/)
  t.is(drawn.match(/<svg/g)?.length, 5)
})
