/** Dead letters as pages show them: lists by cause, and one letter with its payment, its history and what usually helps. */
import { type Cause, causeOfLetter } from '../causes.ts'
import { type DeadLetter, type LetterSummary, pageOfLetters, readLetter } from '../db/dead-letters.ts'
import { type EventState, readEventStates } from '../db/payment-events.ts'
import type { Pool } from '../db/pool.ts'
import { readWaitingLetters } from '../db/waiting-counts.ts'
import { type DeadLetterFault, deadLetterFaults } from '../model.ts'
import type { Action, ActionItem, Actions } from './action.ts'
import { type Understood, understand } from './letter-verbs.ts'

const faults = Object.keys(deadLetterFaults) as DeadLetterFault[]

export interface LetterGroup {
  cause: Cause
  fault: DeadLetterFault
  /** Counted up to 10,000, and one more. */
  count: number
  oldest: Date
  remedy: string
}

/** What waits for a person, by cause and fault, the most first. */
export async function letterGroups(pool: Pool): Promise<LetterGroup[]> {
  const waiting = await readWaitingLetters(pool, faults)
  return waiting
    .map(({ fault, count, oldest }) => ({
      cause: causeOfLetter[fault],
      fault,
      count,
      oldest: oldest.since,
      remedy: deadLetterFaults[fault],
    }))
    .sort((a, b) => b.count - a.count)
}

export interface LetterListQuery {
  cause?: Cause | undefined
  fault?: DeadLetterFault | undefined
  state?: DeadLetter['state'] | undefined
  after?: number | undefined
  limit: number
}

export interface LetterPage {
  letters: readonly LetterSummary[]
  /** For the next page; null on the last. */
  next: number | null
}

/** A page of letters, the oldest first; those that wait where `state` is not given. */
export async function listLetters(pool: Pool, { cause, fault, limit, ...query }: LetterListQuery): Promise<LetterPage> {
  const wanted = faults.filter((one) => (fault === undefined || one === fault) && (cause === undefined || causeOfLetter[one] === cause))
  const found = await pageOfLetters(pool, {
    ...query,
    ...((cause !== undefined || fault !== undefined) && { faults: wanted }),
    limit: limit + 1,
  })
  const letters = found.slice(0, limit)
  return { letters, next: found.length > limit ? letters.at(-1)!.id : null }
}

export interface LetterView {
  letter: DeadLetter
  cause: Cause
  remedy: string
  understood: Understood
  /** The payment that came of it. */
  payment: EventState | undefined
  /** What operators did with it, the latest first. */
  history: (Action & Omit<ActionItem, 'item'>)[]
}

const HISTORY = 20

/** @returns undefined where no dead letter has this id */
export async function viewLetter(pool: Pool, actions: Pick<Actions, 'historyOf'>, id: number): Promise<LetterView | undefined> {
  const letter = await readLetter(pool, id)
  if (!letter) return undefined
  const [payment] = letter.eventId === undefined ? [] : await readEventStates(pool, [letter.eventId])
  return {
    letter,
    cause: causeOfLetter[letter.fault],
    remedy: deadLetterFaults[letter.fault],
    understood: understand(letter),
    payment,
    history: await actions.historyOf('letter', id, HISTORY),
  }
}
