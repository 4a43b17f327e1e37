/** What is wrong now, worst first: read from PostgreSQL, from the queues, and from what the processes report of themselves. */
import type { Cause, ItemKind, ServiceName, Severity, Verb } from '../causes.ts'

/** A number that is counted up to a limit: `isMore` says that there are more than `n`. */
export interface Count {
  n: number
  isMore: boolean
}

export interface Problem {
  cause: Cause
  service: ServiceName | null
  severity: Severity
  /** For people: what is wrong, with the service's name. */
  sentence: string
  /** How many items wait because of it; null where it concerns none in particular. */
  count: (Count & { of: ItemKind }) | null
  since: Date
  /** The item that has waited the longest. */
  oldest: { kind: ItemKind; id: number; orderId: number | null; since: Date } | null
  /** The latest error, or a figure that shows it. No emails and no addresses. */
  evidence: string
  /** What happens without an operator. */
  next: string
  actions: readonly Verb[]
}
