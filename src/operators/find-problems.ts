/** Finds what is wrong in what was read. Pure: each rule is a function of the facts. */
import { type Cause, causeOfLetter, type ItemKind, type ServiceName } from '../causes.ts'
import type { Process } from '../db/processes.ts'
import type { Facts } from './problem-facts.ts'

/** Waiting items whose last try is this recent still meet their fault: the pause between two tries is up to 10 s, and a call takes up to 5. */
const TRIED_MS = 15_000
/** Jobs, events and messages that wait for longer are behind. At 250 checkouts a second they wait for 20 ms. */
const BEHIND_MS = 3000
const OUTBOX_BEHIND_MS = 5000
/** Payments that came just before their order wait for less. */
const EARLY_MS = 2000
/** Other processes report for the first time within this time of our start. */
const STARTING_MS = 8000

interface ItemCount {
  n: number
  of: ItemKind
}

/** What is known of a problem before the table of causes is asked for its words. */
export interface Found {
  cause: Cause
  service?: ServiceName | null
  counts?: readonly ItemCount[]
  /** Items that wait because of it and were not tried yet. They go on by themselves: no verb helps them. */
  untried?: readonly ItemCount[]
  since: Date
  oldest?: { kind: ItemKind; id: number; orderId: number | null; since: Date } | null
  evidence: string
  queue?: string
}

export interface FoundProblems {
  active: Found[]
  afterEffects: Found[]
}

/** `active`: what is wrong now. `afterEffects`: items that wait for their next try although their fault is over. In no order. */
export function findProblems(facts: Facts): FoundProblems {
  const faults = findFaults(facts)
  const isFailing = (service: ServiceName) => faults.active.some((one) => one.service === service)
  const rest = [
    ...findContention(facts, isFailing('catalog')),
    ...findProducts(facts),
    ...findMissing(facts),
    ...findQueues(facts, isFailing('catalog') || isFailing('shipping')),
    ...findKafka(facts),
    ...findLetters(facts),
    ...findStalled(facts),
  ]
  return { active: [...faults.active, ...rest], afterEffects: faults.afterEffects }
}

/** Causes that another rule finds, from other facts or together with them. */
const foundElsewhere = new Set<Cause>(['product-contended', 'row-locked', 'redis-unavailable'])

const key = (cause: Cause, service: ServiceName | null) => `${cause} ${service ?? ''}`
const at = (time: number) => new Date(time)

interface Signs {
  cause: Cause
  service: ServiceName | null
  since: number
  evidence: string
  isActive: boolean
}

/** Faults of steps: from failed attempts, failing services, and items that wait. */
function findFaults(facts: Facts): FoundProblems {
  const signs = new Map<string, Signs>()
  const add = (sign: Signs) => {
    const known = signs.get(key(sign.cause, sign.service))
    const evidence = known?.evidence || sign.evidence
    const since = Math.min(sign.since, known?.since ?? Infinity)
    signs.set(key(sign.cause, sign.service), { ...sign, since, evidence, isActive: sign.isActive || (known?.isActive ?? false) })
  }
  for (const { status } of facts.processes) {
    for (const { service, failingSince, cause, error } of status.services) {
      if (service === 'kafka' || failingSince === null || cause === null) continue
      add({ cause, service, since: failingSince, evidence: error ?? '', isActive: true })
    }
    // An early payment is found by its row, for as long as it waits.
    for (const { cause, service, at: failedAt, since } of status.failures.filter((one) => one.cause !== 'payment-early'))
      if (!hasAnsweredSince(status, service, failedAt)) add({ cause, service, since, evidence: '', isActive: true })
  }
  for (const { cause, service, lastTriedAt, oldest, lastError } of facts.items) {
    const isOld = cause !== 'payment-early' || facts.now - oldest.since.getTime() > EARLY_MS
    const isActive = isOld && facts.now - lastTriedAt.getTime() < TRIED_MS
    add({ cause, service, since: oldest.since.getTime(), evidence: lastError, isActive })
  }
  const found = [...signs.values()]
    .filter(({ cause }) => !foundElsewhere.has(cause))
    .map((sign) => ({ sign, found: withItems(facts, sign) }))
  const active = found.filter(({ sign }) => sign.isActive && !isFresh(facts, sign)).map((one) => one.found)
  return {
    // A payment that came early a moment ago is neither a problem nor what is left of one.
    active: active.map((one) => (one === active.find(({ service }) => service === 'catalog') ? withUntried(facts, one) : one)),
    afterEffects: found.filter(({ sign }) => !sign.isActive && !isFresh(facts, sign)).map((one) => one.found),
  }
}

