/** At start-up a server that is away is waited for, with a line in the log. Errors that waiting cannot fix are thrown. */
import { setTimeout as sleep } from 'node:timers/promises'
import { exponentialBackoffMs } from '../backoff.ts'
import { reasonOf } from '../telemetry/error-fields.ts'
import type { Logger } from '../telemetry/logger.ts'

export interface Wait {
  /** Its name in the log. */
  component: string
  /** Whether waiting cannot fix this error of an attempt. */
  isFault: (error: unknown) => boolean
  /** Called with the reason when an attempt failed and will be repeated. */
  onFailure?: (reason: string) => void
  logger: Logger
  signal: AbortSignal
}

/**
 * @returns the result of `attempt`, which is repeated after 0.25 s, 0.5 s, ... 5 s
 * @throws a fault, at once; AbortError once `signal` is aborted
 */
export async function untilUsable<T>(attempt: () => Promise<T>, { component, isFault, onFailure, logger, signal }: Wait): Promise<T> {
  for (let failures = 1; ; failures++) {
    signal.throwIfAborted()
    const againInMs = exponentialBackoffMs(failures, 250, 5000)
    try {
      return await attempt()
    } catch (error) {
      if (isFault(error)) throw error
      onFailure?.(reasonOf(error))
      logger.warn({ err: error, component, againInMs }, `${component} cannot be used yet`)
    }
    await sleep(againInMs, undefined, { signal })
  }
}
