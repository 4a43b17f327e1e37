/** Sends the unsent rows of a table to Kafka and marks them as sent. The producer is replaced after each rejection. */
import type { Logger } from '../telemetry/logger.ts'
import { faultOfMessage, type Kafka, type Producer } from './client.ts'
import type { Position } from './positions.ts'
import { lastOf, toSends, type Unsent } from './to-sends.ts'

/** A row that Kafka has acknowledged, and where it put it. */
export interface Acknowledged {
  id: number
  position: Position | undefined
}

/** A table of rows that wait for Kafka. */
export interface RelaySource<Row extends Unsent> {
  /** The oldest unsent rows, in the order in which they are to be sent; ids rise along it. */
  readUnsent(limit: number): Promise<Row[]>
  /** Kafka has acknowledged these; may be repeated. @returns the ids of those whose rows another session keeps locked: to be marked again */
  markSent(rows: readonly Acknowledged[]): Promise<number[]>
  /** This row can never be sent; the others continue without it. */
  markUndeliverable(id: number, reason: string): Promise<void>
}

export interface SenderOptions<Row extends Unsent> {
  /** For the log. */
  name: string
  source: RelaySource<Row>
  kafka: Pick<Kafka, 'connectProducer' | 'ensureTopic'>
  topic: string
  batchRows: number
  logger: Logger
  /** Whether this process still may send. */
  leads(): boolean
  /** Cuts the connections of the producer when it is aborted. */
  signal: AbortSignal
  /** Called with what Kafka has acknowledged. */
  onSent: (rows: readonly Row[]) => void
}

export class Sender<Row extends Unsent> {
  /** How often it has read, connected or sent, in all; `tried` includes what failed. */
  readonly progress = { tried: 0, succeeded: 0 }
  readonly #options: SenderOptions<Row>
  #producer: Producer | undefined
  /** Rows up to this id were in a rejected send. They are sent one by one, so that only the row at fault is marked undeliverable. */
  #aloneUpTo = 0
  /** Acknowledged but not marked yet, since PostgreSQL went away or their rows are locked. They are not sent again. */
  #acknowledged: Acknowledged[] = []

  constructor(options: SenderOptions<Row>) {
    this.#options = options
  }

  /**
   * Sends at most `batchRows` rows, the oldest first. One call at a time.
   * @returns how many rows were sent or found undeliverable
   * @throws where PostgreSQL or Kafka is away; the rows stay unsent
   */
  async sendUnsent(): Promise<number> {
    const { source, batchRows, leads, signal } = this.#options
    await this.#markAcknowledged()
    if (!leads()) return 0
    const unsent = await source.readUnsent(batchRows)
    const sends = toSends(
      unsent.filter(({ id }) => !this.#acknowledged.some((one) => one.id === id)),
      this.#aloneUpTo,
    )
    let done = 0
    for (let rows = sends.shift(); rows; rows = sends.shift()) {
      this.#producer ??= await this.#openProducer()
      // Checked before each send: a process that was frozen since the last one learns here that it may not lead any more.
      if (signal.aborted || !leads()) return done
      const rejection = await this.#send(this.#producer, rows)
      if (rejection && !(await this.#handleRejection(rejection, rows))) {
        sends.unshift(...toSends(rows, this.#aloneUpTo))
        continue
      }
      await this.#markAcknowledged()
      done += rows.length
    }
    return done
  }

  count(isSuccess: boolean): void {
    this.progress.tried += 1
    if (isSuccess) this.progress.succeeded += 1
  }

  async closeProducer(): Promise<void> {
    const closing = this.#producer
    this.#producer = undefined
    await closing?.close()
  }

  /** Also creates a missing topic: a send to a topic that does not exist takes seconds to be rejected. */
  async #openProducer(): Promise<Producer> {
    const { kafka, topic, signal, logger } = this.#options
    const producer = await kafka.connectProducer(signal)
    // Connecting and the topic may each take three tries of 5 s, and the send after them as long: in all longer than the watchdog's limit.
    this.count(false)
    await kafka
      .ensureTopic(topic, signal)
      .catch((error) => logger.warn({ err: error, topic }, 'topic could not be created or checked; sending anyway'))
    this.count(false)
    return producer
  }

  /** @returns the rejection; undefined where the send was acknowledged */
  async #send(producer: Producer, rows: readonly Row[]): Promise<Error | undefined> {
    const { topic, onSent } = this.#options
    let positions: (Position | undefined)[]
    try {
      positions = await producer.send(
        topic,
        rows.map(({ message }) => message),
      )
    } catch (error) {
      this.count(false)
      return error as Error
    }
    this.count(true)
    this.#acknowledged = [...this.#acknowledged, ...rows.map(({ id }, i) => ({ id, position: positions[i] }))]
    onSent(rows)
    return undefined
  }

  /**
   * @returns true where the only row is undeliverable; false where the rows have to be sent again, one by one
   * @throws the rejection where its cause is not in the rows
   */
  async #handleRejection(rejection: Error, rows: readonly Row[]): Promise<boolean> {
    const { name, source, logger } = this.#options
    // This producer would report messages as acknowledged and drop them: only a new one may continue, with the same rows.
    await this.closeProducer()
    const last = lastOf(rows)
    this.#aloneUpTo = Math.max(this.#aloneUpTo, last.id)
    const fault = faultOfMessage(rejection)
    if (!fault) throw rejection
    if (rows.length > 1) return false
    await source.markUndeliverable(last.id, fault)
    logger.error({ err: rejection, relay: name, id: last.id, orderId: last.orderId }, 'message is undeliverable; continuing without it')
    return true
  }

  async #markAcknowledged(): Promise<void> {
    if (this.#acknowledged.length === 0) return
    const locked = new Set(await this.#options.source.markSent(this.#acknowledged))
    this.#acknowledged = this.#acknowledged.filter(({ id }) => locked.has(id))
  }
}