/** While Catalog's breaker is open, the jobs of payments wait and are not tried. */
function withUntried({ untried }: Facts, found: Found): Found {
  if (untried.payments === 0) return found
  const evidence = `${found.evidence}; ${untried.payments} payments are not tried before Catalog works again`
  return { ...found, evidence, untried: [{ of: 'payment', n: untried.payments }] }
}

/** Calls that failed a while after their service came back were still under way then. */
const hasAnsweredSince = ({ services }: Process['status'], service: ServiceName | null, failedAt: number): boolean =>
  services.some((one) => one.service === service && one.failingSince === null && (one.lastAnswerAt ?? 0) > failedAt)

const isFresh = (facts: Facts, { cause, since }: Signs) => cause === 'payment-early' && facts.now - since <= EARLY_MS

function withItems(facts: Facts, { cause, service, since, evidence }: Omit<Signs, 'isActive'>): Found {
  const items = facts.items.filter((one) => one.cause === cause && one.service === service)
  const [first] = items.toSorted((a, b) => a.oldest.since.getTime() - b.oldest.since.getTime())
  return {
    cause,
    service,
    since: at(since),
    evidence: evidence || (items[0]?.lastError ?? 'attempts fail'),
    counts: items.map(({ kind, count }) => ({ of: kind, n: count })),
    oldest: first ? { kind: first.kind, ...first.oldest } : null,
  }
}

/** @param isCatalogFailing then customers wait for Catalog, and not for each other */
function findContention(facts: Facts, isCatalogFailing: boolean): Found[] {
  const waits = facts.processes.flatMap(({ status }) => status.contended)
  const ofCause = (cause: 'product-contended' | 'row-locked', isLocked: boolean): Found[] => {
    const products = waits.filter((one) => one.isLocked === isLocked)
    const failures = facts.processes.flatMap(({ status }) => status.failures.filter((one) => one.cause === cause))
    const items = facts.items.filter((one) => one.cause === cause && facts.now - one.lastTriedAt.getTime() < TRIED_MS)
    if (products.length + failures.length + items.length === 0) return []
    const since = Math.min(...[...products, ...failures].map((one) => one.since), ...items.map(({ oldest }) => oldest.since.getTime()))
    const [first] = products.toSorted((a, b) => b.waiting - a.waiting)
    const evidence = first
      ? `product ${first.productId}: ${first.waiting} wait, the first for ${Math.round((facts.now - first.since) / 1000)} s`
      : ''
    return [withItems(facts, { cause, service: null, since, evidence })]
  }
  return [...(isCatalogFailing ? [] : ofCause('product-contended', false)), ...ofCause('row-locked', true)]
}

const findProducts = ({ products }: Facts): Found[] =>
  products.map(({ cause, count, units, oldest }) => ({
    cause,
    since: oldest.since,
    counts: [{ of: 'product', n: count }],
    oldest: { kind: 'product', id: oldest.id, orderId: null, since: oldest.since },
    evidence: `${units} units of ${count === 1 ? `product ${oldest.id}` : `${count} products`}`,
  }))

const missing = { worker: 'no-worker', bridge: 'no-bridge', relay: 'no-relay' } as const

/** Roles that no process has reported for six seconds. */
function findMissing({ now, startedAt, processes, lastSeen, untried }: Facts): Found[] {
  if (now - startedAt < STARTING_MS) return []
  return Object.entries(missing)
    .filter(([role]) => !processes.some(({ roles }) => roles.includes(role)))
    .map(([role, cause]) => ({
      cause,
      since: lastSeen.get(role) ?? at(startedAt),
      evidence: `no process with the role ${role} reports itself`,
      untried: cause === 'no-worker' ? waiting({ payment: untried.payments, checkout: untried.checkouts }) : [],
    }))
}

