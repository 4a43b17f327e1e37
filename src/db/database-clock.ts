/** PostgreSQL's clock, as this process estimates it: the clock of its own host may be an hour off. */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'slonik'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import type { Pool } from './pool.ts'

/** Of a few answers the fastest is the best: its round trip bounds the error. */
const SAMPLES = 3
const timeRow = z.object({ ms: z.number() })

export interface DatabaseClock extends Clock {
  /** Reads PostgreSQL's time: at start and every 30 s, since clocks drift apart. */
  sync(): Promise<void>
}

/** Resolves once PostgreSQL's time has been read. @throws what PostgreSQL throws */
export async function createDatabaseClock(pool: Pool): Promise<DatabaseClock> {
  /** PostgreSQL's time less the monotonic clock of this process, at the most. */
  let ahead = 0

  async function sync(): Promise<void> {
    let quickest = Number.POSITIVE_INFINITY
    for (let i = 0; i < SAMPLES; i += 1) {
      const asked = performance.now()
      const { ms } = await pool.one(sql.prepared('read-time', timeRow)`
        select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`)
      const took = performance.now() - asked
      if (took >= quickest) continue
      quickest = took
      ahead = ms - asked
    }
  }

  await sync()
  return {
    now: () => performance.now(),
    databaseTime: () => performance.now() + ahead,
    sleep: (ms) => sleep(ms),
    turn: () => turn(),
    sync,
  }
}
