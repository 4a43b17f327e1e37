/** What Prometheus scrapes at `/order/metrics`. Names, labels and buckets of every metric stand here and nowhere else. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** From 1 ms to the checkout's budget. */
const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8]

/**
 * All metrics of one process, on a registry of their own. Gauges whose truth lies in PostgreSQL or Redis are set by what stands in
 * `refreshed`, each time somebody scrapes; one that cannot be asked keeps its last value.
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
    async scrape(): Promise<string> {
      await Promise.allSettled(refreshed.map((refresh) => refresh()))
      return registers[0]!.metrics()
    },
    httpSeconds: histogram('order_http_request_seconds', 'Answer time by route and status', ['route', 'method', 'status']),
    checkouts: counter('order_checkouts_total', 'Checkouts that ended, by outcome', ['outcome']),
    stepSeconds: histogram('order_step_seconds', 'Time of one try of a saga step, by result', ['step', 'result']),
    stepRetries: counter('order_step_retries_total', 'Tries of a step after its first', ['step']),
    rescued: counter(
      'order_rescued_total',
      'What the rescuer found: checkouts and payments without a job, overdue checkouts, calls of the dead',
      ['what'],
    ),
    pruned: counter('order_pruned_total', 'Rows that the reaper has pruned, by table', ['table']),
    leaseWaitSeconds: histogram('order_lease_wait_seconds', 'From asking for the leases of a cart to having them', []),
    neighbourSeconds: histogram('order_neighbour_call_seconds', 'Calls to neighbours by answer: a status class, unsent or unanswered', [
      'neighbour',
      'call',
      'answer',
    ]),
    neighbourInFlight: gauge('order_neighbour_calls_in_flight', 'Calls under way, at most the bulkhead’s places', ['neighbour']),
    mendings: counter('order_mendings_total', 'Mending calls and corrections, by verb and answer', ['verb', 'answer']),
    mendedPieces: counter('order_mended_pieces_total', 'Pieces that mending calls moved at Catalog, by verb', ['verb']),
    productsInDoubt: gauge('order_products_in_doubt', 'Products with extras or doubts that the mender still works on', []),
    productsUnsellable: gauge('order_products_unsellable', 'Products of which Catalog refused a hold that mending needed: sold twice', []),
    ledgerDrift: gauge('order_ledger_drift', 'Pieces held at Catalog that were nobody’s when we first looked', []),
    ledgerExtras: gauge('order_ledger_extras', 'Pieces that Catalog has too many or too few and mending brings to nothing', ['kind']),
    ledgerUndecided: gauge('order_ledger_undecided', 'Pieces that may be offered too many or too few, since several stories fitted', []),
    doubts: gauge('order_doubts', 'Calls that may have happened, or may still happen', []),
    doubtsOldestSeconds: gauge('order_doubts_oldest_seconds', 'Age of the oldest of them', []),
    mendingLongestSeconds: gauge('order_mending_longest_seconds', 'How long the product that is mended the longest has not agreed', []),
    jobs: gauge('order_queue_jobs', 'Jobs by queue and state', ['queue', 'state']),
    oldestJobSeconds: gauge('order_queue_oldest_waiting_seconds', 'Age of the oldest waiting job of a queue', ['queue']),
    outboxUnsent: gauge('order_outbox_unsent', 'Events that Kafka has not acknowledged', []),
    outboxLagSeconds: gauge('order_outbox_lag_seconds', 'Age of the oldest event that Kafka has not acknowledged', []),
    outboxSetAside: gauge('order_outbox_set_aside', 'Events that cannot be sent as they are', []),
    outboxSent: counter('order_outbox_sent_total', 'Events that Kafka acknowledged', ['type']),
    paymentEvents: counter('order_payment_events_total', 'Messages of the payment topic by what became of them', ['type', 'result']),
    paymentSeconds: histogram('order_payment_seconds', 'From the message of a payment to its order being PAID', []),
    bridgeBooks: gauge('order_bridge_books', 'The books of the bridge: consumed = applied + duplicate + dead + waiting + passed-by', [
      'entry',
    ]),
    bridgeLag: gauge('order_bridge_lag', 'Messages of a partition that the bridge has not taken yet', ['partition']),
    deadLettersWaiting: gauge('order_dead_letters_waiting', 'Dead letters that wait for a person', []),
    deadLettersUnpublished: gauge('order_dead_letters_unpublished', 'Dead letters that are not on their topic yet', []),
    redisPolicies: gauge('order_redis_maxmemory_policy', 'Redis servers by their maxmemory-policy; noeviction keeps jobs and leases', [
      'policy',
    ]),
    partStalled: gauge('order_part_stalled', '1 where a part of this process does nothing while work waits for it', ['part']),
    partRebuilds: counter('order_part_rebuilds_total', 'How often a part that stood still was built anew', ['part']),
    relayLeads: gauge('order_relay_leads', '1 where this process holds the relay’s lock', []),
  }
}

export type Metrics = ReturnType<typeof createMetrics>