const waiting = (numbers: { payment: number; checkout: number }) =>
  (['payment', 'checkout'] as const).filter((of) => numbers[of] > 0).map((of) => ({ of, n: numbers[of] }))

/** @param isServiceFailing then payments and reconciliations wait for the service on purpose */
function findQueues({ now, queues, processes, drainedSince, untried }: Facts, isServiceFailing: boolean): Found[] {
  const found: Found[] = []
  if (drainedSince) found.push({ cause: 'drained', since: drainedSince, evidence: 'order-admin drain was run' })
  if (!queues) return [...found, { cause: 'redis-unavailable', since: at(now), evidence: 'Redis did not answer within a second' }]
  const works = processes.some(({ roles }) => roles.includes('worker'))
  for (const { name, isPaused, oldestWaitingMs: ms } of queues) {
    const since = at(now - ms)
    const evidence = `the oldest job of the queue ${name} has waited for ${Math.round(ms / 1000)} s`
    const ofQueue = { payment: name === 'payment' ? untried.payments : 0, checkout: name === 'checkout' ? untried.checkouts : 0 }
    if (isPaused) {
      const why = `the queue ${name} is paused${ms > 0 ? `; ${evidence}` : ''}`
      found.push({ cause: 'queue-paused', since, queue: name, evidence: why, untried: waiting(ofQueue) })
    } else if (works && ms > BEHIND_MS && !(isServiceFailing && name !== 'checkout'))
      found.push({ cause: 'workers-behind', since, evidence })
  }
  const failing = processes.flatMap(({ status }) => status.failures.filter(({ cause }) => cause === 'redis-unavailable'))
  if (failing[0])
    found.push({ cause: 'redis-unavailable', since: at(failing[0].since), evidence: 'attempts fail since Redis does not answer' })
  return found
}

function findKafka({ now, processes, outbox, undeliverable, drainedSince }: Facts): Found[] {
  const found: Found[] = []
  const failing = servicesOf(processes).find(({ service, failingSince }) => service === 'kafka' && failingSince !== null)
  const ageMs = outbox.oldestSeconds * 1000
  const isRelayHere = processes.some(({ roles }) => roles.includes('relay'))
  if (failing || (isRelayHere && ageMs > OUTBOX_BEHIND_MS)) {
    found.push({
      cause: 'kafka-unavailable',
      since: at(failing?.failingSince ?? now - ageMs),
      counts: outbox.unsent > 0 ? [{ of: 'event', n: outbox.unsent }] : [],
      evidence: failing?.error ?? `the oldest event has waited for ${Math.round(ageMs / 1000)} s`,
    })
  }
  if (undeliverable) {
    const { count, oldest, reason } = undeliverable
    found.push({
      cause: 'event-undeliverable',
      since: oldest.since,
      counts: [{ of: 'event', n: count }],
      oldest: { kind: 'event', ...oldest },
      evidence: reason,
    })
  }
  const behind = processes.find(({ status }) => now - (status.bridge?.since ?? now) > BEHIND_MS)?.status.bridge
  if (behind && !drainedSince && !failing)
    found.push({ cause: 'bridge-behind', since: at(behind.since!), evidence: `${behind.lag} messages wait on the payment topic` })
  return found
}

/** By cause; the faults of one cause are named in the evidence. */
function findLetters({ letters }: Facts): Found[] {
  const byCause = Map.groupBy(letters, ({ fault }) => causeOfLetter[fault])
  return [...byCause].map(([cause, those]) => {
    const [first] = those.toSorted((a, b) => a.oldest.since.getTime() - b.oldest.since.getTime())
    return {
      cause,
      since: first!.oldest.since,
      counts: [{ of: 'letter', n: those.reduce((sum, { count }) => sum + count, 0) }],
      oldest: { kind: 'letter', ...first!.oldest },
      evidence: those.map(({ fault, count, reason }) => `${count} ${fault}: ${reason}`).join('; '),
    }
  })
}

const findStalled = ({ now, processes }: Facts): Found[] =>
  processes.flatMap(({ process, status }) =>
    status.stalled.map(({ component, reason }) => ({
      cause: 'component-stalled',
      since: at(now),
      evidence: `${component} of ${process}: ${reason}`,
    })),
  )

const servicesOf = (processes: readonly Process[]) => processes.flatMap(({ status }) => status.services)
