/**
 * Leases: one call at a time on a product, in all processes together. Calls that overlap there overwrite each other (44 % of holds
 * lost with two customers at once: wire contract).
 *
 * A lease covers a call until its outcome is on record. It does not go away by itself: one that ran out says that its call is in
 * doubt, and whoever takes it next is told. All that ask or let go in one tick share one script call. Nobody polls at the pace of
 * calls: a release wakes the next one.
 */
import { randomUUID } from 'node:crypto'
import type { DoubtfulCall } from '../db/stock-ledger.ts'
import type { RedisConnection } from '../queues/redis.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { LeaseMarker } from './lease-marker.ts'
import { createLeaseScripts, type Exchange, type Holding } from './lease-scripts.ts'

/** Thrown to one that has waited until its deadline. */
export class LeaseTimeout extends Error {
  override name = 'LeaseTimeout'
}

export interface Lease {
  /** Calls of leases that had run out: to be written down before anything else is done. */
  expired: DoubtfulCall[]
  /** They stand among the doubts. Until this is said, Redis keeps them, and whoever takes the lease next is told them too. */
  expiredOnRecord(): void
  /** Whether others came first: what was read before may have changed. */
  waited: boolean
  /** Whether somebody in this process waits for one of its products. */
  wanted(): boolean
  /** Makes sure that the lease lasts another `ms`. @returns false where it is lost, and nothing may be sent under it */
  keep(ms: number): Promise<boolean>
  /** To be called when the call's outcome is on record, or in doubt on record. Without it the lease runs out, which says the same. */
  letGo(): void
  /** A call may still act: from now on `letGo` does nothing, and the lease covers the call until it runs out. */
  runOut(): void
}

export interface Wish {
  /** In the order of product ids. */
  productIds: readonly number[]
  /** The call that the lease will cover, product by product; none for mending, whose calls are doubts before they are sent. */
  calls: readonly DoubtfulCall[]
  /** Epoch ms. */
  deadline: number
}

export interface Leases {
  /** @throws LeaseTimeout; or what Redis throws where it is away */
  take(wish: Wish): Promise<Lease>
  /** How many wait now. */
  waiting(): number
  close(): void
}

/** What a lease has to last before a call is sent under it: the call's time-out, and 1.5 s to put its outcome on record. In ms. */
export const enoughFor = (callTimeoutMs: number) => callTimeoutMs + 1500

/** One that has waited so long comes first on all its products. */
const ELDER_MS = 500
/** A wake-up that was lost costs at most so long. */
const LOOK_AGAIN_MS = 250
/** How many of those that wait for a product are tried when it becomes free: the first of them may wait for another one too. */
const TRIED_AT_ONCE = 16

interface Waiter extends Wish, Holding {
  since: number
  tries: number
  resolve: (lease: Lease) => void
  reject: (error: unknown) => void
}

interface Options {
  /** A connection that fails fast. */
  redis: RedisConnection
  /** A patient connection: hears who lets go in other processes. */
  subscriber: RedisConnection
  prefix: string
  marker: LeaseMarker
  metrics: Metrics
}

