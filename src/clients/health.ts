/** What this process has seen of a downstream service lately, for the operators' pages. */
import type { Fault } from '../causes.ts'

/** Times in epoch ms, by this host's clock. */
export interface ServiceHealth {
  /** null: it has not answered a call yet. */
  lastAnswerAt: number | null
  lastFailureAt: number | null
  /** null: its last call, or probe, went well. */
  failingSince: number | null
  /** The last failure. `error` has no address and no email. */
  fault: Fault | null
  error: string | null
}

/** `isRead`: the call changes nothing at the service, so its answer says less about writes. */
export interface HealthWatch {
  answered(isRead: boolean): void
  failed(isRead: boolean, fault: Fault, error: string): void
  read(): ServiceHealth
}

/** Failures of which an answered read says that they are over. An error of a write may last although reads are answered. */
const endsWithRead = new Set<Fault['cause']>(['downstream-unreachable', 'downstream-timeout'])

export function watchHealth(now: () => number = Date.now): HealthWatch {
  let health: ServiceHealth = { lastAnswerAt: null, lastFailureAt: null, failingSince: null, fault: null, error: null }
  let wasRead = false
  return {
    answered(isRead) {
      health.lastAnswerAt = now()
      if (!isRead || wasRead || (health.fault && endsWithRead.has(health.fault.cause))) health.failingSince = null
    },
    failed(isRead, fault, error) {
      wasRead = isRead
      health = { ...health, lastFailureAt: now(), failingSince: health.failingSince ?? now(), fault, error }
    },
    read: () => ({ ...health }),
  }
}
