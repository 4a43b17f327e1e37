/** Intents as a web process writes them. */
import { createCallIds } from '../../src/db/call-ids.ts'
import { createIntents, type Intents } from '../../src/db/intents.ts'
import type { Pool } from '../../src/db/pool.ts'
import { hostClock } from './clock.ts'

/** How long the leases last that intents take in tests, in ms. */
export const INTENT_LEASE_MS = 7500

export const openIntents = (pool: Pool): Intents =>
  createIntents(pool, { callIds: createCallIds(pool), leaseMs: INTENT_LEASE_MS, clock: hostClock, duplicateWindowMs: 0 })
