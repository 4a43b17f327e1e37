/** Time as it is: PostgreSQL runs on this host, so that its clock is ours. */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../../src/clock.ts'

export const hostClock: Clock = {
  now: () => performance.now(),
  databaseTime: () => Date.now(),
  sleep: (ms) => sleep(ms),
  turn: () => turn(),
}
