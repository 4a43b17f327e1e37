/** Reports what this process sees and does to PostgreSQL, for the operators' pages: every two seconds, whatever else fails. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Check } from '../api/ops.ts'
import { type Cause, faultOf, type ServiceName } from '../causes.ts'
import { lockWaits } from '../db/locked.ts'
import { addToMinute } from '../db/minutes.ts'
import { readLag } from '../db/outbox.ts'
import { endProcess, type ProcessStatus, reportProcess } from '../db/processes.ts'
import { type CallCounts, countCalls, createRates, histogramOf, totalsOf } from '../telemetry/totals.ts'
import { within } from '../within.ts'
import type { Base, ReportSources, Role } from './connect.ts'

/** A problem is shown within 10 s: this, a page's refresh of 5 s, and the time of a fault to show itself. */
const REPORT_EVERY_MS = 2000
/** Every other report asks Kafka, over a connection of its own. */
const KAFKA_EVERY = 2
/** How long a question to Kafka, and the last report of a process that ends, may take. */
const ANSWER_MS = 1500
/** Calls and failures are those of the last minute. */
const RATE_REPORTS = 60_000 / REPORT_EVERY_MS
/**
 * How long a failed attempt, or the failure of a service, is reported: with two reports before and after it, a problem is gone within 10 s.
 * Waiting items are tried less often; `src/operators/find-problems.ts` finds those by their rows.
 */
const FAILURE_MS = 5000
/** With messages on their way there is always some lag: it counts where nothing is committed, or from here on. */
const LAG_THAT_IS_BEHIND = 1000
/** Customers on a product that sells well wait for less. */
const LONG_WAIT_MS = 3000

type Failures = ProcessStatus['failures']

