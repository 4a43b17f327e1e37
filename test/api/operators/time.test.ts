import test from 'ava'
import { age, liveAge, time } from '../../../src/api/operators/time.ts'

const now = new Date('2026-11-28T14:03:22.500Z')
const before = (seconds: number) => age(new Date(now.getTime() - seconds * 1000), now)

test('a time on an operators’ page is UTC, and machines can read it', (t) => {
  t.is(String(time(now)), '<time datetime="2026-11-28T14:03:22.500Z">2026-11-28 14:03:22 UTC</time>')
})

test('an age is told in words, in its largest unit', (t) => {
  t.deepEqual([-5, 0, 1, 59, 60, 3599, 3600, 7300, 86_400, 200_000].map(before), [
    '0 seconds',
    '0 seconds',
    '1 second',
    '59 seconds',
    '1 minute',
    '59 minutes',
    '1 hour',
    '2 hours',
    '1 day',
    '2 days',
  ])
  t.regex(String(liveAge(now)), /^<time datetime="2026-11-28T14:03:22.500Z" title="2026-11-28 14:03:22 UTC" data-age>\d+ \w+<\/time>$/)
})
