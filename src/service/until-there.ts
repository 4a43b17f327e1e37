/** What is away at start is waited for, with a line in the log, and never a reason to end. What no waiting mends is one. */
import { setTimeout as sleep } from 'node:timers/promises'
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Logger } from '../telemetry/logger.ts'

export interface Wait {
  /** As logs call it. */
  component: string
  /** Whether what an attempt threw is a fault that no waiting mends. */
  isFault: (error: unknown) => boolean
  /** Told why an attempt that will be repeated failed. */
  tell?: (message: string) => void
  logger: Logger
  signal: AbortSignal
}

/**
 * @returns what `attempt` returns; it is called again after 0.25 s, 0.5 s, ... 5 s
 * @throws a fault, at once; AbortError once `signal` is aborted
 */
export async function untilThere<T>(attempt: () => Promise<T>, { component, isFault, tell, logger, signal }: Wait): Promise<T> {
  for (let pauseMs = 250; ; pauseMs = Math.min(5000, pauseMs * 2)) {
    signal.throwIfAborted()
    try {
      return await attempt()
    } catch (error) {
      if (isFault(error)) throw error
      tell?.(reasonOf(error))
      logger.warn({ err: error, component, againInMs: pauseMs }, `${component} cannot be used yet`)
    }
    await sleep(pauseMs, undefined, { signal })
  }
}
