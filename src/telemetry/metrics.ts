/** What Prometheus scrapes at `/order/metrics`. Names, labels and buckets of every metric stand here and nowhere else. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** From 1 ms to the checkout's budget. */
const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8]

/**
 * All metrics of one process, on a registry of their own. Gauges whose truth lies in PostgreSQL or Redis are set by what stands in
 * `refreshed`; one that cannot be asked keeps its last value.
 */
export function createMetrics() {
  const registers = [new Registry()]
  const refreshed: (() => Promise<void>)[] = []
  collectDefaultMetrics({ register: registers[0]! })
  const counter = <L extends string>(name: string, help: string, labelNames: L[]) => new Counter({ name, help, labelNames, registers })
  const histogram = <L extends string>(name: string, help: string, labelNames: L[]) =>
    new Histogram({ name, help, labelNames, buckets: secondsBuckets, registers })
  const gauge = <L extends string>(name: string, help: string, labelNames: L[]) => new Gauge({ name, help, labelNames, registers })

  return {
    registry: registers[0]!,
    refreshed,
    /** Resolves when all of `refreshed` have answered or failed. */
    async refresh(): Promise<void> {
      await Promise.allSettled(refreshed.map((refresh) => refresh()))
    },
    httpSeconds: histogram('order_http_request_seconds', 'Answer time by route and status', ['route', 'method', 'status']),
    checkouts: counter('order_checkouts_total', 'Checkouts that ended, by outcome', ['outcome']),
    stepSeconds: histogram('order_step_seconds', 'Time of one try of a saga step, by result', ['step', 'result']),
    stepRetries: counter('order_step_retries_total', 'Tries of a step after its first', ['step']),
    rescued: counter('order_rescued_total', 'What the rescuer found: checkouts and payments without a job, overdue checkouts', ['what']),
    pruned: counter('order_pruned_total', 'Rows that the reaper has pruned, by table', ['table']),
    stockWaitSeconds: histogram(
      'order_stock_wait_seconds',
      'Wait of checkouts and payments for products that others had, until they had an answer',
      [],
    ),
    stockCallMembers: new Histogram({
      name: 'order_stock_call_members',
      help: 'Checkouts or payments that travelled in one call to Catalog',
      labelNames: ['verb'],
      buckets: [1, 2, 4, 8, 16, 32, 64],
      registers,
    }),
    downstreamSeconds: histogram('order_downstream_call_seconds', 'Calls to downstreams by answer: a status class, unsent or unanswered', [
      'downstream',
      'call',
      'answer',
    ]),
    downstreamInFlight: gauge('order_downstream_calls_in_flight', 'Calls under way, at most the bulkhead’s places', ['downstream']),
    breakerOpen: gauge('order_breaker_open', '1 while a downstream service is not asked, or only tried, after a run of failures', [
      'downstream',
    ]),
    reconciliations: counter('order_reconciliations_total', 'Corrections at Catalog and what was found, by verb and result', [
      'verb',
      'result',
    ]),
    reconciledUnits: counter('order_reconciled_units_total', 'Units that corrections moved at Catalog, by verb', ['verb']),
    productsUnreconciled: gauge('order_products_unreconciled', 'Products that the reconciler still works on', []),
    unitsOversold: gauge('order_units_oversold', 'Units of orders that Catalog does not hold, and has none left to hold', []),
    foreignHolds: gauge('order_foreign_holds', 'Units that Catalog held for no order of ours when we first asked', []),
    corrections: gauge('order_corrections', 'Units that Catalog has too many or too few and that are about to be put right', ['kind']),
    ambiguousUnits: gauge('order_ambiguous_units', 'Units that Catalog may offer too many or too few, since two explanations fitted', []),
    unansweredCalls: gauge('order_unanswered_calls', 'Calls without an answer that nobody has checked yet', []),
    unansweredOldestSeconds: gauge('order_unanswered_calls_oldest_seconds', 'Age of the oldest of them', []),
    reconcilingLongestSeconds: gauge(
      'order_reconciling_longest_seconds',
      'How long the product that is reconciled the longest does not agree',
      [],
    ),
    jobs: gauge('order_queue_jobs', 'Jobs by queue and state', ['queue', 'state']),
    queuePaused: gauge('order_queue_paused', '1 where an operator has paused the queue', ['queue']),
    oldestJobSeconds: gauge('order_queue_oldest_waiting_seconds', 'Age of the oldest waiting job of a queue', ['queue']),
    outboxUnsent: gauge('order_outbox_unsent', 'Events that Kafka has not acknowledged', []),
    outboxLagSeconds: gauge('order_outbox_lag_seconds', 'Age of the oldest event that Kafka has not acknowledged', []),
    outboxSetAside: gauge('order_outbox_set_aside', 'Events that cannot be sent as they are', []),
    outboxSent: counter('order_outbox_sent_total', 'Events that Kafka acknowledged', ['type']),
    paymentEvents: counter('order_payment_events_total', 'Messages of the payment topic by what became of them', ['type', 'result']),
    paymentSeconds: histogram('order_payment_seconds', 'From the message of a payment to its order being PAID', []),
    bridgeTotals: gauge('order_bridge_totals', 'The totals of the bridge: consumed = applied + duplicate + dead + waiting + ignored', [
      'entry',
    ]),
    bridgeLag: gauge('order_bridge_lag', 'Messages of a partition that the bridge has not taken yet', ['partition']),
    deadLettersWaiting: gauge('order_dead_letters_waiting', 'Dead letters that wait for a person', []),
    deadLettersUnpublished: gauge('order_dead_letters_unpublished', 'Dead letters that are not on their topic yet', []),
    numbersLeft: gauge('order_numbers_left', 'Numbers that a sequence can still give', ['sequence']),
    redisPolicies: gauge('order_redis_maxmemory_policy', 'Redis servers by their maxmemory-policy; noeviction keeps jobs', ['policy']),
    drained: gauge('order_drained', '1 while an operator has the service drained: no new orders, no new payments', []),
    componentStalled: gauge('order_component_stalled', '1 where a component of this process does nothing while work waits for it', [
      'component',
    ]),
    componentRestarts: counter('order_component_restarts_total', 'How often a component that stood still was built anew', ['component']),
    relayLeads: gauge('order_relay_leads', '1 where this process holds the relay’s lock', []),
  }
}

export type Metrics = ReturnType<typeof createMetrics>
