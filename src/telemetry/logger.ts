/** Structured logs, one JSON line each. Secrets, tokens and addresses are never handed to a logger; what an error may carry is cut down here. */
import { type Logger, pino } from 'pino'
import { errorFields } from './error-fields.ts'

export type { Logger }

/**
 * @param level pino's level, `silent` for none
 * @param destination where lines go, standard output where it is left out
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
