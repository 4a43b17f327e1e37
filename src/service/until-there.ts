/** What is away at start is waited for, with a line in the log, and never a reason to end. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../telemetry/logger.ts'

/** @returns what `attempt` returns; it is called again after 0.25 s, 0.5 s, ... 5 s. @throws AbortError once `signal` is aborted */
export async function untilThere<T>(part: string, attempt: () => Promise<T>, logger: Logger, signal: AbortSignal): Promise<T> {
  for (let pauseMs = 250; ; pauseMs = Math.min(5000, pauseMs * 2)) {
    signal.throwIfAborted()
    try {
      return await attempt()
    } catch (error) {
      logger.warn({ err: error, part, againInMs: pauseMs }, `${part} cannot be used yet`)
    }
    await sleep(pauseMs, undefined, { signal })
  }
}
