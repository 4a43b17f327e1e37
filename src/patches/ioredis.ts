/**
 * A workaround for ioredis 6.0.0: a failover detected while the next connection is being opened ends that connection for good.
 * Seen in test/service/redis-sentinel.test.ts with a killed master, in one run of five (docs/decisions/0022).
 * It can go when that test passes fifty times with ioredis' own `SentinelConnector`.
 */
import { type SentinelConnectionOptions, SentinelConnector } from 'ioredis'

/**
 * ioredis' failover detector disconnects its connector in any state. If the connector is opening the next connection, ioredis takes that
 * connection for closed by us and never reopens it. A connection that is being opened asks the Sentinels anyway, so it may continue.
 */
export class SteadySentinelConnector extends SentinelConnector {
  #isOpening = false
  #lastDetector: unknown

  constructor(options: unknown) {
    super(options as SentinelConnectionOptions) // ioredis types the options of connectors as unknown
  }

  override async connect(...args: Parameters<SentinelConnector['connect']>): ReturnType<SentinelConnector['connect']> {
    this.#isOpening = true
    try {
      return await super.connect(...args)
    } finally {
      this.#isOpening = false
    }
  }

  override disconnect(): void {
    // A detector disconnects once and marks itself first; any other call is ours.
    const { failoverDetector: detector } = this as unknown as { failoverDetector: { isDisconnected: boolean } | null }
    const isFailover = detector?.isDisconnected === true && detector !== this.#lastDetector
    if (isFailover) this.#lastDetector = detector
    if (!(isFailover && this.#isOpening)) super.disconnect()
  }
}
