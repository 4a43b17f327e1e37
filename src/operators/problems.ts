/** What is wrong now, worst first: read from PostgreSQL, from the queues, and from what the processes report of themselves. */
import {
  type Cause,
  causes,
  type ItemKind,
  type ServiceName,
  type Severity,
  sentenceOf,
  severities,
  type Verb,
  withService,
} from '../causes.ts'
import { MOST_COUNTED } from '../db/waiting-counts.ts'
import type { Facts } from './problem-facts.ts'
import { type Found, findProblems } from './find-problems.ts'

/** A number that is counted up to a limit: `isMore` says that there are more than `n`. */
export interface Count {
  n: number
  isMore: boolean
  of: ItemKind
}

export interface Problem {
  cause: Cause
  service: ServiceName | null
  severity: Severity
  /** For people: what is wrong, with the service's name. */
  sentence: string
  /** The items that wait because of it, of each kind; empty where it concerns none in particular. */
  counts: Count[]
  since: Date
  /** The item that has waited the longest. */
  oldest: { kind: ItemKind; id: number; orderId: number | null; since: Date } | null
  /** The latest error, or a figure that shows it. No emails and no addresses. */
  evidence: string
  /** What happens without an operator. */
  next: string
  /** For the verb `resume-queue`. */
  queue?: string
  actions: readonly Verb[]
}

/** @returns the problem in words. Of the verbs of its cause, those that can act on what waits */
export function toProblem({ cause, service = null, counts = [], untried = [], since, oldest = null, evidence, queue }: Found): Problem {
  const entry = causes[cause]
  return {
    cause,
    service,
    severity: entry.severity,
    sentence: sentenceOf(cause, service),
    counts: inAll([...counts, ...untried]),
    since,
    oldest,
    evidence,
    next: withService(entry.next, service),
    ...(queue === undefined ? {} : { queue }),
    actions: entry.actions.filter((verb) => canAct(verb, counts)),
  }
}

/** The sum of each kind, up to the limit. */
function inAll(counts: readonly { n: number; of: ItemKind }[]): Count[] {
  const sums = Map.groupBy(counts, ({ of }) => of)
  return [...sums].map(([of, those]) => {
    const n = those.reduce((sum, one) => sum + one.n, 0)
    return { n: Math.min(n, MOST_COUNTED), isMore: n > MOST_COUNTED, of }
  })
}

const itemOf = { 'retry-payments': 'payment', 'retry-checkouts': 'checkout', 'cancel-checkouts': 'checkout' } as const

function canAct(verb: Verb, counts: readonly { n: number; of: ItemKind }[]): boolean {
  const item = itemOf[verb as keyof typeof itemOf]
  return item === undefined || counts.some(({ n, of }) => of === item && n > 0)
}

/** The worst first, and of equally bad ones the oldest. */
export const worstFirst = (a: Problem, b: Problem): number =>
  severities.indexOf(a.severity) - severities.indexOf(b.severity) || a.since.getTime() - b.since.getTime()

/** `afterEffects`: items whose fault is over, and that wait for their next retry. */
export interface Problems {
  problems: Problem[]
  afterEffects: Problem[]
}

/** What is wrong, in words, the worst first. */
export function problemsOf(facts: Facts): Problems {
  const { active, afterEffects } = findProblems(facts)
  return { problems: active.map(toProblem).sort(worstFirst), afterEffects: afterEffects.map(toProblem).sort(worstFirst) }
}
