/** The role `relay`: the relays of the outbox and of dead letters, and what their watchdogs check. */
import type { Config } from '../config.ts'
import type { RelayHere } from '../db/outbox.ts'
import { unlessExhausted } from '../db/semaphore.ts'
import type { Pool } from '../db/pool.ts'
import type { Kafka } from '../kafka/client.ts'
import { createDeadLetterRelay } from '../kafka/dead-letter-relay.ts'
import { createOutboxRelay } from '../kafka/outbox-relay.ts'
import type { Relay } from '../kafka/relay.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Probes } from './probes.ts'
import { type Restartable, restartable } from './restartable.ts'
import type { Watched } from './watchdog.ts'

export interface RelaysDeps {
  config: Pick<Config, 'POSTGRES_DSN' | 'TOPIC_ORDER_EVENTS' | 'TOPIC_PAYMENT_EVENTS_DLQ'>
  pool: Pool
  kafka: Kafka
  logger: Logger
  metrics: Metrics
  probes: Probes
}

export interface Relays {
  /** The outbox's relay, so that writers in this process can wake it. */
  here: RelayHere
  start(): void
  stop(): Promise<void>
  /** Why the outbox's relay cannot send. */
  failure(): Error | undefined
  watched: Watched[]
}

export function createRelays({ config, pool, kafka, logger, metrics, probes }: RelaysDeps): Relays {
  const options = { pool, dsn: config.POSTGRES_DSN, kafka, logger }
  const outbox = restartable(() => createOutboxRelay({ ...options, topic: config.TOPIC_ORDER_EVENTS, metrics }))
  const deadLetters = restartable(() => createDeadLetterRelay({ ...options, topic: config.TOPIC_PAYMENT_EVENTS_DLQ }))
  const probe = () => Promise.all([probes.postgres(), kafka.reach()])
  return {
    here: { leads: () => outbox.current().leads(), wake: () => outbox.current().wake() },
    start() {
      outbox.start()
      deadLetters.start()
    },
    async stop() {
      await Promise.all([outbox.stop(), deadLetters.stop()])
    },
    failure: () => outbox.current().failure(),
    watched: [watchedRelay('relay', outbox, probe), watchedRelay('dead-letter-relay', deadLetters, probe)],
  }
}

function watchedRelay(name: string, relay: Restartable<Relay>, probe: Watched['probe']): Watched {
  return {
    name,
    required: false, // customers are served without it
    async waiting() {
      const oldest = await relay.current().oldestUnsent().catch(unlessExhausted)
      return oldest === undefined ? [] : [{ what: 'messages wait to be sent', mark: `${relay.current().progress().tried}` }]
    },
    succeeded: () => relay.current().progress().succeeded,
    probe,
    restart: relay.restart,
  }
}
