/** Reads what operators send to change something: a form of ours, or JSON of a program. */
import type { Context, Middleware } from 'koa'
import { ActionRefused, type ActionRequest } from '../../operators/action.ts'
import { mediaType, readBodyAs } from '../body.ts'
import { Refusal } from '../refusal.ts'
import { html } from './html.ts'
import { HOME, page, wantsHtml } from './layout.ts'

/** An edited message of 1 MiB, with each byte percent-encoded, and the other fields. */
const MOST_KB = 3 * 1024 + 64

const readForm = readBodyAs('form', MOST_KB)
const readJson = readBodyAs('json', MOST_KB)

/** The fields of a form or of a JSON object. A field of a form that comes twice has several values. */
export type Fields = Record<string, unknown>

/** @throws Refusal 400, 413, 415 or 422, quoting nothing of the body */
export async function readFields(ctx: Context): Promise<Fields> {
  const type = mediaType(ctx)
  if (type === 'application/json') {
    await readJson(ctx, async () => {})
    const { body } = ctx.request
    if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new Refusal(422, 'The body must be a JSON object')
    return body as Fields
  }
  if (type !== '' && type !== 'application/x-www-form-urlencoded') throw new Refusal(415, 'Send a form, or application/json')
  await readForm(ctx, async () => {}).catch((error: unknown) => {
    throw new Refusal(error instanceof Refusal && error.status === 413 ? 413 : 400, 'The form cannot be read')
  })
  const fields: Fields = {}
  const values = Map.groupBy(new URLSearchParams((ctx.request.rawBody as string | undefined) ?? ''), ([name]) => name)
  for (const [name, pairs] of values) {
    const value = pairs.length === 1 ? pairs[0]![1] : pairs.map(([, one]) => one)
    Object.defineProperty(fields, name, { value, enumerable: true, writable: true, configurable: true }) // a field may be called `__proto__`
  }
  return fields
}

/** A field with one text; '' where it is missing. @throws Refusal 422 */
export function textField(fields: Fields, name: string): string {
  const value = Object.hasOwn(fields, name) ? fields[name] : undefined
  if (value === undefined || value === null) return ''
  if (typeof value !== 'string') throw new Refusal(422, `${name} must be one text`)
  return value
}

/** Who acts: for the record, and for the log. */
export const operatorOf = (ctx: Context): Pick<ActionRequest, 'operator' | 'loggedAs'> => ({
  operator: ctx.state.email as string,
  loggedAs: ctx.state.operator as string,
})

export const actionPath = (id: number): string => `${HOME}/actions/${id}`

/** Answers actions that are refused, with a link to the action that runs already. */
export const refusedActions: Middleware = async (ctx, next) => {
  try {
    await next()
  } catch (error) {
    if (!(error instanceof ActionRefused)) throw error
    const { code, message, runs } = error
    if (!runs || !wantsHtml(ctx)) throw new Refusal(code, message, runs && { fields: { runs: actionPath(runs.id) } })
    page(ctx, code, 'This action runs already', html`<p>${message}.</p><p><a href="${actionPath(runs.id)}">See action ${runs.id}</a></p>`)
  }
}
