/**
 * How the outcome gets back to the customer who waits: pub/sub on one channel per web process, 10 to 18 % cheaper than BullMQ's events.
 * A lost reply costs time, never truth: whoever waits also looks into PostgreSQL.
 */
import { setImmediate } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { batcher } from '../batcher.ts'
import type { Outcome } from '../model.ts'
import type { RedisConnection } from '../redis/connection.ts'

export interface Replies {
  /** Hands an outcome to whoever waits for it in this process. @returns false where nobody does */
  deliver(outcome: Outcome): boolean
  /** The channel to name in a job's `replyTo`. */
  channel: string
  /** To be called before the job is added; `forget` when nobody waits any more. */
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
      void subscriber.unsubscribe(channel).catch(() => {}) // while Redis is away it would wait for it
    },
  }
}

/**
 * Sends outcomes; those of one moment and one channel travel in one message.
 * @param here the replies of this process, where it has a web: they need no Redis
 * @returns a function that resolves when the outcome is on its way, or, here, a turn of the event loop after it was handed over
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
    // The customer's answer is written first: what a worker does at the end of its job would keep it 0.3 of 6 ms.
    await setImmediate()
  }
}
