/** The bridge from the payment topic to the payment jobs, with what is told of it. */
import type { Check } from '../api/ops.ts'
import { createPaymentBridge } from '../kafka/payment-bridge.ts'
import type { Base } from './connect.ts'

/** How long a scrape waits for Kafka; the gauge keeps its last value then. */
const LAG_MS = 1000

export function startBridge({ config, pool, kafka, paymentQueue, logger, metrics, closers }: Base, checks: Check[]): void {
  const terms = { topic: config.TOPIC_PAYMENT_EVENTS, group: config.KAFKA_GROUP }
  const bridge = createPaymentBridge({ ...terms, pool, queue: paymentQueue, kafka, logger, metrics })
  checks.push({
    name: 'bridge',
    required: false,
    check: async () => {
      if (!bridge.joined()) throw new Error(`not a member of ${terms.group} yet`)
    },
  })
  metrics.refreshed.push(async () => {
    const lags = await kafka.lag(terms, AbortSignal.timeout(LAG_MS))
    for (const { partition, messages } of lags) metrics.bridgeLag.set({ partition }, messages)
  })
  bridge.start()
  closers.push(() => bridge.stop())
}
