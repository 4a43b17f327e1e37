/** Every metric that Prometheus scrapes at `/order/metrics`, with its name, labels and buckets. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** In seconds, from 1 ms to the checkout budget of 8 s. */
export const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8]

/** A payment outlasts an outage; a checkout ends with its budget. */
export const paymentBuckets = [...secondsBuckets, 15, 30, 60, 300, 900]

/** Constructors of metrics on one registry. */
function createFactories() {
  const registers = [new Registry()]
  return {
    registers,
    counter: <L extends string>(name: string, help: string, labelNames: L[]) => new Counter({ name, help, labelNames, registers }),
    histogram: <L extends string>(name: string, help: string, labelNames: L[]) =>
      new Histogram({ name, help, labelNames, buckets: secondsBuckets, registers }),
    gauge: <L extends string>(name: string, help: string, labelNames: L[]) => new Gauge({ name, help, labelNames, registers }),
  }
}

type Factories = ReturnType<typeof createFactories>

/** Checkouts, payments and HTTP. */
const orderMetrics = ({ counter, histogram, gauge, registers }: Factories) => ({
  httpSeconds: histogram('order_http_request_seconds', 'Time to answer an HTTP request, by route, method and status', [
    'route',
    'method',
    'status',
  ]),
  checkouts: counter('order_checkouts_total', 'Finished checkouts by outcome', ['outcome']),
  failures: counter('order_failures_total', 'Failed attempts of checkouts and payments, by cause and downstream service', [
    'cause',
    'service',
  ]),
  stepSeconds: histogram('order_step_seconds', 'Duration of one attempt of a saga step, by step and result', ['step', 'result']),
  stepRetries: counter('order_step_retries_total', 'Retries of a saga step: attempts after the first', ['step']),
  rescued: counter('order_rescued_total', 'Checkouts and payments without a job and overdue checkouts that the rescuer found', ['what']),
  pruned: counter('order_pruned_total', 'Rows that the reaper deleted, by table', ['table']),
  paymentEvents: counter('order_payment_events_total', 'Messages of the payment topic by type and result', ['type', 'result']),
  paymentSeconds: new Histogram({
    name: 'order_payment_seconds',
    help: 'Time from the payment message to the order becoming PAID',
    labelNames: [],
    buckets: paymentBuckets,
    registers,
  }),
  numbersLeft: gauge('order_numbers_left', 'Values that a sequence has left', ['sequence']),
})

/** Stock, reconciliation and calls to downstream services. */
const stockMetrics = ({ counter, histogram, gauge, registers }: Factories) => ({
  stockWaitSeconds: histogram('order_stock_wait_seconds', 'Time that checkouts and payments waited for products in use by others', []),
  stockCallMembers: new Histogram({
    name: 'order_stock_call_members',
    help: 'Checkouts or payments that shared one call to Catalog, by verb',
    labelNames: ['verb'],
    buckets: [1, 2, 4, 8, 16, 32, 64],
    registers,
  }),
  downstreamSeconds: histogram(
    'order_downstream_call_seconds',
    'Duration of calls to downstream services, by answer: a status class, unsent or unanswered',
    ['downstream', 'call', 'answer'],
  ),
  downstreamInFlight: gauge(
    'order_downstream_calls_in_flight',
    'Calls to a downstream service in flight, at most its configured concurrency',
    ['downstream'],
  ),
  breakerOpen: gauge('order_breaker_open', '1 while the circuit breaker of a downstream service is open or half-open', ['downstream']),
  reconciliations: counter('order_reconciliations_total', 'Reconciliations with Catalog, by verb and result', ['verb', 'result']),
  reconciledUnits: counter('order_reconciled_units_total', 'Units that reconciliation corrected at Catalog, by verb', ['verb']),
  productsUnreconciled: gauge('order_products_unreconciled', 'Products that are still being reconciled with Catalog', []),
  unitsOversold: gauge('order_units_oversold', 'Units that orders hold but Catalog does not and cannot', []),
  foreignHolds: gauge('order_foreign_holds', 'Units that Catalog held for none of our orders when the product was first read', []),
  corrections: gauge('order_corrections', 'Units by which Catalog is known to be wrong and that will be corrected', ['kind']),
  ambiguousUnits: gauge(
    'order_ambiguous_units',
    'Units by which Catalog may be wrong, because an unanswered call had two explanations',
    [],
  ),
  unansweredCalls: gauge('order_unanswered_calls', 'Unanswered calls to Catalog that are not yet explained', []),
  unansweredOldestSeconds: gauge(
    'order_unanswered_calls_oldest_seconds',
    'Age of the oldest unanswered call to Catalog that is not yet explained',
    [],
  ),
  reconcilingLongestSeconds: gauge(
    'order_reconciling_longest_seconds',
    'Time since the longest-running reconciliation of a product began',
    [],
  ),
})

