/** Structured logs, one JSON line each. Secrets, tokens and addresses are never handed to a logger; what an error may carry is cut down here. */
import { type Logger, pino } from 'pino'

export type { Logger }

/** What of an error goes into a log: its name, message, code and stack. Other fields (SQL values, request bodies, headers) stay out. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: String(error) }
  const { name, message, stack } = error
  const code = (error as { code?: unknown }).code
  const cause = error.cause instanceof Error ? serializeError(error.cause) : undefined
  return { name, message, ...(code === undefined ? {} : { code }), stack, ...(cause === undefined ? {} : { cause }) }
}

/** @param level pino's level, `silent` for none */
export function createLogger(level: string): Logger {
  return pino({ level, base: { service: 'order' }, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: serializeError } })
}
