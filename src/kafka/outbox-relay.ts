/** Sends the outbox to Kafka, the events of one order in their order. A repeated event has the same `event_id`, and `sequence` rises. */
import { createUnsentReader, markSent, markUndeliverable } from '../db/outbox.ts'
import type { Pool } from '../db/pool.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { createRelay, type Relay, type RelayDeps } from './relay.ts'

export interface OutboxRelayOptions extends RelayDeps {
  pool: Pool
  metrics: Pick<Metrics, 'outboxSent' | 'relayLeads'>
}

export function createOutboxRelay({ pool, metrics, ...deps }: OutboxRelayOptions): Relay {
  const readUnsent = createUnsentReader(pool)
  return createRelay({
    ...deps,
    name: 'relay',
    // Notified once a batch, by the statement that writes the events.
    channel: 'order_outbox',
    source: {
      async readUnsent(limit) {
        const events = await readUnsent(limit)
        return events.map(({ id, orderId, type, value }) => ({ id, orderId, type, message: { key: String(orderId), value } }))
      },
      markSent: (events) => markSent(pool, events),
      markUndeliverable: (id, reason) => markUndeliverable(pool, id, reason),
    },
    onSent(events) {
      for (const { type } of events) metrics.outboxSent.inc({ type })
    },
    onChange: (leads) => metrics.relayLeads.set(leads ? 1 : 0),
  })
}
