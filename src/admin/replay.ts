/**
 * Replaying dead letters. Each step is on record before the next one: what is interrupted, repeated or done by two people at once is
 * found again by whoever comes next, or by the look for payments without a job.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type DeadLetter, readLetter, replayEvent, replayMessage } from '../db/dead-letters.ts'
import type { ReadAgain } from '../db/inbox.ts'
import { type EventState, readEventStates } from '../db/payment-events.ts'
import { isRefusal, type Pool, sqlState } from '../db/pool.ts'
import { readPaymentMessage, unreadable } from '../kafka/payment-message.ts'
import type { Tools } from './command.ts'
import { standing } from './letter.ts'
import { safe } from './shown.ts'

const LOOK_EVERY_MS = 200
/** A job that was just ending when its event was set back swallows the new one: it is added again while the event waits. */
const ADD_EVERY_MS = 2000

/** What became of a letter: an event that a job has to drive, or what there is to say at once. */
type Begun = { id: number; eventId: number } | { id: number; isDone: boolean; said: string }

/** @returns whether each of them was applied, or needed nothing any more */
export async function replay(tools: Tools, ids: readonly number[], waitMs: number): Promise<boolean> {
  const pool = await tools.pool()
  const queue = await tools.payments() // first: without jobs nothing is set back
  let allDone = true
  const say = (id: number, isDone: boolean, said: string) => {
    allDone &&= isDone
    tools.print(`${id}: ${said}`)
  }
  // Two letters may tell of one event.
  const waiting = new Map<number, number[]>()
  for (const id of ids) {
    const begun = await begin(pool, id)
    if ('eventId' in begun) waiting.set(begun.eventId, [...(waiting.get(begun.eventId) ?? []), id])
    else say(id, begun.isDone, begun.said)
  }

  const until = performance.now() + waitMs
  let addAt = performance.now()
  for (;;) {
    const states = await readEventStates(pool, [...waiting.keys()])
    for (const event of states) {
      if (event.state === 'WAITING') continue
      for (const id of waiting.get(event.eventId)!) say(id, event.state === 'APPLIED', ended(event))
      waiting.delete(event.eventId)
    }
    if (waiting.size === 0) return allDone
    const left = states.filter(({ state }) => state === 'WAITING')
    const now = performance.now()
    if (now >= addAt) {
      addAt = now + ADD_EVERY_MS
      await queue.add(left.map(({ eventId, orderId }) => ({ eventId, orderId, attempt: null }))).catch((error: Error) => {
        process.stderr.write(`The jobs could not be added (${error.message}); a worker finds the payments by itself.\n`)
      })
    }
    if (now >= until) {
      for (const { eventId, lastError } of left) {
        const why = lastError === undefined ? '' : `: ${safe(lastError)}`
        for (const id of waiting.get(eventId)!) say(id, false, `still waiting${why}; a worker goes on with it`)
      }
      return false
    }
    await sleep(Math.min(LOOK_EVERY_MS, until - now))
  }
}

async function begin(pool: Pool, id: number): Promise<Begun> {
  const letter = await readLetter(pool, id)
  if (!letter || letter.state === 'DISCARDED') return { id, isDone: false, said: standing(letter) }
  // Replayed before, perhaps a moment ago by somebody else: what became of it is still worth knowing.
  if (letter.state === 'REPLAYED')
    return letter.eventId === undefined ? { id, isDone: true, said: standing(letter) } : { id, eventId: letter.eventId }
  if (letter.eventId !== undefined) {
    await replayEvent(pool, { id, eventId: letter.eventId })
    return { id, eventId: letter.eventId }
  }
  const read = await readAgain(pool, letter)
  if (!read) return begin(pool, id)
  if (read.became === 'recorded') return { id, isDone: true, said: 'a failed payment: it is kept, and changes nothing' }
  if (read.became === 'ignored') return { id, isDone: true, said: 'it means nothing to an order, and was passed by' }
  if (read.became === 'dead') return { id, isDone: false, said: `dead again: ${safe(read.reason)}` }
  return { id, eventId: read.eventId }
}

/** What PostgreSQL cannot keep stays as it is, with that reason. */
async function readAgain(pool: Pool, letter: DeadLetter): Promise<ReadAgain | undefined> {
  try {
    return await replayMessage(pool, letter, readPaymentMessage(letter))
  } catch (error) {
    if (!isRefusal(error)) throw error
    return replayMessage(pool, letter, unreadable(letter, `PostgreSQL refuses it: ${sqlState(error)}`))
  }
}

function ended({ orderId, state, result, lastError }: EventState): string {
  if (state === 'DEAD') return `dead again: ${safe(lastError ?? 'no reason was noted')}`
  if (result === 'paid') return `order ${orderId} is PAID`
  return result === 'already-paid' ? `order ${orderId} was paid already` : 'a failed payment: it is kept, and changes nothing'
}
