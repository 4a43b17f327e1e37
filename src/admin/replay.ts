/**
 * Replays dead letters. Each step is recorded before the next one. After an interruption or a parallel replay, a repetition or the
 * rescuer continues from the record.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type DeadLetter, readLetter, replayEvent, replayMessage } from '../db/dead-letters.ts'
import type { ReadAgain } from '../db/inbox.ts'
import { type EventState, readEventStates } from '../db/payment-events.ts'
import { isRefusal, type Pool, sqlState } from '../db/pool.ts'
import { readPaymentMessage, unreadable } from '../kafka/payment-message.ts'
import type { Tools } from './command.ts'
import { stateInWords } from './letter.ts'
import { safe } from './shown.ts'

const POLL_MS = 200
/** A job that ends just as its event is reset absorbs the new job. So jobs are added again while events wait. */
const ADD_EVERY_MS = 2000

/** The start of a replay: an event that a job must process, or an immediate result. */
type Begun = { id: number; eventId: number } | { id: number; isDone: boolean; result: string }

/** @returns whether every letter was applied, or needs nothing more */
export async function replay(tools: Tools, ids: readonly number[], waitMs: number): Promise<boolean> {
  const pool = await tools.pool()
  const queue = await tools.payments() // connected first, so that no event is reset without a job
  let allDone = true
  const report = (id: number, isDone: boolean, result: string) => {
    allDone &&= isDone
    tools.print(`${id}: ${result}`)
  }
  // Two letters may belong to one event.
  const waiting = new Map<number, number[]>()
  for (const id of ids) {
    const begun = await begin(pool, id)
    if ('eventId' in begun) waiting.set(begun.eventId, [...(waiting.get(begun.eventId) ?? []), id])
    else report(id, begun.isDone, begun.result)
  }

  const until = performance.now() + waitMs
  let addAt = performance.now()
  for (;;) {
    const states = await readEventStates(pool, [...waiting.keys()])
    for (const event of states) {
      if (event.state === 'WAITING') continue
      for (const id of waiting.get(event.eventId)!) report(id, event.state === 'APPLIED', ended(event))
      waiting.delete(event.eventId)
    }
    if (waiting.size === 0) return allDone
    const left = states.filter(({ state }) => state === 'WAITING')
    const now = performance.now()
    if (now >= addAt) {
      addAt = now + ADD_EVERY_MS
      await queue.add(left.map(({ eventId, orderId }) => ({ eventId, orderId, attempt: null }))).catch((error: Error) => {
        process.stderr.write(`The jobs could not be added (${error.message}); a worker will process the payments later.\n`)
      })
    }
    if (now >= until) {
      for (const { eventId, lastError } of left) {
        const why = lastError === undefined ? '' : `: ${safe(lastError)}`
        for (const id of waiting.get(eventId)!) report(id, false, `still waiting${why}; a worker keeps retrying`)
      }
      return false
    }
    await sleep(Math.min(POLL_MS, until - now))
  }
}

async function begin(pool: Pool, id: number): Promise<Begun> {
  const letter = await readLetter(pool, id)
  if (!letter || letter.state === 'DISCARDED') return { id, isDone: false, result: stateInWords(letter) }
  // Replayed before, perhaps just now by another operator. Its result is reported all the same.
  if (letter.state === 'REPLAYED')
    return letter.eventId === undefined ? { id, isDone: true, result: stateInWords(letter) } : { id, eventId: letter.eventId }
  if (letter.eventId !== undefined) {
    await replayEvent(pool, { id, eventId: letter.eventId })
    return { id, eventId: letter.eventId }
  }
  const read = await readAgain(pool, letter)
  if (!read) return begin(pool, id)
  if (read.became === 'recorded') return { id, isDone: true, result: 'a failed payment: recorded, the order is unchanged' }
  if (read.became === 'ignored') return { id, isDone: true, result: 'ignored: its type does not concern orders' }
  if (read.became === 'dead') return { id, isDone: false, result: `dead again: ${safe(read.reason)}` }
  return { id, eventId: read.eventId }
}

/** A letter that PostgreSQL cannot store stays dead, with that reason. */
async function readAgain(pool: Pool, letter: DeadLetter): Promise<ReadAgain | undefined> {
  try {
    return await replayMessage(pool, letter, readPaymentMessage(letter))
  } catch (error) {
    if (!isRefusal(error)) throw error
    return replayMessage(pool, letter, unreadable(letter, `PostgreSQL refuses it: ${sqlState(error)}`))
  }
}

function ended({ orderId, state, result, lastError }: EventState): string {
  if (state === 'DEAD') return `dead again: ${safe(lastError ?? 'no reason was recorded')}`
  if (result === 'paid') return `order ${orderId} is PAID`
  return result === 'already-paid' ? `order ${orderId} was already paid` : 'a failed payment: recorded, the order is unchanged'
}
