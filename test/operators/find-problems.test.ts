import test from 'ava'
import type { ProcessStatus } from '../../src/db/processes.ts'
import type { Facts } from '../../src/operators/problem-facts.ts'
import { problemsOf } from '../../src/operators/problems.ts'

const now = Date.parse('2026-11-28T03:00:00Z')
const ago = (ms: number) => new Date(now - ms)

const status = (changes: Partial<ProcessStatus> = {}): ProcessStatus => ({
  services: [],
  failures: [],
  contended: [],
  bridge: null,
  stalled: [],
  ...changes,
})

/** All roles in one process, and nothing to do. */
function factsWith(changes: Partial<Facts> = {}, reported: Partial<ProcessStatus> = {}): Facts {
  const roles = ['web', 'worker', 'bridge', 'relay']
  return {
    now,
    startedAt: now - 3_600_000,
    processes: [{ process: 'host:1', roles, startedAt: ago(3_600_000), status: status(reported) }],
    lastSeen: new Map(),
    items: [],
    untried: { payments: 0, checkouts: 0 },
    letters: [],
    products: [],
    undeliverable: undefined,
    outbox: { unsent: 0, oldestSeconds: 0, undeliverable: 0 },
    drainedSince: undefined,
    queues: [{ name: 'checkout', isPaused: false, oldestWaitingMs: 20 }],
    ...changes,
  }
}

const payments = (changes: Partial<Facts['items'][number]> = {}): Facts['items'][number] => ({
  kind: 'payment',
  cause: 'downstream-error',
  service: 'catalog',
  count: 3,
  oldest: { id: 7, orderId: 70, since: ago(60_000) },
  lastError: 'catalog commit: status 500',
  lastTriedAt: ago(4000),
  ...changes,
})

const failing = (cause: 'downstream-unreachable' | 'downstream-timeout', service: 'catalog' | 'shipping' = 'catalog') => ({
  services: [{ service, lastAnswerAt: null, failingSince: now - 5000, cause, error: 'probe: ECONNREFUSED', calls: 9, failures: 9 }],
})

const causesOf = (facts: Facts) => problemsOf(facts).problems.map(({ cause }) => cause)

test('a quiet service has no problem', (t) => {
  t.deepEqual(problemsOf(factsWith()), { problems: [], afterEffects: [] })
})

test('a failing service is a problem with its name, its error and all that waits for it', (t) => {
  const items = [payments({ cause: 'downstream-unreachable', count: 10_001 })]
  const { problems } = problemsOf(factsWith({ items }, failing('downstream-unreachable')))
  t.is(problems.length, 1)
  t.like(problems[0], {
    cause: 'downstream-unreachable',
    service: 'catalog',
    sentence: 'Catalog refuses connections',
    counts: [{ n: 10_000, isMore: true, of: 'payment' }],
    evidence: 'probe: ECONNREFUSED',
    oldest: { kind: 'payment', id: 7, orderId: 70 },
    actions: ['retry-payments'],
  })
  t.regex(problems[0]!.next, /Catalog works again/)
})

test('payments that wait untried for a failing Catalog are counted with the others, and no action is offered for them', (t) => {
  const untried = { payments: 25, checkouts: 0 }
  const fault = failing('downstream-unreachable')
  const [both] = problemsOf(factsWith({ items: [payments({ cause: 'downstream-unreachable', count: 5 })], untried }, fault)).problems
  t.like(both, { counts: [{ n: 30, isMore: false, of: 'payment' }], actions: ['retry-payments'] })
  const [alone] = problemsOf(factsWith({ untried }, fault)).problems
  t.like(alone, { counts: [{ n: 25, isMore: false, of: 'payment' }], actions: [] })
  t.regex(alone!.evidence, /25 payments are not tried before Catalog works again/)
})

test('without a worker, and while a queue is paused, what waits untried is counted', (t) => {
  const untried = { payments: 2, checkouts: 3 }
  const [one] = factsWith().processes
  const processes = [{ ...one!, roles: ['web', 'bridge', 'relay'] }]
  t.deepEqual(problemsOf(factsWith({ processes, untried })).problems[0]!.counts, [
    { n: 2, isMore: false, of: 'payment' },
    { n: 3, isMore: false, of: 'checkout' },
  ])
  const queues = [{ name: 'payment', isPaused: true, oldestWaitingMs: 9000 }]
  t.deepEqual(problemsOf(factsWith({ queues, untried })).problems[0]!.counts, [{ n: 2, isMore: false, of: 'payment' }])
  t.deepEqual(causesOf(factsWith({ untried })), [], 'work that waits for a moment is no problem of its own')
})

test('payments that are still tried in vain are a problem although the service answers others', (t) => {
  t.deepEqual(causesOf(factsWith({ items: [payments()] })), ['downstream-error'])
})

test('payments that wait after their fault is over are no problem, but an after-effect that can be retried', (t) => {
  const { problems, afterEffects } = problemsOf(factsWith({ items: [payments({ lastTriedAt: ago(20_000) })] }))
  t.deepEqual(problems, [])
  t.like(afterEffects[0], { cause: 'downstream-error', service: 'catalog', actions: ['retry-payments'] })
})

