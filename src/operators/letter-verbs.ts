/** Dead letters as operators handle them: replay, edit and discard, and how the reader understands a message. */
import { type DeadLetter, type LetterState, lockLetters, readLetterStates } from '../db/dead-letters.ts'
import { discardLetters, editEvent, replayEvents, replayMessage } from '../db/handle-letters.ts'
import type { Message, ReadAgain, ReadMessage } from '../db/inbox.ts'
import type { ItemOutcome } from '../db/operator-actions.ts'
import { isRefusal, sqlState, type Transaction } from '../db/pool.ts'
import { having } from '../db/operator-verbs.ts'
import { readPaymentMessage, unreadable } from '../kafka/payment-message.ts'
import type { PaymentEvent } from '../model.ts'
import type { PaymentQueue } from '../queues/payment.ts'
import { ActionRefused } from './action.ts'
import { changed, failed, type ItemVerb, LOCKED_ROW, unchanged } from './item-verb.ts'

/** Larger messages cannot be edited. */
export const MOST_EDITED_BYTES = 1024 * 1024

type EventToDrive = { eventId: number; orderId: number }

interface LetterDeps {
  queues(): Promise<{ paymentQueue: Pick<PaymentQueue, 'retryNow'> }>
}

export function letterVerbs(deps: LetterDeps): Record<'replay-letters' | 'edit-letter' | 'discard-letters', ItemVerb> {
  const connect = async () => {
    await deps.queues() // so that no event is reset without a job
    return new Map<number, never>()
  }
  const drive = async (events: readonly EventToDrive[]) => {
    if (events.length > 0) await (await deps.queues()).paymentQueue.retryNow(events)
  }
  return {
    'replay-letters': {
      having: having.letters,
      prepare: connect,
      async act(tx, ids) {
        const { outcomes, events } = await replayLetters(tx, ids)
        return { outcomes, after: () => drive(events) }
      },
    },
    'edit-letter': {
      prepare: connect,
      async act(tx, [id], { value }) {
        const { outcome, event } = await editLetter(tx, id!, value!)
        return { outcomes: [outcome], after: () => drive(event ? [event] : []) }
      },
    },
    'discard-letters': {
      having: having.letters,
      async act(tx, ids, { reason }) {
        const discarded = new Set(await discardLetters(tx, ids, reason))
        const states = await readLetterStates(tx, ids)
        return { outcomes: ids.map((id) => (discarded.has(id) ? changed(id, 'discarded') : notWaiting(id, states.get(id)))) }
      },
    },
  }
}

/** UTC, to the second. */
const shownTime = (time: Date): string =>
  time
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z')

/** The state of a letter in words, for what cannot be carried out on it. */
export function letterInWords(letter: LetterState | undefined): string {
  if (!letter) return 'no dead letter has this id'
  const { state, note, lastAt } = letter
  if (state === 'DISCARDED') return `it was discarded at ${shownTime(lastAt)}: ${note}`
  return state === 'REPLAYED' ? `it was replayed at ${shownTime(lastAt)}` : 'it waits for an operator'
}

function notWaiting(id: number, letter: LetterState | undefined): ItemOutcome {
  if (letter?.state === 'WAITING') return failed(id, LOCKED_ROW)
  return letter ? unchanged(id, letterInWords(letter)) : failed(id, letterInWords(letter))
}

/** Events of letters are driven again as they are; other messages are read again. */
async function replayLetters(tx: Transaction, ids: readonly number[]): Promise<{ outcomes: ItemOutcome[]; events: EventToDrive[] }> {
  const letters = await lockLetters(tx, ids)
  const states = await readLetterStates(tx, ids)
  const withEvent = letters.filter(({ eventId }) => eventId !== undefined)
  const events = await replayEvents(
    tx,
    withEvent.map(({ id }) => id),
  )
  const outcomes = withEvent.map(({ id, eventId, orderId }) => changed(id, `payment ${eventId} of order ${orderId} is processed again`))
  for (const letter of letters.filter(({ eventId }) => eventId === undefined)) {
    const message = readPaymentMessage(letter)
    const read = await inSavepoint(tx, letter, message)
    outcomes.push(outcomeOf(letter.id, read))
    if (read.became === 'received' && message.read === 'event') events.push({ eventId: read.eventId, orderId: message.event.orderId })
  }
  const locked = new Set(letters.map(({ id }) => id))
  return { outcomes: [...outcomes, ...ids.filter((id) => !locked.has(id)).map((id) => notWaiting(id, states.get(id)))], events }
}

/** A letter that PostgreSQL cannot store stays dead, with that reason. */
async function inSavepoint(tx: Transaction, letter: DeadLetter, message: ReadMessage): Promise<ReadAgain> {
  try {
    return await tx.transaction((inner) => replayMessage(inner, letter, message))
  } catch (error) {
    if (!isRefusal(error)) throw error
    return replayMessage(tx, letter, unreadable(letter, `PostgreSQL refuses it: ${sqlState(error)}`))
  }
}

function outcomeOf(id: number, read: ReadAgain): ItemOutcome {
  if (read.became === 'dead') return failed(id, `dead again: ${read.reason}`)
  if (read.became === 'recorded') return changed(id, 'a failed payment: recorded, the order is unchanged')
  if (read.became === 'ignored') return changed(id, 'ignored: its type does not concern orders')
  if (read.became === 'duplicate') return changed(id, `a repetition of payment ${read.eventId}: nothing is applied twice`)
  return changed(id, `payment ${read.eventId} is processed`)
}

/** @throws ActionRefused 422 where the edited message cannot be received. Nothing is changed then */
async function editLetter(tx: Transaction, id: number, value: Buffer): Promise<{ outcome: ItemOutcome; event?: EventToDrive }> {
  const [letter] = await lockLetters(tx, [id])
  if (!letter) return { outcome: notWaiting(id, (await readLetterStates(tx, [id])).get(id)) }
  const message = readPaymentMessage({ ...letter, value })
  if (message.read === 'ignored') throw refused('its type does not concern orders, so it would be ignored; discard the letter instead')
  if (message.read !== 'event') throw refused(message.reason)
  const { eventId } = letter
  const read = eventId === undefined ? await replayMessage(tx, letter, message) : await editEvent(tx, { ...letter, eventId }, message)
  if (read.became === 'dead') throw refused(read.reason)
  const outcome = outcomeOf(id, read)
  return read.became === 'received' ? { outcome, event: { eventId: read.eventId, orderId: message.event.orderId } } : { outcome }
}

const refused = (why: string) => new ActionRefused(422, `The edited message cannot be applied: ${why}`)

/** How the reader understands a message. */
export type Understood = { isReadable: true; event: PaymentEvent } | { isReadable: false; reason: string }

export function understand(message: Message): Understood {
  const read = readPaymentMessage(message)
  if (read.read === 'event') return { isReadable: true, event: read.event }
  return { isReadable: false, reason: read.read === 'ignored' ? 'its type does not concern orders' : read.reason }
}