/** Begins to report. @returns a function that stops, and removes the report */
export function startReports(base: Base, roles: ReadonlySet<Role>, checks: readonly Check[]): () => Promise<void> {
  const { pool, clock, logger, report: sources } = base
  const self = { process: `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`, roles: [...roles], startedAt: new Date() }
  const stopping = new AbortController()
  const failures = watchFailures(base)
  const kafka = watchKafka(base, roles)
  const minutes = watchMinutes(base, roles)
  const rates = createRates(RATE_REPORTS)

  async function reportOnce(): Promise<void> {
    void sources.probeFailing?.() // the next report has its result
    // Both at once: while Kafka hangs, a process that asked one after the other would soon count as gone.
    const [ofKafka, bridge] = await Promise.all([kafka.services(), kafka.bridge()])
    const status: ProcessStatus = {
      services: [...servicesOf(sources, rates(await countCalls(base.metrics)), clock.databaseTime() - Date.now()), ...ofKafka],
      failures: await failures(),
      contended: contendedOf(base),
      bridge,
      stalled: await stalledOf(checks),
    }
    await reportProcess(pool, { ...self, status })
    await minutes()
  }

  async function run(): Promise<void> {
    let failed = false
    while (!stopping.signal.aborted) {
      try {
        await reportOnce()
        failed = false
      } catch (error) {
        if (!failed) logger.warn({ err: error }, 'process could not report itself; trying again')
        failed = true
      }
      await sleep(REPORT_EVERY_MS, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const running = run()
  return async () => {
    stopping.abort()
    await within(ANSWER_MS, running).catch(() => {})
    await within(ANSWER_MS, endProcess(pool, self.process)).catch(() => {})
  }
}

/** @param ahead PostgreSQL's clock less this host's, in ms */
function servicesOf({ health }: ReportSources, calls: CallCounts, ahead: number): ProcessStatus['services'] {
  if (!health) return []
  const at = (time: number | null) => (time === null ? null : Math.round(time + ahead))
  return Object.entries(health()).map(([service, { lastAnswerAt, lastFailureAt, failingSince, fault, error }]) => {
    // A service that fails is probed by every report; reads may be answered while writes fail, and nobody writes.
    const isFailing = failingSince !== null && Date.now() - lastFailureAt! < FAILURE_MS
    return {
      service: service as ServiceName,
      lastAnswerAt: at(lastAnswerAt),
      failingSince: isFailing ? at(failingSince) : null,
      cause: isFailing ? (fault?.cause ?? null) : null,
      error: isFailing ? error : null,
      ...(calls.get(service) ?? { calls: 0, failures: 0 }),
    }
  })
}

/** @returns a function for the failures of the last {@link FAILURE_MS}, from the growth of their counter */
function watchFailures({ metrics, clock }: Base): () => Promise<Failures> {
  let before = new Map<string, number>()
  const seen = new Map<string, Failures[number]>()
  return async () => {
    const now = clock.databaseTime()
    const totals = await totalsOf(metrics.failures)
    for (const { key, labels, value } of totals) {
      if (value <= (before.get(key) ?? 0)) continue
      const service = (labels.service || null) as ServiceName | null
      seen.set(key, { cause: labels.cause as Cause, service, at: now, since: seen.get(key)?.since ?? now })
    }
    before = new Map(totals.map(({ key, value }) => [key, value]))
    for (const [key, { at }] of seen) if (now - at > FAILURE_MS) seen.delete(key)
    for (const { since } of lockWaits.values()) {
      if (performance.now() - since > LONG_WAIT_MS)
        seen.set('lock', { cause: 'row-locked', service: null, at: now, since: now - (performance.now() - since) })
    }
    return [...seen.values()]
  }
}

function contendedOf({ report: { longWaits }, clock }: Base): ProcessStatus['contended'] {
  const waits = longWaits?.(LONG_WAIT_MS) ?? []
  return waits.map(({ productId, waiting, ms, isLocked }) => ({ productId, waiting, since: clock.databaseTime() - ms, isLocked }))
}

async function stalledOf(checks: readonly Check[]): Promise<ProcessStatus['stalled']> {
  const progress = checks.filter(({ name }) => name.endsWith('-progress'))
  const reasons = await Promise.all(
    progress.map(async ({ name, check }) => ({ component: name.replace('-progress', ''), reason: await reasonOf(check) })),
  )
  return reasons.flatMap(({ component, reason }) => (reason === undefined ? [] : [{ component, reason }]))
}

const reasonOf = (check: Check['check']): Promise<string | undefined> =>
  check().then(
    () => undefined,
    (error: Error) => error.message,
  )

/** Kafka as relay and bridge see it. */
function watchKafka({ kafka, clock, report: sources }: Base, roles: ReadonlySet<Role>) {
  const concerned = roles.has('relay') || roles.has('bridge')
  let turn = 0
  let lastAnswerAt: number | null = null
  let failing: { since: number; error: string } | undefined
  let lag: { messages: number; committed: number; since: number | null } | undefined

  async function ask(): Promise<void> {
    const now = clock.databaseTime()
    try {
      await within(ANSWER_MS, kafka.reach())
      lastAnswerAt = now
      const error = sources.relayFailure?.()
      // PostgreSQL's faults are reported as failures of their own.
      const isKafkas = error && faultOf(error).cause === 'internal-error'
      failing = isKafkas ? { since: failing?.since ?? now, error: error.message } : undefined
    } catch (error) {
      failing = { since: failing?.since ?? now, error: (error as Error).message }
    }
  }

  async function askLag(): Promise<void> {
    const messages = await within(ANSWER_MS, sources.lag!())
    const committed = sources.committed!()
    const goesOn = committed !== lag?.committed && messages < LAG_THAT_IS_BEHIND
    lag = { messages, committed, since: messages === 0 || goesOn ? null : (lag?.since ?? clock.databaseTime()) }
  }

  return {
    async services(): Promise<ProcessStatus['services']> {
      if (!concerned) return []
      if (turn++ % KAFKA_EVERY === 0) await ask()
      const cause = failing ? ('kafka-unavailable' as const) : null
      return [
        {
          service: 'kafka',
          lastAnswerAt,
          failingSince: failing?.since ?? null,
          cause,
          error: failing?.error ?? null,
          calls: 0,
          failures: 0,
        },
      ]
    },
    async bridge(): Promise<ProcessStatus['bridge']> {
      if (!sources.lag) return null
      if (turn % KAFKA_EVERY === 1) await askLag().catch(() => (lag = undefined)) // Kafka itself is reported above
      return { lag: lag?.messages ?? null, since: lag?.since ?? null }
    },
  }
}

/** @returns a function that adds what happened since its last call to the row of the minute */
function watchMinutes({ pool, metrics, checkoutQueue }: Base, roles: ReadonlySet<Role>): () => Promise<void> {
  const read = async () => {
    const [checkouts, payments, answers, paymentSeconds] = await Promise.all([
      totalsOf(metrics.checkouts),
      totalsOf(metrics.paymentEvents),
      histogramOf(metrics.httpSeconds, { route: '/order/v1/orders/checkout', method: 'POST' }),
      histogramOf(metrics.paymentSeconds),
    ])
    const of = (outcome: string) => checkouts.find(({ labels }) => labels.outcome === outcome)?.value ?? 0
    const paid = payments.find(({ labels }) => labels.result === 'paid')?.value ?? 0
    return { created: of('CREATED'), rejected: of('REJECTED'), cancelled: of('CANCELLED'), paid, answers, payments: paymentSeconds }
  }
  let before: Awaited<ReturnType<typeof read>> | undefined
  return async () => {
    const now = await read()
    const less = (a: readonly number[], b: readonly number[] = []) => a.map((count, i) => count - (b[i] ?? 0))
    const isSeen = roles.has('web')
    const [queueAgeMs, outbox] = isSeen ? await Promise.all([checkoutQueue.oldestWaitingMs(), readLag(pool)]) : [0, { oldestSeconds: 0 }]
    await addToMinute(pool, {
      created: now.created - (before?.created ?? 0),
      rejected: now.rejected - (before?.rejected ?? 0),
      cancelled: now.cancelled - (before?.cancelled ?? 0),
      paid: now.paid - (before?.paid ?? 0),
      answers: less(now.answers, before?.answers),
      payments: less(now.payments, before?.payments),
      queueAgeMs,
      outboxAgeMs: outbox.oldestSeconds * 1000,
    })
    before = now
  }
}
