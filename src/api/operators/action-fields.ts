/** An action as a URL, a form or a JSON body asks for it. */
import { isCause, type ServiceName, services } from '../../causes.ts'
import type { Selection } from '../../operators/action.ts'
import { isVerb } from '../../operators/check-action.ts'
import { Refusal } from '../refusal.ts'
import { type Fields, textField } from './request-fields.ts'

/** @throws Refusal 422 */
export function verbOf(fields: Fields) {
  const verb = textField(fields, 'verb')
  if (!isVerb(verb)) throw new Refusal(422, 'There is no such action')
  return verb
}

function idOf(value: unknown): number {
  const id = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value
  if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 1)
    throw new Refusal(422, 'The id of an item must be a positive whole number')
  return id
}

/** @throws Refusal 422 */
export function selectionOf(fields: Fields): Selection {
  const items = [fields.item ?? [], fields.items ?? []].flat()
  const cause = textField(fields, 'cause')
  const queue = textField(fields, 'queue')
  if ([items.length > 0, cause !== '', queue !== ''].filter(Boolean).length > 1)
    throw new Refusal(422, 'Name items, a cause or a queue, and only one of them')
  if (queue !== '') return { queue }
  if (cause !== '') return { cause: causeOf(cause), service: serviceOf(textField(fields, 'service')) }
  if (items.length === 0) return {}
  const value = valueOf(fields)
  return { items: items.map(idOf), ...(value && { value }) }
}

function causeOf(text: string) {
  if (!isCause(text)) throw new Refusal(422, 'The list of causes has no such cause')
  return text
}

function serviceOf(text: string): ServiceName | null {
  if (text === '') return null
  const service = services.find((one) => one === text)
  if (!service) throw new Refusal(422, `service must be one of ${services.join(', ')}`)
  return service
}

/** The edited message: `text`, or its bytes as base64 in `value`. Browsers send each line end of a form as CRLF. */
export function valueOf(fields: Fields): Buffer | undefined {
  const base64 = textField(fields, 'value')
  if (base64 !== '') {
    if (!/^[\w+/]+={0,2}$/.test(base64)) throw new Refusal(422, 'value must be base64')
    return Buffer.from(base64, 'base64')
  }
  if (fields.text === undefined) return undefined
  const text = textField(fields, 'text')
  return Buffer.from(textField(fields, 'ends') === 'crlf' ? text : text.replaceAll('\r\n', '\n'))
}

/** @throws Refusal 422 */
export function rateOf(fields: Fields): number | undefined {
  const rate = fields.perSecond ?? ''
  if (rate === '') return undefined
  const number = Number(rate)
  if (!Number.isInteger(number)) throw new Refusal(422, 'perSecond must be a whole number')
  return number
}
