/** Whether a page cannot be shown because PostgreSQL or Redis does not answer. */
import { faultOf } from '../../causes.ts'

/** Of a connection to PostgreSQL: pg throws what Node says. ioredis has errors of its own, and the pages connect to nothing else. */
const unreachable = /^E(CONN|HOST|NET|PIPE|TIMEDOUT|NOTFOUND|AI_)/

/** @returns undefined if the error is no store's */
export function storeFault(error: unknown): 'database-unavailable' | 'redis-unavailable' | undefined {
  const { cause } = faultOf(error)
  if (cause === 'database-unavailable' || cause === 'redis-unavailable') return cause
  return error instanceof Error && unreachable.test(String((error as NodeJS.ErrnoException).code)) ? 'database-unavailable' : undefined
}
