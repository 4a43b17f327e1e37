/** Structured logs, one JSON line each. No caller passes secrets, tokens or addresses; errors are reduced to safe fields here. */
import { type Logger, pino } from 'pino'
import { errorFields } from './error-fields.ts'

export type { Logger }

/**
 * @param level pino's level, `silent` for none
 * @param destination standard output by default
 */
export function createLogger(level: string, destination?: { write(line: string): void }): Logger {
  const options = {
    level,
    base: { service: 'order' },
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: errorFields },
  }
  return destination ? pino(options, destination) : pino(options)
}
