/**
 * Replays dead letters, and waits for their payments. The action is recorded before anything is waited for: after an interruption or a
 * parallel replay, a repetition or the rescuer continues from the record.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { readLetterStates } from '../db/dead-letters.ts'
import { type EventState, readEventStates } from '../db/payment-events.ts'
import type { Pool } from '../db/pool.ts'
import type { Action, ActionRequest, Actions } from '../operators/action.ts'
import { LOCKED_ROW } from '../operators/item-verb.ts'
import type { Tools } from './command.ts'
import { safe } from './shown.ts'

const POLL_MS = 200
/** A job that ends just as its event is reset absorbs the new job. So jobs are added again while events wait. */
const ADD_EVERY_MS = 2000

type Report = (id: number, isDone: boolean, result: string) => void

/** @returns whether every letter was applied, or needs nothing more */
export async function replay(
  tools: Tools,
  ids: readonly number[],
  { waitMs, by, value }: { waitMs: number; by: Pick<ActionRequest, 'operator' | 'reason'>; value?: Buffer },
): Promise<boolean> {
  await tools.queues() // connected first, so that no event is reset without a job
  const actions = await tools.actions()
  const until = performance.now() + waitMs
  const request = value === undefined ? { verb: 'replay-letters' as const, selection: { items: ids } } : editOf(ids[0]!, value)
  const action = await actions.act({ ...request, ...by })
  let allDone = await untilDone(actions, action, until)
  if (!allDone) return false
  const report: Report = (id, isDone, result) => {
    allDone &&= isDone
    tools.print(`${id}: ${safe(result)}`)
  }
  const waiting = await reportResults(tools, action, { ids, until, report })
  return (await watch(tools, waiting, { until, report })) && allDone
}

const editOf = (id: number, value: Buffer) => ({ verb: 'edit-letter' as const, selection: { items: [id], value } })

/** Many letters are replayed by a worker. @returns whether it has ended in time */
export async function untilDone(actions: Actions, action: Action, until: number): Promise<boolean> {
  if (action.state === 'DONE') return true
  process.stderr.write(
    `Action ${action.id} runs in the workers, ${action.perSecond} items a second; order-admin actions show ${action.id}\n`,
  )
  for (;;) {
    const now = await actions.read(action.id)
    if (now?.state === 'DONE') return true
    if (now?.state === 'ABORTED' || performance.now() >= until) return false
    await sleep(POLL_MS)
  }
}

interface Wanted {
  ids: readonly number[]
  until: number
  report: Report
}

/** @returns the letters whose payments are waited for, by payment: two letters may belong to one */
async function reportResults(tools: Tools, action: Action, { ids, until, report }: Wanted): Promise<Map<number, number[]>> {
  const actions = await tools.actions()
  const outcomes = new Map((await actions.items(action.id, { limit: ids.length })).map((one) => [one.item, one]))
  const locked = ids.filter((id) => outcomes.get(id)!.detail === LOCKED_ROW)
  const letters = await readHandled(await tools.pool(), { ids, locked, until })
  const waiting = new Map<number, number[]>()
  for (const id of ids) {
    const letter = letters.get(id)
    const { result, detail } = outcomes.get(id)!
    // Also one that was replayed before, perhaps just now by another operator, and one that has become a dead letter again meanwhile.
    if (letter?.eventId !== undefined && (result === 'changed' || letter.state === 'REPLAYED'))
      waiting.set(letter.eventId, [...(waiting.get(letter.eventId) ?? []), id])
    else report(id, result === 'changed' || letter?.state === 'REPLAYED', detail!)
  }
  return waiting
}

/** Most often it is another operator's replay that has locked a letter: a moment later there is its result. */
async function readHandled(pool: Pool, { ids, locked, until }: { ids: readonly number[]; locked: readonly number[]; until: number }) {
  for (;;) {
    const letters = await readLetterStates(pool, ids)
    if (performance.now() >= until || locked.every((id) => letters.get(id)?.state !== 'WAITING')) return letters
    await sleep(POLL_MS)
  }
}

/** @returns whether all of them have ended in time */
async function watch(tools: Tools, waiting: Map<number, number[]>, { until, report }: { until: number; report: Report }): Promise<boolean> {
  const pool = await tools.pool()
  const { paymentQueue } = await tools.queues()
  let addAt = performance.now()
  for (;;) {
    const states = await readEventStates(pool, [...waiting.keys()])
    for (const event of states) {
      if (event.state === 'WAITING') continue
      for (const id of waiting.get(event.eventId)!) report(id, event.state === 'APPLIED', ended(event))
      waiting.delete(event.eventId)
    }
    if (waiting.size === 0) return true
    const left = states.filter(({ state }) => state === 'WAITING')
    const now = performance.now()
    if (now >= addAt) {
      addAt = now + ADD_EVERY_MS
      await paymentQueue.add(left.map(({ eventId, orderId }) => ({ eventId, orderId, attempt: null }))).catch((error: Error) => {
        process.stderr.write(`The jobs could not be added (${error.message}); a worker will process the payments later.\n`)
      })
    }
    if (now >= until) {
      for (const { eventId, lastError } of left) {
        const why = lastError === undefined ? '' : `: ${lastError}`
        for (const id of waiting.get(eventId)!) report(id, false, `still waiting${why}; a worker keeps retrying`)
      }
      return false
    }
    await sleep(Math.min(POLL_MS, until - now))
  }
}

function ended({ orderId, state, result, lastError }: EventState): string {
  if (state === 'DEAD') return `dead again: ${lastError ?? 'no reason was recorded'}`
  if (result === 'paid') return `order ${orderId} is PAID`
  return result === 'already-paid' ? `order ${orderId} was already paid` : 'a failed payment: recorded, the order is unchanged'
}
