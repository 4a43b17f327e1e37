/** What the first page shows: problems, the services that we depend on, and the last three hours. */
import { type MinuteRow, readMinutes } from '../db/minutes.ts'
import { paymentBuckets, secondsBuckets } from '../telemetry/metrics.ts'
import { type FactDeps, type Facts, readFacts } from './problem-facts.ts'
import { type Problem, problemsOf, type Problems } from './problems.ts'

export interface ServiceView {
  service: 'catalog' | 'shipping' | 'kafka'
  /** `unknown`: no process has called it lately. */
  state: 'works' | 'failing' | 'unknown'
  /** Since when it fails. */
  since: Date | null
  lastAnswerAt: Date | null
  /** In the last minute, by all processes. */
  calls: number
  failures: number
  error: string | null
}

/** Quantiles are estimated from buckets; null where nothing was counted. */
export interface Minute {
  minute: Date
  created: number
  rejected: number
  cancelled: number
  paid: number
  answerP50Ms: number | null
  answerP95Ms: number | null
  paymentP95Ms: number | null
  queueAgeMs: number
  outboxAgeMs: number
}

/** `afterEffects`: items that wait for their next retry although the fault is over. */
export interface Overview extends Problems {
  services: ServiceView[]
  minutes: Minute[]
  readAt: Date
}

/** A viewer's page asks every five seconds; several viewers share what was read in this time. */
const VALID_MS = 1000
/** The charts show three hours. */
export const MINUTES = 180

export interface Overviews {
  /** @throws where PostgreSQL does not answer within 2 s */
  overview(): Promise<Overview>
  problems(): Promise<Problem[]>
}

export function createOverviews(deps: FactDeps): Overviews {
  let last: { at: number; facts: Promise<Facts> } | undefined
  let { startedAt } = deps
  async function readOnce(): Promise<Facts> {
    try {
      return await readFacts({ ...deps, startedAt })
    } catch (error) {
      startedAt = deps.now() // no process could report itself meanwhile
      throw error
    }
  }
  function facts(): Promise<Facts> {
    const now = performance.now()
    if (!last || now - last.at > VALID_MS) last = { at: now, facts: readOnce() }
    return last.facts
  }
  return {
    problems: async () => problemsOf(await facts()).problems,
    async overview() {
      const [known, minutes] = await Promise.all([facts(), deps.read().then((pool) => readMinutes(pool, MINUTES))])
      return { ...problemsOf(known), services: servicesOf(known), minutes: minutes.map(minuteOf), readAt: new Date(known.now) }
    },
  }
}

const names = ['catalog', 'shipping', 'kafka'] as const

function servicesOf({ processes }: Facts): ServiceView[] {
  const all = processes.flatMap(({ status }) => status.services)
  return names.map((service) => {
    const those = all.filter((one) => one.service === service)
    const [failing] = those.filter((one) => one.failingSince !== null).toSorted((a, b) => a.failingSince! - b.failingSince!)
    const answered = those.map(({ lastAnswerAt }) => lastAnswerAt).filter((time) => time !== null)
    const sum = (of: (one: (typeof those)[number]) => number) => those.reduce((total, one) => total + of(one), 0)
    return {
      service,
      state: failing ? 'failing' : answered.length > 0 ? 'works' : 'unknown',
      since: failing ? new Date(failing.failingSince!) : null,
      lastAnswerAt: answered.length > 0 ? new Date(Math.max(...answered)) : null,
      calls: sum(({ calls }) => calls),
      failures: sum(({ failures }) => failures),
      error: failing?.error ?? null,
    }
  })
}

function minuteOf({ answers, payments, ...row }: MinuteRow): Minute {
  return {
    ...row,
    answerP50Ms: quantileMs(answers, secondsBuckets, 0.5),
    answerP95Ms: quantileMs(answers, secondsBuckets, 0.95),
    paymentP95Ms: quantileMs(payments, paymentBuckets, 0.95),
  }
}

/** @returns the upper bound of the bucket in which the quantile lies */
function quantileMs(counts: readonly number[], buckets: readonly number[], quantile: number): number | null {
  const total = counts.reduce((sum, count) => sum + count, 0)
  if (total === 0) return null
  let seen = 0
  const bucket = counts.findIndex((count) => (seen += count) >= quantile * total)
  return 1000 * (buckets[bucket] ?? buckets.at(-1)!)
}
