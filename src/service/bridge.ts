/** The role `bridge`: payment messages to payment jobs, with its metrics, readiness and watchdog. */
import { sql } from 'slonik'
import type { Check } from '../api/ops.ts'
import { unlessExhausted } from '../db/semaphore.ts'
import { createPaymentBridge } from '../kafka/payment-bridge.ts'
import type { Base } from './connect.ts'
import { restartable } from './restartable.ts'

/** How long a scrape waits for Kafka before the gauge keeps its last value. The watchdog's probe waits as long. */
const LAG_MS = 1000
/** Longer than the probe's limit: a Kafka too slow for this must be too slow for the probe, so that it counts as an outage. */
const BEHIND_MS = 1800

export function startBridge(base: Base, checks: Check[]): void {
  const { config, pool, redis, kafka, paymentQueue, logger, metrics, probes, watched, closers } = base
  const options = { topic: config.TOPIC_PAYMENT_EVENTS, group: config.KAFKA_GROUP }
  // The topic and its partitions belong to Payment. In development nobody else may be there to create it. It is created only once: if it is
  // missing later, its owner is about to create it again.
  let createTopic = config.CREATE_PAYMENT_TOPIC ?? config.NODE_ENV === 'development'
  const bridge = restartable(() => {
    const created = createPaymentBridge({ ...options, createTopic, pool, queue: paymentQueue, kafka, logger, metrics })
    createTopic = false
    return created
  })
  checks.push({
    name: 'bridge',
    required: false,
    check: async () => {
      if (!bridge.current().joined()) throw new Error(`not a member of the consumer group ${options.group} yet`)
    },
  })
  metrics.refreshed.push(async () => {
    const lags = await kafka.lag(options, AbortSignal.timeout(LAG_MS))
    for (const { partition, messages } of lags) metrics.bridgeLag.set({ partition }, messages)
  })
  base.report.committed = () => bridge.current().committed()
  base.report.lag = async () => {
    const lags = await kafka.lag(options, AbortSignal.timeout(LAG_MS))
    return lags.reduce((sum, { messages }) => sum + messages, 0)
  }
  watched.push({
    name: 'bridge',
    required: false, // customers are served without it
    async waiting() {
      const [behind] = await Promise.all([
        bridge.current().behind(AbortSignal.timeout(BEHIND_MS)),
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
