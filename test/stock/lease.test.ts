import test from 'ava'
import { enoughFor, renewLease, leaseFor } from '../../src/stock/lease.ts'

const CALL_TIMEOUT_MS = 5000

/** A call under a lease that ends soon. @param stoppedMs how long the process is stopped before it hears of the renewal */
async function renewed({ stoppedMs }: { stoppedMs: number }): Promise<{ mayGo: boolean; lastsMs: number }> {
  let now = 1_000_000
  const call = { callId: 1, productIds: [1], expiresAt: now + 10 }
  const mayGo = await renewLease(
    {
      callTimeoutMs: CALL_TIMEOUT_MS,
      clock: { databaseTime: () => now },
      products: {
        async continueCall() {
          const expiresAt = now + leaseFor(CALL_TIMEOUT_MS)
          now += stoppedMs
          return expiresAt
        },
      },
    },
    call,
  )
  return { mayGo, lastsMs: call.expiresAt - now }
}

test('a call is sent under a lease that was renewed for it', async (t) => {
  const { mayGo, lastsMs } = await renewed({ stoppedMs: 3 })
  t.true(mayGo)
  t.true(lastsMs >= enoughFor(CALL_TIMEOUT_MS))
})

test('a process that was stopped while its lease was renewed sends nothing under what is left of it', async (t) => {
  t.false((await renewed({ stoppedMs: 2000 })).mayGo)
  t.false((await renewed({ stoppedMs: 60_000 })).mayGo)
})
