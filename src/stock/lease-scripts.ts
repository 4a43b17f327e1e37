/** What is said to Redis about leases: the two scripts, what goes into them and what comes back. */
import { readFileSync } from 'node:fs'
import type { DoubtfulCall } from '../db/stock-ledger.ts'
import type { RedisConnection } from '../queues/redis.ts'
import type { LeaseMarker } from './lease-marker.ts'

/** A lease, or one that is wished for. `productIds` in the order of product ids. */
export interface Holding {
  productIds: readonly number[]
  token: string
}

export interface Take extends Holding {
  calls: readonly DoubtfulCall[]
  /** For so long it has waited, in ms. */
  waited: number
  /** Whether it comes first on all its products from now on. */
  elder: boolean
}

/** One message to Redis; what it does, it does in this order. */
export interface Exchange {
  /** Leases whose expired calls are on record elsewhere. */
  forgets: readonly Holding[]
  releases: readonly Holding[]
  takes: readonly Take[]
}

export interface LeaseScripts {
  /** @returns for each take the calls of leases that had run out, or undefined where it has to wait */
  exchange(message: Exchange): Promise<(DoubtfulCall[] | undefined)[]>
  /** @returns false where the lease is lost on one of its products: then none is renewed */
  renew(lease: Holding): Promise<boolean>
}

type WithScripts = RedisConnection & {
  exchangeLeases(count: number, ...keysAndInput: string[]): Promise<(string | number)[][] | -1>
  renewLease(count: number, ...keysTokenAndMs: (string | number)[]): Promise<0 | 1>
}

/** @param channel where it is said which product has been let go */
export function createLeaseScripts(
  client: RedisConnection,
  { prefix, channel, marker }: { prefix: string; channel: string; marker: LeaseMarker },
): LeaseScripts {
  const redis = client as WithScripts
  redis.defineCommand('exchangeLeases', { lua: readFileSync(new URL('leases.lua', import.meta.url), 'utf8') })
  redis.defineCommand('renewLease', { lua: readFileSync(new URL('renew.lua', import.meta.url), 'utf8') })
  const { leaseMs } = marker
  const keyOf = (productId: number) => `${prefix}:lease:${productId}`

  return {
    async exchange({ forgets, releases, takes }) {
      const keys: string[] = [marker.key]
      const index = new Map<number, number>()
      const indexOf = (productId: number) => {
        const known = index.get(productId)
        if (known !== undefined) return known
        keys.push(keyOf(productId))
        index.set(productId, keys.length)
        return keys.length
      }
      const input = {
        server: await marker.serverId(),
        channel,
        forgets: forgets.flatMap(({ productIds, token }) => productIds.map((id) => [indexOf(id), token])),
        releases: releases.flatMap(({ productIds, token }) => productIds.map((id) => [indexOf(id), String(id), token])),
        takes: takes.map(({ productIds, token, calls, waited, elder }) => ({
          token,
          ms: leaseMs,
          waited,
          elder,
          keys: productIds.map(indexOf),
          calls: productIds.map((id) => callText(calls.find((call) => call.productId === id))),
        })),
      }
      const send = () => redis.exchangeLeases(keys.length, ...keys, JSON.stringify(input))
      let answers = await send()
      if (answers === -1) {
        // It may have forgotten leases: once it is marked, it refuses every take for a while.
        await marker.mark()
        input.server = await marker.serverId()
        answers = await send()
      }
      if (answers === -1) throw new Error('Redis does not keep the marker of the server that gives leases')
      const granted = answers
      return takes.map(({ productIds }, i) => expiredOf(productIds, granted[i]!))
    },

    async renew({ productIds, token }) {
      return (await redis.renewLease(productIds.length, ...productIds.map(keyOf), token, leaseMs)) === 1
    },
  }
}

/** @param answer `[0]`, or `[1, n, call, ...]` with calls on the nth product */
function expiredOf(productIds: readonly number[], [granted, ...told]: (string | number)[]): DoubtfulCall[] | undefined {
  if (granted !== 1) return undefined
  const expired: DoubtfulCall[] = []
  for (let i = 0; i < told.length; i += 2) expired.push(callOf(productIds[Number(told[i]) - 1]!, String(told[i + 1])))
  return expired
}

const callText = (call: DoubtfulCall | undefined) => (call ? JSON.stringify([call.verb, call.qty, call.orderId, call.attempt]) : '')

function callOf(productId: number, text: string): DoubtfulCall {
  const [verb, qty, orderId, attempt] = JSON.parse(text) as [DoubtfulCall['verb'], number, number, number]
  return { productId, verb, qty, orderId, attempt }
}
