/** Problems, services and minutes for tests of what pages show. */
import type { Item } from '../../src/operators/orders.ts'
import type { Minute, Overview, Overviews } from '../../src/operators/overview.ts'
import type { Problem } from '../../src/operators/problems.ts'

export const since = new Date('2026-11-28T14:03:22.000Z')

export const problemWith = (changes: Partial<Problem> = {}): Problem => ({
  cause: 'downstream-unreachable',
  service: 'catalog',
  severity: 'refused',
  sentence: 'Catalog refuses connections',
  counts: [{ n: 10_000, isMore: true, of: 'payment' }],
  since,
  oldest: { kind: 'payment', id: 77, orderId: 7, since },
  evidence: 'connect ECONNREFUSED',
  next: 'Payments are retried within 10 s after Catalog works again.',
  actions: ['retry-payments', 'retry-checkouts'],
  ...changes,
})

export const itemWith = (changes: Partial<Item> = {}): Item => ({
  kind: 'payment',
  id: 77,
  orderId: 7,
  since,
  attempts: 3,
  evidence: 'connect ECONNREFUSED',
  nextTryAt: since,
  ...changes,
})

export const minuteWith = (changes: Partial<Minute> = {}): Minute => ({
  minute: since,
  created: 0,
  rejected: 0,
  cancelled: 0,
  paid: 0,
  answerP50Ms: null,
  answerP95Ms: null,
  paymentP95Ms: null,
  queueAgeMs: 0,
  outboxAgeMs: 0,
  ...changes,
})

/** What the pages read, as it stands. */
export function overviewsWith(changes: Partial<Overview> = {}): Overviews {
  const overview: Overview = { problems: [], afterEffects: [], services: [], minutes: [], readAt: since, ...changes }
  return { overview: async () => overview, problems: async () => overview.problems }
}
