/** Checks requests for actions, and converts actions between their stored form and the one that pages use. */
import { type Verb, verbs } from '../causes.ts'
import type { ActionRow } from '../db/operator-actions.ts'
import { MAX_INTEGER, storable } from '../model.ts'
import { type Action, type ActionRequest, ActionRefused, MOST_NAMED, MOST_PER_SECOND, type Selection } from './action.ts'
import { MOST_EDITED_BYTES } from './letter-verbs.ts'

const MOST_REASON = 1000

export const isVerb = (text: string): text is Verb => Object.hasOwn(verbs, text)

/** @throws ActionRefused 422 */
export function checkRequest({ verb, selection, reason, perSecond }: ActionRequest): void {
  const refuse = (message: string) => {
    throw new ActionRefused(422, message)
  }
  if (!isVerb(verb)) refuse('There is no such action')
  if (reason.trim() === '') refuse('The reason is missing')
  if ([...reason].length > MOST_REASON || !storable(reason)) refuse(`The reason has more than ${MOST_REASON} characters, or a NUL`)
  if (perSecond !== undefined && !(Number.isInteger(perSecond) && perSecond >= 1 && perSecond <= MOST_PER_SECOND))
    refuse(`The rate must be a whole number from 1 to ${MOST_PER_SECOND} items a second`)
  if (!('items' in selection)) {
    if (verb === 'edit-letter') refuse('Only one dead letter at a time can be edited')
    return
  }
  const { items, value } = selection
  const most = Number.MAX_SAFE_INTEGER
  if (items.length === 0 || items.length > MOST_NAMED) refuse(`Name between 1 and ${MOST_NAMED} items, or a cause`)
  const isSmall = verbs[verb].item === 'checkout' || verbs[verb].item === 'product'
  if (!items.every((item) => Number.isInteger(item) && item >= 1 && item <= (isSmall ? MAX_INTEGER : most)))
    refuse('The id of an item is not a positive whole number')
  if (verb !== 'edit-letter' && value !== undefined) refuse('Only an edit has a new value')
  if (verb === 'edit-letter' && (items.length !== 1 || value === undefined)) refuse('An edit needs one dead letter and its new value')
  if (value !== undefined && value.length > MOST_EDITED_BYTES) refuse('The edited message is larger than 1 MiB')
}

/** One text for one selection: it tells whether the same action runs. */
export function selectionText(selection: Selection): string {
  if ('items' in selection) {
    const items = [...new Set(selection.items)].sort((a, b) => a - b)
    return JSON.stringify({ items, ...(selection.value && { value: selection.value.toString('base64') }) })
  }
  if ('cause' in selection) return JSON.stringify({ cause: selection.cause, service: selection.service })
  return JSON.stringify(selection)
}

export const actionOf = (row: ActionRow): Action => ({
  id: row.id,
  verb: row.verb as Verb,
  selection: row.selection as Selection,
  operator: row.operator,
  reason: row.reason,
  state: row.state,
  perSecond: row.per_second,
  items: row.items,
  done: row.done,
  changed: row.changed,
  failed: row.failed,
  createdAt: row.created_at,
  endedAt: row.ended_at,
})
