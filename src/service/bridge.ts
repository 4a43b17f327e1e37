/** The bridge from the payment topic to the payment jobs, with what is told of it. */
import { sql } from 'slonik'
import type { Check } from '../api/ops.ts'
import { unlessExhausted } from '../db/semaphore.ts'
import { createPaymentBridge } from '../kafka/payment-bridge.ts'
import type { Base } from './connect.ts'
import { restartable } from './restartable.ts'

/** How long a scrape waits for Kafka; the gauge keeps its last value then. The watchdog's probe does not wait longer. */
const LAG_MS = 1000
/** A Kafka that is too slow for a look has to be too slow for the probe, too, and count as away. */
const LOOK_MS = 1800

export function startBridge(base: Base, checks: Check[]): void {
  const { config, pool, redis, kafka, paymentQueue, logger, metrics, probes, watched, closers } = base
  const options = { topic: config.TOPIC_PAYMENT_EVENTS, group: config.KAFKA_GROUP }
  // Payment's topic, with its partitions: in development nobody else may make it, and later its owner is about to make it anew.
  let createTopic = config.CREATE_PAYMENT_TOPIC ?? config.NODE_ENV === 'development'
  const bridge = restartable(() => {
    const made = createPaymentBridge({ ...options, createTopic, pool, queue: paymentQueue, kafka, logger, metrics })
    createTopic = false
    return made
  })
  checks.push({
    name: 'bridge',
    required: false,
    check: async () => {
      if (!bridge.current().joined()) throw new Error(`not a member of ${options.group} yet`)
    },
  })
  metrics.refreshed.push(async () => {
    const lags = await kafka.lag(options, AbortSignal.timeout(LAG_MS))
    for (const { partition, messages } of lags) metrics.bridgeLag.set({ partition }, messages)
  })
  watched.push({
    name: 'bridge',
    required: false, // customers are served without it
    async waiting() {
      const [behind] = await Promise.all([
        bridge.current().behind(AbortSignal.timeout(LOOK_MS)),
        pool.query(sql.unsafe`select 1`).catch(unlessExhausted),
        redis.ping(),
      ])
      return behind.map(({ partition, mark }) => ({ what: `messages wait on partition ${partition}`, mark }))
    },
    succeeded: () => bridge.current().committed(),
    probe: () => Promise.all([probes.postgres(), probes.redis(), kafka.lag(options, AbortSignal.timeout(LAG_MS))]),
    restart: bridge.restart,
  })
  bridge.start()
  closers.push(bridge.stop)
}
