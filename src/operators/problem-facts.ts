/** Everything that problems are found from, read at one time: from PostgreSQL within its limit of 2 s, from Redis within a second. */
import type { Queue } from 'bullmq'
import { causeOfLetter } from '../causes.ts'
import { readDrain } from '../db/drain.ts'
import { type OutboxLag, readLag } from '../db/outbox.ts'
import type { Pool } from '../db/pool.ts'
import { type Process, readLastSeen, readProcesses } from '../db/processes.ts'
import {
  countUntried,
  readUndeliverable,
  readWaitingItems,
  readWaitingLetters,
  readWaitingProducts,
  type UntriedItems,
  type WaitingItems,
  type WaitingLetters,
  type WaitingProducts,
} from '../db/waiting-counts.ts'
import type { DeadLetterFault } from '../model.ts'
import { oldestWaitingMs } from '../queues/queue-state.ts'
import { within } from '../within.ts'

export interface QueueFacts {
  name: string
  isPaused: boolean
  oldestWaitingMs: number
}

export interface Facts {
  /** By PostgreSQL's clock, in epoch ms. */
  now: number
  /** When this process began to serve, by the same clock. Others may have begun a moment later. */
  startedAt: number
  processes: readonly Process[]
  /** When a process of each role last reported itself. */
  lastSeen: ReadonlyMap<string, Date>
  items: readonly WaitingItems[]
  untried: UntriedItems
  letters: readonly WaitingLetters[]
  products: readonly WaitingProducts[]
  undeliverable: Awaited<ReturnType<typeof readUndeliverable>>
  outbox: OutboxLag
  drainedSince: Date | undefined
  /** undefined: Redis does not answer. */
  queues: readonly QueueFacts[] | undefined
}

export interface FactDeps {
  read(): Promise<Pool>
  /** The queues whose jobs drive orders; undefined: Redis cannot be reached. */
  queues: readonly Queue[] | undefined
  /** Epoch ms, by PostgreSQL's clock. */
  now(): number
  startedAt: number
}

const REDIS_MS = 1000
/** Jobs that wait for longer were not taken: at 250 checkouts a second they wait for 20 ms. */
const UNTRIED_MS = 2000
const letterFaults = Object.keys(causeOfLetter) as DeadLetterFault[]

async function readQueue(queue: Queue, now: number): Promise<QueueFacts> {
  const [isPaused, ms] = await Promise.all([queue.isPaused(), oldestWaitingMs(queue, now)])
  return { name: queue.name, isPaused, oldestWaitingMs: ms }
}

/** @throws where PostgreSQL does not answer */
export async function readFacts({ read, queues, now, startedAt }: FactDeps): Promise<Facts> {
  const fromRedis = queues && within(REDIS_MS, Promise.all(queues.map((queue) => readQueue(queue, now())))).catch(() => undefined)
  const pool = await read()
  const [processes, lastSeen, items, untried, letters, products, undeliverable, outbox, drainedSince] = await Promise.all([
    readProcesses(pool),
    readLastSeen(pool),
    readWaitingItems(pool),
    countUntried(pool, UNTRIED_MS),
    readWaitingLetters(pool, letterFaults),
    readWaitingProducts(pool),
    readUndeliverable(pool),
    readLag(pool),
    readDrain(pool),
  ])
  return {
    now: now(),
    startedAt,
    processes,
    lastSeen,
    items,
    untried,
    letters,
    products,
    undeliverable,
    outbox,
    drainedSince,
    queues: await fromRedis,
  }
}
