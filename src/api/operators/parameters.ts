/** Reads numbers in paths, and the parameters of a query. */
import type { Context } from 'koa'
import { MAX_INTEGER } from '../../model.ts'
import { whole } from '../../operators/order-query.ts'
import { Refusal } from '../refusal.ts'

/** A whole number of a query; undefined where it is none. */
export const numberOf = (value: unknown): number | undefined =>
  typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : undefined

/** The id in the path of an action or a dead letter. @throws Refusal 404 */
export function idOf(ctx: Context): number {
  const id = numberOf((ctx.params as { id?: string }).id)
  if (id === undefined) throw new Refusal(404, 'There is no such page')
  return id
}

/** @returns the id of an order or a product in a path. @throws Refusal 404 where it is none; BadQuery where it is out of range */
export function idInPath(what: string, text: string): number {
  if (!/^\d+$/.test(text)) throw new Refusal(404, `There is no ${what} ${JSON.stringify(text.slice(0, 40))}`)
  return whole(`The ${what}’s id`, text, { least: 0, most: MAX_INTEGER })!
}

/** The first value of each parameter. */
export function parameters(query: NodeJS.Dict<string | string[]>): Record<string, string> {
  const entries = Object.entries(query).flatMap(([name, value]) => {
    const first = Array.isArray(value) ? value[0] : value
    return first === undefined ? [] : [[name, first] as const]
  })
  return Object.fromEntries(entries)
}