export async function createLeases({ redis, subscriber, prefix, marker, metrics }: Options): Promise<Leases> {
  const { leaseMs } = marker
  const channel = `${prefix}:leases`
  const scripts = createLeaseScripts(redis, { prefix, channel, marker })

  /** Those that were refused, by product, in the order in which they came. */
  const queues = new Map<number, Set<Waiter>>()
  const waiters = new Set<Waiter>()
  const due = new Set<Waiter>()
  let releases: Holding[] = []
  let forgets: Holding[] = []
  let planned = false
  let flying = 0

  function plan(): void {
    if (planned || flying >= 2) return
    planned = true
    setImmediate(exchange)
  }

  function wake(productId: number): void {
    let tried = 0
    for (const waiter of queues.get(productId) ?? []) {
      due.add(waiter)
      tried += 1
      if (tried === TRIED_AT_ONCE) break
    }
    if (due.size > 0) plan()
  }

  function leave(waiter: Waiter): void {
    waiters.delete(waiter)
    due.delete(waiter)
    for (const productId of waiter.productIds) {
      const queue = queues.get(productId)
      queue?.delete(waiter)
      if (queue?.size === 0) queues.delete(productId)
    }
  }

  async function exchange(): Promise<void> {
    planned = false
    if (flying >= 2) return
    const takes = [...due].sort((a, b) => a.since - b.since)
    if (takes.length === 0 && releases.length === 0 && forgets.length === 0) return
    const began = performance.now()
    const message: Exchange = { forgets, releases, takes: takes.map((waiter) => takeOf(waiter, began)) }
    forgets = []
    releases = []
    due.clear()
    flying += 1
    try {
      const answers = await scripts.exchange(message)
      takes.forEach((waiter, i) => settle(waiter, answers[i], began))
    } catch (error) {
      for (const waiter of takes) {
        leave(waiter)
        waiter.reject(error)
      }
    } finally {
      flying -= 1
      if (due.size > 0 || releases.length > 0 || forgets.length > 0) plan()
    }
  }

  function settle(waiter: Waiter, expired: DoubtfulCall[] | undefined, began: number): void {
    waiter.tries += 1
    if (!expired) {
      if (!waiters.has(waiter)) return // gave up meanwhile
      for (const productId of waiter.productIds) {
        const queue = queues.get(productId) ?? new Set()
        queue.add(waiter)
        queues.set(productId, queue)
      }
      return
    }
    if (!waiters.has(waiter)) {
      letGo(waiter)
      return
    }
    leave(waiter)
    metrics.leaseWaitSeconds.observe((performance.now() - waiter.since) / 1000)
    waiter.resolve(lease(waiter, expired, began))
  }

  function letGo({ productIds, token }: Waiter): void {
    releases.push({ productIds, token })
    for (const productId of productIds) wake(productId)
    plan()
  }

  /** Time is counted on this process' monotonic clock from before it asked, so that it never believes in a lease for longer than Redis does. */
  function lease(waiter: Waiter, expired: DoubtfulCall[], began: number): Lease {
    let until = began + leaseMs
    let runsOut = false
    return {
      expired,
      expiredOnRecord() {
        forgets.push(waiter)
        plan()
      },
      waited: waiter.tries > 1,
      wanted: () => waiter.productIds.some((productId) => queues.has(productId)),
      async keep(ms) {
        const now = performance.now()
        if (until - now >= ms) return true
        if (!(await scripts.renew(waiter))) return false
        until = now + leaseMs
        return true
      },
      letGo() {
        if (!runsOut) letGo(waiter)
      },
      runOut() {
        runsOut = true
      },
    }
  }

  const hear = (from: string, productId: string) => {
    if (from === channel) wake(Number(productId))
  }
  subscriber.on('message', hear)
  await subscriber.subscribe(channel)

  const clock = setInterval(() => {
    for (const waiter of waiters) {
      if (Date.now() < waiter.deadline) continue
      leave(waiter)
      releases.push({ productIds: waiter.productIds, token: waiter.token })
      plan()
      waiter.reject(new LeaseTimeout(`waited for product ${waiter.productIds.join(', ')} until the deadline`))
    }
    for (const productId of queues.keys()) wake(productId)
  }, LOOK_AGAIN_MS)

  return {
    take: (wish) =>
      new Promise<Lease>((resolve, reject) => {
        const waiter = { ...wish, token: randomUUID(), since: performance.now(), tries: 0, resolve, reject }
        waiters.add(waiter)
        due.add(waiter)
        plan()
      }),
    waiting: () => waiters.size,
    close() {
      clearInterval(clock)
      subscriber.off('message', hear)
      void subscriber.unsubscribe(channel).catch(() => {}) // while Redis is away it would wait for it
    },
  }
}

const takeOf = ({ productIds, token, calls, since }: Waiter, now: number) => ({
  productIds,
  token,
  calls,
  waited: Math.round(now - since),
  elder: now - since > ELDER_MS,
})
