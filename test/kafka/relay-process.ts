/** A relay in a process of its own, to be frozen and killed. SIGTERM stops it, and then nothing may keep the process alive. */
import { connectPool } from '../../src/db/pool.ts'
import { createKafka } from '../../src/kafka/client.ts'
import { createOutboxRelay } from '../../src/kafka/outbox-relay.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'

const [dsn, bootstrap, topic] = process.argv.slice(2) as [string, string, string]
const logger = createLogger('silent')
const pool = await connectPool(dsn, { size: 2, logger })
const kafka = createKafka({ brokers: [bootstrap], clientId: 'relay-process', logger })
const relay = createOutboxRelay({ pool, dsn, kafka, topic, logger, metrics: createMetrics() })
process.once('SIGTERM', async () => {
  await relay.stop()
  await pool.end()
})
relay.start()
