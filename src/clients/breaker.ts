/**
 * The circuit breaker of a downstream service. A run of failures opens it. While it is open nothing is sent, so a refused call is never an
 * unanswered call. A probe, which is a harmless read, is sent once a second. Once it is answered, one write is admitted alone, and its
 * result decides: Catalog may answer reads and hang at every write.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { CircuitState, circuitBreaker, ConsecutiveBreaker, handleAll } from 'cockatiel'

/** `open`: nothing is sent. `half-open`: reads, and one write at a time. */
export type BreakerState = 'closed' | 'half-open' | 'open'

/** A hanging service fails 16 calls at once. Fewer failures in a row may come from one product, or from one customer's address. */
const FAILURES = 10
/** A recovery is noticed within this time, and one read a second costs a failing service nothing. */
export const PROBE_EVERY_MS = 1000

export interface BreakerOptions<Answer> {
  /** A harmless read that takes at most a second. */
  probe(): Promise<Answer>
  /** Whether an answer counts as a failure. Every exception does. */
  isFailure(answer: Answer): boolean
  /** Creates the error that is thrown instead of a call. */
  refusal(): Error
  /** Called with each state after the first, which is `closed`. */
  onChange(state: BreakerState): void
}

export interface Breaker<Answer> {
  /** Whether a write would be refused now. */
  refusesWrites(): boolean
  /** @throws the refusal if a call would not be sent now */
  admit(isRead: boolean): void
  /** @throws the refusal, or what the call throws */
  run(isRead: boolean, call: () => Promise<Answer>): Promise<Answer>
  /** Stops the probes. */
  close(): void
}

export function createBreaker<Answer>({ probe, isFailure, refusal, onChange }: BreakerOptions<Answer>): Breaker<Answer> {
  const failures = handleAll.orWhenResult((answer) => isFailure(answer as Answer))
  // The probe decides when to try again. The host's clock may be set back.
  const circuit = circuitBreaker(failures, { breaker: new ConsecutiveBreaker(FAILURES), halfOpenAfter: Number.NEGATIVE_INFINITY })
  const closing = new AbortController()
  let isProbeAnswered = false

  const refusesWrites = () => (circuit.state === CircuitState.Open ? !isProbeAnswered : circuit.state === CircuitState.HalfOpen)

  async function probeUntilAnswered(): Promise<void> {
    while (!isProbeAnswered) {
      await sleep(PROBE_EVERY_MS, undefined, { signal: closing.signal })
      isProbeAnswered = await probe().then(
        (answer) => !isFailure(answer),
        () => false,
      )
    }
    if (!closing.signal.aborted) onChange('half-open')
  }

  circuit.onBreak(() => {
    isProbeAnswered = false
    onChange('open')
    probeUntilAnswered().catch(() => {}) // aborted by close
  })
  circuit.onReset(() => onChange('closed'))

  function admit(isRead: boolean): void {
    if (isRead ? circuit.state === CircuitState.Open && !isProbeAnswered : refusesWrites()) throw refusal()
  }

  return {
    refusesWrites,
    admit,
    async run(isRead, call) {
      admit(isRead)
      if (!isRead) return circuit.execute(call)
      // An answered read proves nothing about writes: it neither closes the breaker nor ends a run of failures.
      const answering = call()
      const isFailed = await answering.then(isFailure, () => true)
      return isFailed && circuit.state === CircuitState.Closed ? circuit.execute(() => answering) : answering
    },
    close: () => closing.abort(),
  }
}
