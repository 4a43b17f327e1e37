/**
 * Brings outcomes back to the customers who wait: pub/sub on one channel per web process, 10 to 18 % cheaper than BullMQ's events.
 * A lost reply only costs time: the waiting request also polls PostgreSQL.
 */
import { setImmediate } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { batcher } from '../batcher.ts'
import type { Outcome } from '../model.ts'
import type { RedisConnection } from '../redis/connection.ts'

export interface Replies {
  /** Hands an outcome to the request that waits for it in this process. @returns false where none does */
  deliver(outcome: Outcome): boolean
  /** The channel to name in a job's `replyTo`. */
  channel: string
  /** To be called before the job is added. Call `forget` when the request waits no more. */
  expect(orderId: number): { outcome: Promise<Outcome>; forget: () => void }
  close(): void
}

/** @param subscriber a patient connection: it subscribes again by itself after a reconnect */
export async function createReplies(subscriber: RedisConnection, prefix: string): Promise<Replies> {
  const channel = `${prefix}:replies:${uuidv7()}`
  const waiting = new Map<number, (outcome: Outcome) => void>()
  const receive = (from: string, message: string) => {
    if (from !== channel) return
    for (const outcome of JSON.parse(message) as Outcome[]) deliver(outcome)
  }
  const deliver = (outcome: Outcome) => {
    const resolve = waiting.get(outcome.orderId)
    resolve?.(outcome)
    return resolve !== undefined
  }
  subscriber.on('message', receive)
  await subscriber.subscribe(channel)
  return {
    channel,
    deliver,
    expect(orderId) {
      const outcome = new Promise<Outcome>((resolve) => waiting.set(orderId, resolve))
      return { outcome, forget: () => waiting.delete(orderId) }
    },
    close() {
      subscriber.off('message', receive)
      void subscriber.unsubscribe(channel).catch(() => {}) // it would wait while Redis is away
    },
  }
}

/**
 * Sends outcomes; those sent at once to one channel share a message.
 * @param here the replies of this process, if it has the role `web`: they need no Redis
 * @returns a function that resolves when the outcome was sent; in this process, a turn of the event loop after it was delivered
 */
export function createReplier(redis: RedisConnection, here?: Replies): (replyTo: string, outcome: Outcome) => Promise<void> {
  const send = batcher(async (batch: { replyTo: string; outcome: Outcome }[]) => {
    const byChannel = Map.groupBy(batch, ({ replyTo }) => replyTo)
    await Promise.all(
      [...byChannel].map(([channel, replies]) => redis.publish(channel, JSON.stringify(replies.map(({ outcome }) => outcome)))),
    )
    return batch.map(() => undefined)
  })
  return async (replyTo, outcome) => {
    if (replyTo !== here?.channel) return send({ replyTo, outcome })
    here.deliver(outcome)
    // Writes the customer's answer first: the worker's last steps of a job would delay it by 0.3 of 6 ms.
    await setImmediate()
  }
}
