/** Reads a search for orders as operators write it: in a form, in a URL, or at the command line. */
import { isCause, services } from '../causes.ts'
import { MAX_INTEGER, storable } from '../model.ts'
import { type OrderQuery, orderStates } from './orders.ts'

/** A search that cannot be made; the message says which value is wrong, and what to write. */
export class BadQuery extends Error {
  override name = 'BadQuery'
}

/** Empty texts count as absent, since forms send empty fields. */
export type Given = Partial<Record<'q' | 'state' | 'cause' | 'service' | 'product' | 'olderThan' | 'after' | 'limit', string>>

const MOST_SECONDS = 10 * 365 * 86_400
/** No key, email or payment id that can be stored for long is longer. */
const MOST_CHARACTERS = 255
const DEFAULT_LIMIT = 50
const MOST_ROWS = 1000

/** @throws BadQuery */
export function readOrderQuery(given: Given): OrderQuery {
  const text = (name: keyof Given) => given[name]?.trim() || undefined
  const seconds = whole('Older than', text('olderThan'), { least: 0, most: MOST_SECONDS })
  return {
    q: searchText(text('q')),
    state: oneOf('State', text('state'), orderStates),
    cause: causeOf(text('cause')),
    service: oneOf('Service', text('service'), services),
    productId: whole('Product', text('product'), { least: 0, most: MAX_INTEGER }),
    olderThanMs: seconds === undefined ? undefined : seconds * 1000,
    after: text('after') === undefined ? undefined : String(whole('After', text('after'), { least: 1, most: MAX_INTEGER })),
    limit: whole('Limit', text('limit'), { least: 1, most: MOST_ROWS }) ?? DEFAULT_LIMIT,
  }
}

function searchText(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  if (text.length > MOST_CHARACTERS) throw new BadQuery(`The search text has ${text.length} characters; write at most ${MOST_CHARACTERS}`)
  if (!storable(text)) throw new BadQuery('The search text has a NUL or half of a surrogate pair; remove it')
  return text
}

function causeOf(text: string | undefined) {
  if (text === undefined || isCause(text)) return text
  throw new BadQuery(`There is no cause ${JSON.stringify(text)}; docs/runbook.md lists the causes`)
}

function oneOf<Word extends string>(name: string, text: string | undefined, words: readonly Word[]): Word | undefined {
  const word = words.find((one) => one === text)
  if (text !== undefined && word === undefined) throw new BadQuery(`${name}: ${JSON.stringify(text)} is none of ${words.join(', ')}`)
  return word
}

/** @throws BadQuery where the text is not a whole number between the two */
export function whole(name: string, text: string | undefined, { least, most }: { least: number; most: number }): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && number <= most) return number
  throw new BadQuery(`${name}: ${JSON.stringify(text.slice(0, 40))} is not a whole number from ${least} to ${most}`)
}
