/**
 * Leases: one call at a time on a product, in all processes together. Calls that overlap there overwrite each other (44 % of holds
 * lost with two customers at once: wire contract).
 *
 * A lease covers a call until its outcome is on record. It does not go away by itself: one that ran out says that its call is in
 * doubt, and whoever takes it next is told. All that ask or let go in one tick share one script call. Nobody polls at the pace of
 * calls: a release wakes the next one.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'
import type { DoubtfulCall } from '../db/stock-ledger.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** Thrown to one that has waited until its deadline. */
export class LeaseTimeout extends Error {
  override name = 'LeaseTimeout'
}

export interface Lease {
  /** Calls of leases that had run out: to be written down before anything else is done. */
  expired: DoubtfulCall[]
  /** Whether others came first: what was read before may have changed. */
  waited: boolean
  /** Whether somebody in this process waits for one of its products. */
  wanted(): boolean
  /** Makes sure that the lease lasts another `ms`. @returns false where it is lost, and nothing may be sent under it */
  keep(ms: number): Promise<boolean>
  /** To be called when the call's outcome is on record, or in doubt on record. Without it the lease runs out, which says the same. */
  letGo(): void
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
  close(): Promise<void>
}

/** What a lease has to last before a call is sent under it: the call's time-out, and 1.5 s to put its outcome on record. In ms. */
export const enoughFor = (callTimeoutMs: number) => callTimeoutMs + 1500

/** One that has waited so long comes first on all its products. */
const ELDER_MS = 500
/** A wake-up that was lost costs at most so long. */
const LOOK_AGAIN_MS = 250
/** How many of those that wait for a product are tried when it becomes free: the first of them may wait for another one too. */
const TRIED_AT_ONCE = 16

interface Waiter extends Wish {
  token: string
  since: number
  tries: number
  resolve: (lease: Lease) => void
  reject: (error: unknown) => void
}

interface Scripts extends Redis {
  exchangeLeases(count: number, ...keysAndInput: string[]): Promise<(string | number)[][]>
  renewLease(count: number, ...keysTokenAndMs: (string | number)[]): Promise<0 | 1>
}

interface Options {
  /** A connection that fails fast. */
  redis: Redis
  /** A patient connection: hears who lets go in other processes. */
  subscriber: Redis
  prefix: string
  /** How long a lease lasts: a call's time-out, what it takes to put the outcome on record, and slack for a place at the neighbour. */
  leaseMs: number
  metrics: Metrics
}

export async function createLeases({ redis: client, subscriber, prefix, leaseMs, metrics }: Options): Promise<Leases> {
  const redis = client as Scripts
  redis.defineCommand('exchangeLeases', { lua: readFileSync(new URL('leases.lua', import.meta.url), 'utf8') })
  redis.defineCommand('renewLease', { lua: readFileSync(new URL('renew.lua', import.meta.url), 'utf8') })

  const channel = `${prefix}:leases`
  const keyOf = (productId: number) => `${prefix}:lease:${productId}`

  /** Those that were refused, by product, in the order in which they came. */
  const queues = new Map<number, Set<Waiter>>()
  const waiters = new Set<Waiter>()
  const due = new Set<Waiter>()
  let releases: { productIds: readonly number[]; token: string }[] = []
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
    const gone = releases
    releases = []
    due.clear()
    if (takes.length === 0 && gone.length === 0) return
    flying += 1
    const began = performance.now()
    try {
      const answers = await send(takes, gone, began)
      takes.forEach((waiter, i) => settle(waiter, answers[i]!, began))
    } catch (error) {
      for (const waiter of takes) {
        leave(waiter)
        waiter.reject(error)
      }
    } finally {
      flying -= 1
      if (due.size > 0 || releases.length > 0) plan()
    }
  }

  function send(takes: Waiter[], gone: typeof releases, now: number) {
    const keys: string[] = []
    const index = new Map<number, number>()
    const indexOf = (productId: number) => {
      const known = index.get(productId)
      if (known !== undefined) return known
      keys.push(keyOf(productId))
      index.set(productId, keys.length)
      return keys.length
    }
    const input = {
      channel,
      releases: gone.flatMap(({ productIds, token }) => productIds.map((id) => [indexOf(id), String(id), token])),
      takes: takes.map((waiter) => ({
        token: waiter.token,
        ms: leaseMs,
        waited: Math.round(now - waiter.since),
        elder: now - waiter.since > ELDER_MS,
        keys: waiter.productIds.map(indexOf),
        calls: waiter.productIds.map((id) => callText(waiter.calls.find((call) => call.productId === id))),
      })),
    }
    return redis.exchangeLeases(keys.length, ...keys, JSON.stringify(input))
  }

  function settle(waiter: Waiter, answer: (string | number)[], began: number): void {
    waiter.tries += 1
    if (answer[0] !== 1) {
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
    const expired: DoubtfulCall[] = []
    for (let i = 1; i < answer.length; i += 2) {
      expired.push(callOf(waiter.productIds[Number(answer[i]) - 1]!, String(answer[i + 1])))
    }
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
    return {
      expired,
      waited: waiter.tries > 1,
      wanted: () => waiter.productIds.some((productId) => queues.has(productId)),
      async keep(ms) {
        const now = performance.now()
        if (until - now >= ms) return true
        const keys = waiter.productIds.map(keyOf)
        if ((await redis.renewLease(keys.length, ...keys, waiter.token, leaseMs)) !== 1) return false
        until = now + leaseMs
        return true
      },
      letGo: () => letGo(waiter),
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
    async close() {
      clearInterval(clock)
      subscriber.off('message', hear)
      await subscriber.unsubscribe(channel).catch(() => {})
    },
  }
}

const callText = (call: DoubtfulCall | undefined) => (call ? JSON.stringify([call.verb, call.qty, call.orderId, call.attempt]) : '')

function callOf(productId: number, text: string): DoubtfulCall {
  const [verb, qty, orderId, attempt] = JSON.parse(text) as [DoubtfulCall['verb'], number, number, number]
  return { productId, verb, qty, orderId, attempt }
}
