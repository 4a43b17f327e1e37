import { type Answer, type Exchange, failure, refusal } from './exchange.ts'
import type { FaultOptions } from './faults.ts'
import type { Waits } from './waits.ts'

/** What a call does to the downstream's inventory, and the answer that tells so. A plain value where nothing is waited for: benchmarks pay for every promise. */
export type Act = () => Answer | Promise<Answer>

const defaultMs = 1_000

/** Does what was called for, and answers: rightly, or in the way of the fault that struck it. */
export function carryOut(exchange: Exchange, act: Act, waits: Waits, fault?: FaultOptions): void {
  if (fault) return void misbehave(exchange, act, waits, fault)
  const answer = act()
  if (answer instanceof Promise) void answer.then((late) => exchange.answer(late))
  else exchange.answer(answer)
}

/** The faults, as {@link faultKind} describes them. */
async function misbehave(
  exchange: Exchange,
  act: Act,
  waits: Waits,
  { fault, status, detail, retryAfter, ms = defaultMs, actFirst }: FaultOptions,
): Promise<void> {
  switch (fault) {
    case 'refuse':
      return exchange.answer({ ...refusal(status ?? 409, detail ?? 'Refused'), retryAfter })
    case 'error':
      if (actFirst) await act()
      return exchange.answer({ ...failure(status ?? 500, detail), retryAfter })
    case 'hang':
      return
    case 'slow': {
      const answer = actFirst ? await act() : undefined
      await waits.pause(ms)
      return exchange.answer(answer ?? (await act()))
    }
    case 'drop':
      await act()
      return exchange.drop()
    case 'reset':
      return exchange.reset()
    case 'late':
      await waits.pause(ms)
      await act()
      return
    case 'garbage':
      if (actFirst) await act()
      return exchange.answer({ status: 200, body: '<html>It works!' })
  }
}