/** Queues, outbox, bridge, Redis and components of the process. */
const systemMetrics = ({ counter, gauge }: Factories) => ({
  jobs: gauge('order_queue_jobs', 'Jobs by queue and state', ['queue', 'state']),
  queuePaused: gauge('order_queue_paused', '1 while an operator has paused the queue', ['queue']),
  oldestJobSeconds: gauge('order_queue_oldest_waiting_seconds', 'Age of the oldest waiting job of a queue', ['queue']),
  outboxUnsent: gauge('order_outbox_unsent', 'Outbox events that Kafka has not acknowledged', []),
  outboxLagSeconds: gauge('order_outbox_lag_seconds', 'Age of the oldest outbox event that Kafka has not acknowledged', []),
  outboxUndeliverable: gauge('order_outbox_undeliverable', 'Outbox events that are undeliverable: Kafka does not accept them', []),
  outboxSent: counter('order_outbox_sent_total', 'Outbox events that Kafka acknowledged, by type', ['type']),
  bridgeTotals: gauge('order_bridge_totals', 'Totals of the bridge: consumed = applied + duplicate + dead + waiting + ignored', ['entry']),
  bridgeLag: gauge('order_bridge_lag', 'Messages of a partition that the bridge has not consumed yet', ['partition']),
  deadLettersWaiting: gauge('order_dead_letters_waiting', 'Dead letters that wait for an operator, by cause', ['cause']),
  deadLettersUnpublished: gauge('order_dead_letters_unpublished', 'Dead letters that are not yet published to their topic', []),
  redisPolicies: gauge('order_redis_maxmemory_policy', 'Redis servers by maxmemory-policy; only noeviction keeps all jobs', ['policy']),
  processes: gauge('order_processes', 'Processes that reported themselves within six seconds, by role', ['role']),
  drained: gauge('order_drained', '1 while the service is drained: no new orders, no new payments', []),
  componentReady: gauge('order_component_ready', '1 while a component of readiness can be used by this process', ['component']),
  componentStalled: gauge('order_component_stalled', '1 while a component of this process makes no progress although work waits for it', [
    'component',
  ]),
  componentRestarts: counter('order_component_restarts_total', 'Restarts of stalled components', ['component']),
  relayLeads: gauge('order_relay_leads', '1 while this process holds the relay lock', []),
})

/**
 * All metrics of one process, on their own registry. The functions in `refreshed` set the gauges that are read from PostgreSQL or
 * Redis. A gauge that cannot be read keeps its last value.
 */
export function createMetrics() {
  const factories = createFactories()
  const registry = factories.registers[0]!
  const refreshed: (() => Promise<void>)[] = []
  collectDefaultMetrics({ register: registry })
  return {
    registry,
    refreshed,
    /** Resolves when every function of `refreshed` has resolved or failed. */
    async refresh(): Promise<void> {
      await Promise.allSettled(refreshed.map((refresh) => refresh()))
    },
    ...orderMetrics(factories),
    ...stockMetrics(factories),
    ...systemMetrics(factories),
  }
}

export type Metrics = ReturnType<typeof createMetrics>
