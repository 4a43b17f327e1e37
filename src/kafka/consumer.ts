/**
 * Reads a topic as a member of a consumer group, until it is stopped. kafkajs' own recovery from faults loses messages, spins or ends for
 * good. Here a batch that fails pauses its partition, and a consumer that crashes is replaced by a new one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Kafka as Client, RetryOptions } from 'kafkajs'
import { exponentialBackoffMs } from '../backoff.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Connections } from './connections.ts'
import { beMember, type ConsumeOptions, type MemberState, type PartitionLag, SESSION_MS, type Warn } from './membership.ts'
import { MOST_PAUSE_MS, PAUSE_MS } from './pauses.ts'

export interface Consumer {
  /** Never throws: while a broker or the topic is away it tries again. */
  start(): void
  /** Accepts no more batches, lets those under way end, and leaves the group; what lasts longer than 3 s is cut off. */
  stop(): Promise<void>
  /** Whether it is a member of its group. */
  joined(): boolean
  /** How many chunks were committed, in all. */
  committed(): number
  /**
   * The partitions with messages that wait for this member, or for any member while it is none. Markers of transactions are not messages.
   * @throws where Kafka does not answer
   */
  behind(signal: AbortSignal): Promise<Behind[]>
}

export interface Behind {
  partition: number
  /** Changes with each batch that was tried (successful or not), each failed membership, and each offset that the group commits. */
  mark: string
}

interface Deps extends ConsumeOptions {
  client(sockets: Connections): Client
  retry: RetryOptions
  ensureTopic(topic: string, signal: AbortSignal): Promise<unknown>
  lag: (options: { topic: string; group: string }, signal: AbortSignal) => Promise<PartitionLag[]>
  logger: Logger
}

/** Faults repeat while something is away: one warning in so many ms, the others at `debug`. */
const WARN_EVERY_MS = 10_000

export function createConsumer({ ensureTopic, createTopic, ...deps }: Deps): Consumer {
  const { topic, group, lag, logger } = deps
  const stopping = new AbortController()
  const stopped = new Promise<void>((resolve) => stopping.signal.addEventListener('abort', () => resolve()))
  const state: MemberState = { assigned: undefined, committed: 0, tries: new Map(), emptyUpTo: new Map() }
  const warn = createWarn(logger, topic)
  /** How often it failed to join the group, or lost its membership. */
  let failures = 0
  let mayCreateTopic = createTopic
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    for (let faults = 1; !stopping.signal.aborted; faults++) {
      const began = performance.now()
      try {
        await beMember({ ...deps, warn, beforeJoin: createTopicOnce, stopped, signal: stopping.signal }, state)
      } catch (error) {
        if (stopping.signal.aborted) return
        failures += 1
        // After a session that went well the fault is a new one.
        if (performance.now() - began > SESSION_MS) faults = 1
        const againInMs = exponentialBackoffMs(faults, PAUSE_MS, MOST_PAUSE_MS)
        warn(
          error,
          { againInMs },
          isMissing(error) ? 'topic is missing; waiting for its owner to create it' : 'topic cannot be read; trying again',
        )
        await sleep(againInMs, undefined, { signal: stopping.signal }).catch(() => {})
      }
    }
  }

  /** Only until it has existed once: a topic that is deleted later is created again by its owner, with the owner's partitions. */
  async function createTopicOnce(): Promise<void> {
    if (!mayCreateTopic) return
    try {
      await ensureTopic(topic, stopping.signal)
      mayCreateTopic = false
    } catch (error) {
      warn(error, {}, 'topic could not be created or checked; reading it anyway')
    }
  }

  return {
    start() {
      running ??= run()
    },
    async stop() {
      stopping.abort()
      await running
    },
    joined: () => state.assigned !== undefined,
    committed: () => state.committed,
    async behind(signal) {
      const lags = await lag({ topic, group }, signal)
      const { assigned, emptyUpTo, tries } = state
      return lags
        .filter(({ partition, messages, end }) => {
          const isOurs = !assigned || assigned.includes(partition)
          return isOurs && messages > 0 && end !== emptyUpTo.get(partition)
        })
        .map(({ partition, messages, end }) => ({ partition, mark: `${end - BigInt(messages)} ${tries.get(partition)} ${failures}` }))
    },
  }
}

function createWarn(logger: Logger, topic: string): Warn {
  let warnedAt = Number.NEGATIVE_INFINITY
  return (error, fields, message) => {
    const isQuiet = performance.now() - warnedAt < WARN_EVERY_MS
    if (!isQuiet) warnedAt = performance.now()
    logger[isQuiet ? 'debug' : 'warn']({ err: error, topic, ...fields }, message)
  }
}

/** kafkajs throws this error as it is, or as a cause. */
function isMissing(error: unknown): boolean {
  return [error, (error as Error).cause].some((one) => (one as { type?: string } | undefined)?.type === 'UNKNOWN_TOPIC_OR_PARTITION')
}