test('an attempt that failed a moment ago is a problem before anything waits for long', (t) => {
  const failures = [{ cause: 'internal-error' as const, service: null, at: now - 1000, since: now - 3000 }]
  t.like(problemsOf(factsWith({}, { failures })).problems[0], { cause: 'internal-error', since: ago(3000), counts: [] })
})

test('the worst problem comes first: refused customers, then what a person decides, then what catches up', (t) => {
  const facts = factsWith(
    {
      items: [payments({ cause: 'payment-early', service: null })],
      letters: [{ fault: 'wrong-amount', count: 2, oldest: { id: 1, orderId: 5, since: ago(90_000) }, reason: '1 USD was paid' }],
    },
    failing('downstream-timeout', 'shipping'),
  )
  t.deepEqual(causesOf(facts), ['downstream-timeout', 'payment-mismatch', 'payment-early'])
})

test('a payment that came a moment before its order is neither a problem nor an after-effect', (t) => {
  const items = [payments({ cause: 'payment-early', service: null, oldest: { id: 1, orderId: 5, since: ago(500) } })]
  const failures = [{ cause: 'payment-early' as const, service: null, at: now - 100, since: now - 60_000 }]
  t.deepEqual(problemsOf(factsWith({ items }, { failures })), { problems: [], afterEffects: [] })
})

test('customers who wait for a product while Catalog fails wait for Catalog, and not for each other', (t) => {
  const contended = [{ productId: 9, waiting: 40, since: now - 4000, isLocked: false }]
  t.deepEqual(causesOf(factsWith({}, { contended })), ['product-contended'])
  t.deepEqual(causesOf(factsWith({}, { contended, ...failing('downstream-timeout') })), ['downstream-timeout'])
})

test('a product whose row a session keeps locked is told apart from one that sells well', (t) => {
  const contended = [{ productId: 9, waiting: 2, since: now - 4000, isLocked: true }]
  const [problem] = problemsOf(factsWith({}, { contended })).problems
  t.like(problem, { cause: 'row-locked', evidence: 'product 9: 2 wait, the first for 4 s' })
})

for (const [role, cause] of [
  ['worker', 'no-worker'],
  ['bridge', 'no-bridge'],
  ['relay', 'no-relay'],
] as const) {
  test(`without a process of the role ${role} the problem ${cause} names when one last reported itself`, (t) => {
    const [one] = factsWith().processes
    const processes = [{ ...one!, roles: one!.roles.filter((name) => name !== role) }]
    const lastSeen = new Map([[role, ago(30_000)]])
    t.like(problemsOf(factsWith({ processes, lastSeen })).problems[0], { cause, since: ago(30_000) })
    t.deepEqual(causesOf(factsWith({ processes, lastSeen, startedAt: now - 3000 })), [], 'others may still start')
  })
}

test('a paused queue is named, and its action resumes that queue', (t) => {
  const queues = [{ name: 'payment', isPaused: true, oldestWaitingMs: 0 }]
  t.like(problemsOf(factsWith({ queues })).problems[0], { cause: 'queue-paused', queue: 'payment', actions: ['resume-queue'] })
})

test('jobs that wait for long are a problem, but not those that wait for a failing service on purpose', (t) => {
  const queues = [{ name: 'payment', isPaused: false, oldestWaitingMs: 9000 }]
  t.deepEqual(causesOf(factsWith({ queues })), ['workers-behind'])
  t.deepEqual(causesOf(factsWith({ queues }, failing('downstream-timeout'))), ['downstream-timeout'])
})

test('Redis that does not answer is a problem', (t) => {
  t.deepEqual(causesOf(factsWith({ queues: undefined })), ['redis-unavailable'])
})

test('a drained service says so, and not that its bridge is behind', (t) => {
  const bridge = { lag: 500, since: now - 60_000 }
  t.deepEqual(causesOf(factsWith({}, { bridge })), ['bridge-behind'])
  t.like(problemsOf(factsWith({ drainedSince: ago(9000) }, { bridge })).problems, {
    0: { cause: 'drained', actions: ['accept-work'] },
    length: 1,
  })
})

test('events that wait for more than five seconds are told as Kafka not accepting them', (t) => {
  t.deepEqual(causesOf(factsWith({ outbox: { unsent: 3, oldestSeconds: 4, undeliverable: 0 } })), [])
  const { problems } = problemsOf(factsWith({ outbox: { unsent: 3, oldestSeconds: 6, undeliverable: 0 } }))
  t.like(problems[0], { cause: 'kafka-unavailable', counts: [{ n: 3, isMore: false, of: 'event' }] })
})

test('dead letters of one cause are one problem, whose evidence names each fault', (t) => {
  const letter = { oldest: { id: 1, orderId: null, since: ago(9000) }, reason: 'not JSON' }
  const letters = [
    { ...letter, fault: 'unreadable' as const, count: 2 },
    { ...letter, fault: 'ambiguous' as const, count: 1 },
  ]
  t.like(problemsOf(factsWith({ letters })).problems, {
    0: {
      cause: 'message-unreadable',
      counts: [{ n: 3, isMore: false, of: 'letter' }],
      evidence: '2 unreadable: not JSON; 1 ambiguous: not JSON',
    },
    length: 1,
  })
})
