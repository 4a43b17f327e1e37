/** Formats a dead letter as a row of a list, in full, or as JSON. */
import type { DeadLetter } from '../db/dead-letters.ts'
import { deadLetterFaults } from '../model.ts'
import { bytesForJson, cut, safe, shownBytes, shownTime, table } from './shown.ts'

const LIST_WIDTH = 60

export const listHeading = ['ID', 'LAST', 'TIMES', 'STATE', 'FAULT', 'ORDER', 'PARTITION', 'OFFSET', 'REASON', 'VALUE']
export const listRow = (letter: DeadLetter) => [
  String(letter.id),
  shownTime(letter.lastAt),
  String(letter.times),
  letter.state,
  letter.fault,
  String(letter.orderId ?? '-'),
  String(letter.partition),
  String(letter.offset),
  cut(safe(letter.reason), LIST_WIDTH),
  cut(shownBytes(letter.value), LIST_WIDTH),
]

export function shown(letter: DeadLetter): string {
  const rows: [string, string][] = [
    ['id', String(letter.id)],
    ['state', letter.state],
    ...(letter.note === undefined ? [] : [['reason for discarding', safe(letter.note)] as [string, string]]),
    ['fault', letter.fault],
    ['reason', safe(letter.reason)],
    ['remedy', deadLetterFaults[letter.fault] ?? '-'],
    ['order', String(letter.orderId ?? '-')],
    ['event', String(letter.eventId ?? 'none')],
    ['times', String(letter.times)],
    ['first', shownTime(letter.firstAt)],
    ['last', shownTime(letter.lastAt)],
    ['published', letter.publishedAt ? shownTime(letter.publishedAt) : 'not yet'],
    ['source', `${safe(letter.topic)}, partition ${letter.partition}, offset ${letter.offset}, sent ${shownTime(letter.sentAt)}`],
    ...(letter.prunedAt
      ? [['bytes', `pruned at ${shownTime(letter.prunedAt)}`] as [string, string]]
      : [
          ['key', shownBytes(letter.key)] as [string, string],
          ...letter.headers.map(([name, value]) => [`header ${safe(name)}`, shownBytes(value)] as [string, string]),
          ['value', shownBytes(letter.value)] as [string, string],
          ...(letter.editedValue ? [['edited value, applied last', shownBytes(letter.editedValue)] as [string, string]] : []),
        ]),
  ]
  return table(rows)
}

export function forJson({ key, value, headers, offset, editedValue, ...letter }: DeadLetter) {
  return {
    ...letter,
    offset: String(offset),
    key: bytesForJson(key),
    value: bytesForJson(value),
    ...(editedValue && { editedValue: bytesForJson(editedValue) }),
    headers: headers.map(([name, bytes]) => [name, bytesForJson(bytes)]),
  }
}
