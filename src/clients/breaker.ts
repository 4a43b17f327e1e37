/**
 * The circuit breaker of a downstream service. A run of failures opens it, and nothing is sent then: what it refuses leaves nothing in
 * doubt. A harmless read once a second says when the service answers again. Then one call that changes something is let through by
 * itself, and what becomes of it decides: Catalog may read well and hang at every change.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { CircuitState, circuitBreaker, ConsecutiveBreaker, handleAll } from 'cockatiel'

/** `open`: nothing is sent. `half-open`: one change at a time, and reads. */
export type BreakerState = 'closed' | 'half-open' | 'open'

/** A service that hangs fails 16 calls in one moment. Fewer in a row may be one product, or one customer's address, that it cannot bear. */
const FAILURES = 10
/** A service that is back is heard of within that time, and a read costs one that is not nothing. */
export const PROBE_EVERY_MS = 1000

export interface BreakerOptions<Answer> {
  /** A read that changes nothing, within a second. */
  probe(): Promise<Answer>
  /** Whether an answer counts as a failure. Every exception does. */
  isFailure(answer: Answer): boolean
  /** What is thrown in place of a call. */
  refusal(): Error
  /** Told of each state that follows the first, `closed`. */
  onChange(state: BreakerState): void
}

export interface Breaker<Answer> {
  /** Whether a call that changes something would be refused now. */
  isRefusing(): boolean
  /** @throws the refusal, where a call would not be sent now */
  admit(isRead: boolean): void
  /** @throws the refusal, or what the call throws */
  run(isRead: boolean, call: () => Promise<Answer>): Promise<Answer>
  /** Ends its probes. */
  close(): void
}

export function createBreaker<Answer>({ probe, isFailure, refusal, onChange }: BreakerOptions<Answer>): Breaker<Answer> {
  const failures = handleAll.orWhenResult((answer) => isFailure(answer as Answer))
  // The probe says when to try again, not the host's clock, which may be put back.
  const circuit = circuitBreaker(failures, { breaker: new ConsecutiveBreaker(FAILURES), halfOpenAfter: Number.NEGATIVE_INFINITY })
  const ending = new AbortController()
  let answersAgain = false

  const isRefusing = () => (circuit.state === CircuitState.Open ? !answersAgain : circuit.state === CircuitState.HalfOpen)

  async function probeUntilAnswered(): Promise<void> {
    while (!answersAgain) {
      await sleep(PROBE_EVERY_MS, undefined, { signal: ending.signal })
      answersAgain = await probe().then(
        (answer) => !isFailure(answer),
        () => false,
      )
    }
    if (!ending.signal.aborted) onChange('half-open')
  }

  circuit.onBreak(() => {
    answersAgain = false
    onChange('open')
    probeUntilAnswered().catch(() => {}) // it was closed
  })
  circuit.onReset(() => onChange('closed'))

  function admit(isRead: boolean): void {
    if (isRead ? circuit.state === CircuitState.Open && !answersAgain : isRefusing()) throw refusal()
  }

  return {
    isRefusing,
    admit,
    async run(isRead, call) {
      admit(isRead)
      if (!isRead) return circuit.execute(call)
      // That a read is answered says nothing of changes: it neither closes the breaker nor ends a run of failures.
      const answering = call()
      const isFailed = await answering.then(isFailure, () => true)
      return isFailed && circuit.state === CircuitState.Closed ? circuit.execute(() => answering) : answering
    },
    close: () => ending.abort(),
  }
}
