/** How ioredis finds the master that Sentinels name, but for one fault of it. */
import { type SentinelConnectionOptions, SentinelConnector } from 'ioredis'

/**
 * ioredis' detector of failovers disconnects whatever its connector is at. Where that is the opening of the next connection, ioredis 6.0.0
 * takes the connection for closed by us and never opens it again. What is being opened asks the Sentinels anyway, so here it goes on.
 */
export class SteadySentinelConnector extends SentinelConnector {
  #isOpening = false
  #heeded: unknown

  constructor(options: unknown) {
    super(options as SentinelConnectionOptions) // as ioredis types what makes connectors
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
    // A detector comes once, and says so before; any other call is ours.
    const { failoverDetector: detector } = this as unknown as { failoverDetector: { isDisconnected: boolean } | null }
    const isFailover = detector?.isDisconnected === true && detector !== this.#heeded
    if (isFailover) this.#heeded = detector
    if (!(isFailover && this.#isOpening)) super.disconnect()
  }
}
